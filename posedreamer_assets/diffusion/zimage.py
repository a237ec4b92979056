"""Z-Image-Turbo with a union ControlNet, through diffusers' `ZImageControlNetPipeline`: open weights, a few steps an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import ZImageControlNetModel, ZImageControlNetPipeline
from huggingface_hub import hf_hub_download
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import (
    PipelineGenerator,
    loading,
    prepare,
    resolve_device,
    resolve_dtype,
    settled,
    weights_digest,
)
from posedreamer_assets.diffusion.loras import merge_loras
from posedreamer_assets.diffusion.pixels import to_signed
from posedreamer_assets.errors import BackendError
from posedreamer_assets.hub import file_of_model

# Layers of the transformer that a ControlNet of so many layers adds to, which its file does not say.
PLACES = {15: list(range(0, 30, 2)), 6: list(range(0, 30, 5))}


class ZImageGenerator(PipelineGenerator):
    """Z-Image-Turbo and a ControlNet of the Fun-ControlNet-Union family.

    `model_path` names Z-Image-Turbo; `control_lora_path` the ControlNet: a file as it is published (on this computer, or
    `owner/model/file.safetensors` on the hub) or a folder in diffusers' layout. Turbo is distilled for guidance 0. Flow-DPO
    does not apply: this pipeline's captions have a length each, which `FlowModel` has no place for.
    """

    text_parts = ("text_encoder",)
    painting_parts = ("transformer", "controlnet")

    def __init__(self, pipeline: Any, cfg: GeneratorConfig, image: ImageConfig, weights: str) -> None:
        super().__init__(pipeline, cfg, image, weights)
        self._embedded: dict[str, Tensor] = {}

    @property
    def network_name(self) -> str:
        return "transformer"

    @classmethod
    def load(cls, cfg: GeneratorConfig, image: ImageConfig) -> "ZImageGenerator":
        """Load both models.

        Raises:
            BackendError: a path that is not given, weights that cannot be read or do not fit, or an image size that cannot
                be cut into tokens.
        """
        cfg = settled(cfg, image)
        if cfg.model_path is None or cfg.control_lora_path is None:
            raise BackendError(
                "the zimage backend needs generator.model_path (Z-Image-Turbo) and generator.control_lora_path (a ControlNet)"
            )
        dtype = resolve_dtype(cfg.dtype, resolve_device(cfg.device))
        control = load_controlnet(cfg.control_lora_path, dtype)
        with loading(cfg.model_path):
            pipeline = ZImageControlNetPipeline.from_pretrained(
                cfg.model_path, controlnet=control, revision=cfg.revision, dtype=dtype, use_safetensors=True
            )
        side = 2 * pipeline.vae_scale_factor
        if image.width % side or image.height % side:
            raise BackendError(f"image: {image.width} x {image.height} pixels; zimage paints multiples of {side}")
        merge_loras(pipeline, "transformer", cfg.loras)
        parks = prepare(pipeline, cls, cls.painting_parts, cfg, image)
        generator = cls(pipeline, cfg, image, weights_digest(cfg.model_path, cfg.control_lora_path, cfg.revision))
        generator.parks = parks
        return generator

    def embed_ahead(self, captions: Sequence[str]) -> None:
        """Each caption once, and the empty one that guidance moves away from."""
        guided = [""] if self.cfg.guidance > 0 else []
        for caption in dict.fromkeys([*captions, *guided]):
            self._embedded[caption] = self._embed(caption)

    def forget_embedded(self) -> None:
        self._embedded.clear()

    def encode_captions(self, captions: Sequence[str]) -> list[Float[Tensor, "_ d"]]:
        """Embeddings of each caption's own tokens; captions differ in their number."""
        return [self._embedded[caption] if caption in self._embedded else self._embed(caption) for caption in captions]

    @torch.no_grad()
    def _embed(self, caption: str) -> Float[Tensor, "_ d"]:
        """One caption at a time, so that its embedding is the same whichever others there are."""
        (embedded,), _ = self.pipeline.encode_prompt([caption], self.device, do_classifier_free_guidance=False)
        return embedded

    def run_block(
        self,
        pipeline: Any,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        noise: list[torch.Generator],
        control_strength: float,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        guided = self.cfg.guidance > 0
        images = pipeline(
            prompt_embeds=self.encode_captions(captions),
            negative_prompt_embeds=self.encode_captions([""] * len(captions)) if guided else None,
            control_image=to_signed(controls),  # tensors pass through the pipeline as they are, unlike pictures
            height=self.image.height,
            width=self.image.width,
            num_inference_steps=self.cfg.steps,
            guidance_scale=self.cfg.guidance,
            controlnet_conditioning_scale=control_strength * self.cfg.control_strength,
            generator=noise,
            output_type="pt",
        ).images
        return images.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def load_controlnet(path: str, dtype: torch.dtype) -> ZImageControlNetModel:
    """A ControlNet from a published file, whose sizes are read off its arrays, or from a folder in diffusers' layout.

    Raises:
        BackendError: it cannot be read, has another architecture, or is of release 2.0, whose weights are meant for a
            forward pass that the later ones do without.
    """
    on_hub = file_of_model(path)
    local = Path(path).expanduser()
    with loading(path):
        if on_hub is None and not local.is_file():
            return ZImageControlNetModel.from_pretrained(path, dtype=dtype, use_safetensors=True)
        file = str(local) if on_hub is None else hf_hub_download(*on_hub)
        state = load_file(file)
    config = controlnet_config(state, path)
    with loading(path):
        with torch.device("meta"):
            model = ZImageControlNetModel(**config)
        model.load_state_dict(state, assign=True)
        return cast(Any, model).to(dtype=dtype)  # diffusers wraps `to` so that its type is lost


def controlnet_config(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """The arguments of `ZImageControlNetModel` that these weights belong to.

    Raises:
        BackendError: weights of something else, of release 2.0, or of a number of layers whose places are not known.
    """
    embedder = state.get("control_all_x_embedder.2-1.weight")
    if embedder is None:
        raise BackendError(f"{where}: no ControlNet of Z-Image: it holds no control_all_x_embedder")
    layers = len({key.split(".")[1] for key in state if key.startswith("control_layers.")})
    if layers not in PLACES:
        raise BackendError(
            f"{where}: {layers} control layers, and the file does not say where they add to the transformer: give a folder "
            "in diffusers' layout, with a config.json"
        )
    refines = "control_noise_refiner.0.after_proj.weight" in state
    before = state.get("control_noise_refiner.0.before_proj.weight")
    if refines and (before is None or not before.any()):
        raise BackendError(f"{where}: a ControlNet of release 2.0: take 2.1")
    dim = embedder.shape[0]
    head = state["control_layers.0.attention.norm_q.weight"].shape[0]
    return {
        "control_layers_places": PLACES[layers],
        "control_refiner_layers_places": [0, 1] if refines else None,
        "control_in_dim": embedder.shape[1] // 4,  # of 2 x 2 latent pixels
        "add_control_noise_refiner": "control_noise_refiner" if refines else None,
        "dim": dim,
        "n_heads": dim // head,
        "n_kv_heads": state["control_layers.0.attention.to_k.weight"].shape[0] // head,
        "n_refiner_layers": len({key.split(".")[1] for key in state if key.startswith("control_noise_refiner.")}),
    }
