"""The student: features, then stages that paint maps, each seeing those of the stage before (Cao et al., CVPR 2017, figure 3).

The pocket layout has the encoder-decoder of the pocket detectors in place of VGG, and small kernels: it is trained on a CPU.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from posedreamer_assets.config import Pose2dConfig, local_path
from posedreamer_assets.errors import StudentError
from posedreamer_assets.people2d.start import FILE, require_start
from posedreamer_assets.people2d.targets import FIELDS, HEATS, MAPS
from posedreamer_assets.scoring.networks import HeatmapNet, Residual, normalise

# The first ten layers of VGG19, P a pooling, and their numbers in torchvision's `features`.
_VGG: tuple[int | str, ...] = (64, 64, "P", 128, 128, "P", 256, 256, 256, 256, "P", 512, 512)
_VGG_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21)
STRIDE = {"pocket": 4, "vgg19": 8}  # pixels of a cell
_DRAWN = 0  # seed of the layers that VGG19 does not have
PADDED_TO = {"pocket": 32, "vgg19": 8}  # sides of images that a network takes


class PoseNet(nn.Module):
    """Images to maps, see `targets`: one tensor for each stage."""

    def __init__(self, cfg: Pose2dConfig) -> None:
        super().__init__()
        pocket = cfg.layout == "pocket"
        self.features = HeatmapNet(cfg.width, cfg.width) if pocket else _vgg_features()
        width = cfg.width if pocket else 128
        make = _pocket_stage if pocket else _openpose_stage
        self.stages = nn.ModuleList(make(width + (MAPS if k else 0), width, k) for k in range(cfg.stages))
        if pocket:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n 45 h2 w2"]]:
        """Maps of RGB images in 0..1, stage by stage; the last are those to use."""
        seen = self.features(normalise(images))
        found: list[Tensor] = []
        for stage in self.stages:
            found.append(stage(torch.cat([seen, found[-1]], 1) if found else seen))
        return found


class _Branches(nn.Module):
    """Heat maps and affinity fields from two branches of their own."""

    def __init__(self, heats: nn.Module, fields: nn.Module) -> None:
        super().__init__()
        self.heats, self.fields = heats, fields

    def forward(self, seen: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 45 h w"]:
        return torch.cat([self.heats(seen), self.fields(seen)], 1)


def _pocket_stage(channels: int, width: int, number: int) -> nn.Module:
    """Both kinds of maps from one small block: two branches cost twice as much."""
    first = [] if number == 0 else [nn.Conv2d(channels, 2 * width, 3, padding=1), nn.ReLU(), Residual(2 * width)]
    inner = channels if number == 0 else 2 * width
    head = nn.Conv2d(inner, MAPS, 1)
    assert head.bias is not None
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    nn.init.ones_(head.bias[HEATS - 1 : HEATS])  # nearly all cells are background
    return nn.Sequential(*first, head)


def _openpose_stage(channels: int, width: int, number: int) -> nn.Module:
    return _Branches(*(_openpose_branch(channels, width, number, maps) for maps in (HEATS, FIELDS)))


def _openpose_branch(channels: int, width: int, number: int, maps: int) -> nn.Module:
    """Three 3 x 3 convolutions in the first stage, five 7 x 7 in the others, then two of 1 x 1."""
    kernel, count, inner = (3, 3, 512) if number == 0 else (7, 5, width)
    layers: list[nn.Module] = []
    for k in range(count):
        layers += [nn.Conv2d(width if k else channels, width, kernel, padding=kernel // 2), _relu()]
    return nn.Sequential(*layers, nn.Conv2d(width, inner, 1), _relu(), nn.Conv2d(inner, maps, 1))


def _relu() -> nn.Module:
    """Behind a convolution, whose output nothing else needs: its memory, most of what a training takes, is used again."""
    return nn.ReLU(inplace=True)


def vgg_layers(widths: tuple[int | str, ...] = _VGG) -> list[nn.Module]:
    """Convolutions with ReLU, and poolings where the widths say P."""
    layers, before = [], 3
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), _relu()]
            before = width
    return layers


def _vgg_features() -> nn.Module:
    """The ten layers of VGG19, and the two that Cao et al. put behind them."""
    return nn.Sequential(
        *vgg_layers(), nn.Conv2d(512, 256, 3, padding=1), _relu(), nn.Conv2d(256, 128, 3, padding=1), _relu()
    )


def load_vgg19(layers: nn.Module, path: str) -> None:
    """Fill the first ten convolutions of a module from VGG19's weights, named as torchvision names them.

    Raises:
        StudentError: no such file, or one without these weights.
    """
    file = Path(path).expanduser()
    convolutions = [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)][: len(_VGG_NUMBERS)]
    try:
        given = load_file(file)
        with torch.no_grad():
            for layer, number in zip(convolutions, _VGG_NUMBERS, strict=True):
                assert layer.bias is not None
                layer.weight.copy_(given[f"features.{number}.weight"])
                layer.bias.copy_(given[f"features.{number}.bias"])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise StudentError(f"pose2d.vgg19: {file} does not hold VGG19's first layers: {error!r}") from error


def load_baseline(cfg: Pose2dConfig) -> dict[str, Tensor]:
    """Weights that every arm starts from, full precision: those of `cfg.baseline`, or VGG19's layers and others that are drawn.

    What is drawn is always the same.

    Raises:
        StudentError: no such weights, those of another layout or width, or none that are named.
    """
    require_start(cfg)
    if cfg.baseline is None:
        return _from_vgg19(cfg)
    file = local_path(cfg.baseline) / FILE
    try:
        weights = {k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()}
        PoseNet(cfg).load_state_dict(weights)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise StudentError(
            f"pose2d.baseline: {file} does not fit layout {cfg.layout}, width {cfg.width}, {cfg.stages} stages: "
            f"{_said(error)}"
        ) from error
    return weights


def _said(error: Exception) -> str:
    """The beginning of what PyTorch says of weights that do not fit, without its heading: names of some of them."""
    return " ".join(str(error).removeprefix("Error(s) in loading state_dict for PoseNet:").split())[:120]


def _from_vgg19(cfg: Pose2dConfig) -> dict[str, Tensor]:
    assert cfg.vgg19 is not None, "refused without"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_DRAWN)
        network = PoseNet(cfg)
    load_vgg19(network.features, cfg.vgg19)
    return network.state_dict()


def frozen_names(network: PoseNet, count: int) -> list[str]:
    """Names of the weights and statistics of the first `count` convolutions and of the batch norms behind them."""
    names: list[str] = []
    convolutions = 0
    for name, module in network.features.named_modules(prefix="features"):
        if isinstance(module, nn.Conv2d):
            convolutions += 1
        if convolutions > count:
            break
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            names += [f"{name}.{key}" for key in module.state_dict()]
    return names


def frozen_digest(weights: Mapping[str, Tensor], cfg: Pose2dConfig) -> str:
    """blake2b of the frozen convolutions and their statistics: equal before and after an arm that freezes them."""
    state = hashlib.blake2b(digest_size=16)
    for name in frozen_names(PoseNet(cfg), cfg.frozen):
        state.update(name.encode() + b"\0" + weights[name].detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
