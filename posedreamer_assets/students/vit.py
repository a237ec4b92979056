"""Students that see images: a vision transformer as ViTPose has it, and a decoder as HMR2.0's that asks it about one person.

The decoder is one learnt token that looks at the backbone's tokens in each of its layers; from what it has seen at the end,
the numbers of `predicted_of` are read. HMR2.0's token also looks at itself, which is a linear map and is left out, and is
refined from a mean pose, which the bias of the last layer is here.
"""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from transformers import VitPoseBackbone, VitPoseBackboneConfig, VitPoseForPoseEstimation

from posedreamer_assets.errors import StudentError
from posedreamer_assets.hub import model_folder
from posedreamer_assets.scoring.networks import normalise
from posedreamer_assets.scoring.weights import folder_digest
from posedreamer_assets.students.archs import ARCHS, RANDOM, Size
from posedreamer_assets.students.augment import Augmentation
from posedreamer_assets.students.networks import OUTPUTS, Predicted, predicted_of, upright
from posedreamer_assets.students.person_pictures import Pictures
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.training.precision import autocast

_BLOCK = 32  # images at a time


class ViTStudent(nn.Module):
    """A backbone and its decoder.

    Args:
        arch: a name of `ARCHS`.
        image_size: height and width of its images, pixels.
        train_backbone: whether gradients reach the backbone; else it stays as it is.
        precision: of products, see `training/precision.py`; what the numbers mean is computed in float32.
    """

    def __init__(
        self, arch: str, image_size: tuple[int, int], *, train_backbone: bool = True, precision: str = "float32"
    ) -> None:
        super().__init__()
        size = ARCHS[arch]
        self.backbone = VitPoseBackbone(config_of(size, image_size)).requires_grad_(train_backbone)
        self.decoder = Decoder(size)
        self.train_backbone, self.precision = train_backbone, precision

    def forward(self, images: UInt8[Tensor, "n h w 3"], focal_px: Float[Tensor, "n"], width_px: int) -> Predicted:
        """Parameters of the person in each crop, in the frame of the crop's camera; focal lengths are the crops'."""
        pixels = normalise(images.permute(0, 3, 1, 2).float() / 255)
        with autocast(self.precision, images.device.type):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.train_backbone):
                tokens = self.backbone(pixels).feature_maps[-1]
            out = self.decoder(tokens)
        return predicted_of(out.float(), focal_px, width_px)


class Decoder(nn.Module):
    """A learnt token that looks at others, layer after layer, and what is read from it."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.decoder_width
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.layers = nn.ModuleList(
            DecoderLayer(width, size.decoder_heads, size.width) for _ in range(size.decoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.read = upright(nn.Linear(width, OUTPUTS))

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n outputs"]:
        token = self.token.expand(len(tokens), -1, -1)
        for layer in self.layers:
            token = layer(token, tokens)
        return self.read(self.norm(token[:, 0]))


class DecoderLayer(nn.Module):
    """Looking at the tokens, and a perceptron, each beside the identity and after a norm."""

    def __init__(self, width: int, heads: int, of_tokens: int) -> None:
        super().__init__()
        self.norm_look, self.norm_think = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = nn.MultiheadAttention(width, heads, kdim=of_tokens, vdim=of_tokens, batch_first=True)
        self.think = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, token: Float[Tensor, "n 1 d"], tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n 1 d"]:
        token = token + self.look(self.norm_look(token), tokens, tokens, need_weights=False)[0]
        return token + self.think(self.norm_think(token))


def config_of(size: Size, image_size: tuple[int, int]) -> VitPoseBackboneConfig:
    """Of a plain backbone, whose last layer is read."""
    return VitPoseBackboneConfig(
        image_size=list(image_size),
        patch_size=[size.patch, size.patch],
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        out_indices=[size.depth],  # pyright: ignore[reportCallIssue]
    )


def backbone_state(arch: str, image_size: tuple[int, int], init: str, revision: str | None) -> dict[str, Tensor] | None:
    """Weights that a backbone starts from; None where it starts from random ones.

    Of a ViTPose++ checkpoint, whose layers end in an expert for each data set, the expert for COCO's is taken: a plain
    backbone with the very same features.

    Args:
        arch: a name of `ARCHS`.
        image_size: height and width, pixels.
        init: `random`, or a ViTPose checkpoint of transformers: a folder, or `owner/model` on the hub.
        revision: commit or tag on the hub.

    Raises:
        StudentError: there is none, or it is of another size.
    """
    if init == RANDOM:
        return None
    folder = model_folder(init, revision, StudentError)
    loaded = _load(folder)
    found, wanted = loaded.config, config_of(ARCHS[arch], image_size)
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "mlp_ratio"):
        has, asked = getattr(found, name), getattr(wanted, name)
        if (list(has) if isinstance(has, tuple) else has) != asked:
            raise StudentError(f"{init}: {name} is {has}, and {asked} in arch {arch}: name another init or arch")
    state = loaded.state_dict()
    plain = {}
    for name, value in state.items():
        if ".experts." in name:
            continue
        if found.num_experts > 1 and ".mlp.fc2." in name:
            value = torch.cat([value, state[name.replace("fc2", "experts.0")]])
        plain[name] = value.detach().clone()
    return plain


def _load(folder: Path) -> VitPoseBackbone:
    """The backbone of a checkpoint, with heatmaps or without."""
    try:
        alone = json.loads((folder / "config.json").read_text()).get("model_type") == "vitpose_backbone"
        kind = VitPoseBackbone if alone else VitPoseForPoseEstimation
        network, info = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )  # pyright: ignore[reportGeneralTypeIssues]
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise StudentError(f"{folder}: not a ViTPose checkpoint: {str(error).splitlines()[0]}") from error
    # transformers fills missing weights with random ones and only warns.
    unfit = sorted(str(k) for name in ("missing_keys", "mismatched_keys") for k in info[name])
    if unfit:
        raise StudentError(f"{folder}: not a ViTPose checkpoint: no fitting weight for {unfit[0]}")
    return network if alone else network.backbone


def init_digest(init: str, revision: str | None) -> str:
    """Of the weights that a backbone starts from.

    Raises:
        StudentError: there are none.
    """
    if init == RANDOM:
        return RANDOM
    folder = model_folder(init, revision, StudentError)
    return folder_digest(folder / "config.json", *sorted(folder.glob("*.safetensors")))


def student_of(weights: bytes, arch: str, image_size: tuple[int, int]) -> ViTStudent:
    """A trained student from its weights, ready to predict.

    Raises:
        StudentError: these are not weights of such a student.
    """
    student = ViTStudent(arch, image_size, train_backbone=False)
    try:
        student.load_state_dict({name: value.float() for name, value in load(weights).items()})
    except (SafetensorError, RuntimeError) as error:
        raise StudentError(f"not weights of a {arch} student: {str(error).splitlines()[0]}") from error
    return student.eval()


def predict_pictures(student: ViTStudent, pictures: Pictures) -> Predictions:
    """Parameters of the person in each picture as it is, before the camera of its crop.

    Blocks have one size, so that sums round the same way in any of them.
    """
    device, width = next(student.parameters()).device, pictures.size[1]
    found: list[tuple[np.ndarray, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), _BLOCK):
            numbers = range(start, min(start + _BLOCK, len(pictures)))
            images = np.zeros((_BLOCK, *pictures.size, 3), np.uint8)
            images[: len(numbers)] = [pictures.seen(number, Augmentation()) for number in numbers]
            focal = torch.ones(_BLOCK)
            focal[: len(numbers)] = torch.from_numpy(pictures.labels.focal_px[numbers.start : numbers.stop])
            out = student(torch.from_numpy(images).to(device), focal.to(device), width)
            found.append(tuple(v[: len(numbers)].cpu().numpy() for v in (out.rotations, out.betas, out.pelvis_cam_m)))
    return Predictions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
