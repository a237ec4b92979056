"""Z-Image with a ControlNet, through diffusers' `ZImageControlNetPipeline`: open weights, of Turbo a few steps an image."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, ZImageControlNetModel, ZImageControlNetPipeline, ZImageTransformer2DModel
from huggingface_hub import hf_hub_download
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import (
    loading,
    resolve_device,
    resolve_dtype,
    settled,
)
from posedreamer_assets.diffusion.control_net import controlnet_of
from posedreamer_assets.diffusion.embedded import EmbedsEachCaption
from posedreamer_assets.diffusion.loras import merge_loras
from posedreamer_assets.diffusion.networks import image_tokens, pack_latents, unpack_latents
from posedreamer_assets.diffusion.pixels import to_signed
from posedreamer_assets.errors import BackendError
from posedreamer_assets.hub import file_of_model

# Layers of the transformer that a ControlNet of so many layers adds to, which its file does not say.
PLACES = {15: list(range(0, 30, 2)), 6: list(range(0, 30, 5))}


class ZImageGenerator(EmbedsEachCaption):
    """Z-Image-Turbo and a ControlNet of the Fun-ControlNet-Union family.

    `model_path` names Z-Image-Turbo; `control_lora_path` the ControlNet: a file as it is published (on this computer, or
    `owner/model/file.safetensors` on the hub) or a folder in diffusers' layout. Turbo is distilled for guidance 0. Flow-DPO
    does not apply: this pipeline's captions have a length each, which `FlowModel` has no place for.
    """

    painting_parts = ("transformer", "controlnet")

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
        control = load_controlnet(cfg.control_lora_path, resolve_dtype(cfg.dtype, resolve_device(cfg.device)))
        return cls.ready(cls.read(cfg, controlnet=control), cfg, image)

    @classmethod
    def load_base(cls, cfg: GeneratorConfig, image: ImageConfig) -> "ZImageGenerator":
        """Load Z-Image and what is trained beside it: the ControlNet that `control_lora_path` names, or, where it names none, one
        that changes nothing yet.

        Raises:
            BackendError: as `load`, no `model_path`, or weights in fewer bits.
        """
        if cfg.precision != "bf16":
            raise BackendError(f"generator.precision {cfg.precision}: a ControlNet is trained with weights in bf16")
        if cfg.model_path is None:
            raise BackendError("generator.model_path: the zimage backend needs a model, e.g. Tongyi-MAI/Z-Image-Turbo")
        dtype = resolve_dtype(cfg.dtype, resolve_device(cfg.device))
        if cfg.control_lora_path is not None:
            return cls.ready(cls.read(cfg, controlnet=load_controlnet(cfg.control_lora_path, dtype)), cfg, image)
        with loading(cfg.model_path):
            transformer = ZImageTransformer2DModel.from_pretrained(
                cfg.model_path, subfolder="transformer", revision=cfg.revision, dtype=dtype, use_safetensors=True
            )
        pipeline = cls.read(cfg, transformer=transformer, controlnet=controlnet_of(transformer))
        return cls.ready(pipeline, cfg, image)

    @classmethod
    def read(cls, cfg: GeneratorConfig, **networks: Any) -> ZImageControlNetPipeline:
        """The networks: these, and the others of `model_path`."""
        assert cfg.model_path is not None
        with loading(cfg.model_path):
            return ZImageControlNetPipeline.from_pretrained(
                cfg.model_path,
                revision=cfg.revision,
                dtype=resolve_dtype(cfg.dtype, resolve_device(cfg.device)),
                use_safetensors=True,
                **networks,
            )

    @classmethod
    def ready(cls, pipeline: ZImageControlNetPipeline, cfg: GeneratorConfig, image: ImageConfig) -> "ZImageGenerator":
        """These networks on their device, for painting.

        Raises:
            BackendError: an image size that cannot be cut into tokens.
        """
        side = 2 * pipeline.vae_scale_factor
        if image.width % side or image.height % side:
            raise BackendError(f"image: {image.width} x {image.height} pixels; zimage paints multiples of {side}")
        merge_loras(pipeline, "transformer", cfg.loras)
        return super().ready(pipeline, cfg, image)

    @property
    def controlnet(self) -> ZImageControlNetModel:
        """What is told of the control image; embedders and refiners of tokens are the transformer's own."""
        return self.pipeline.controlnet

    @property
    def vae(self) -> AutoencoderKL:
        """The autoencoder of images and control images."""
        return self.pipeline.vae

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of tokens that the transformer sees of an image."""
        side = 2 * self.pipeline.vae_scale_factor
        return self.image.height // side, self.image.width // side

    @torch.no_grad()
    def encode_image(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "tokens c"]:
        """Packed, normalised latents of one image: the mode of the posterior, as the transformer sees them."""
        return image_tokens(self.vae, to_signed(image[None]).to(self.device, self.vae.dtype))

    def encode_controls(self, controls: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n tokens c"]:
        """Packed latents of control images."""
        return torch.stack([self.encode_image(image) for image in controls])

    def velocity(
        self,
        tokens: Float[Tensor, "n tokens c"],
        controls: Float[Tensor, "n tokens c"],
        captions: tuple[Sequence[Float[Tensor, "_ d"]]],
        sigma: Float[Tensor, "n"],
    ) -> Float[Tensor, "n tokens c"]:
        """The velocity `noise - image` of noisy tokens at noise level sigma in [0, 1], with the control image at the profile's
        `generator.control_strength`.

        Z-Image itself counts time from noise to image and predicts `image - noise`. `captions`: of `encode_captions`.
        """
        self.need(self.painting_parts)
        transformer: Any = self.pipeline.transformer
        noisy, control = (self._latents(one).to(transformer.dtype) for one in (tokens, controls))
        more = self.controlnet.config["control_in_dim"] - control.shape[1]  # of union ControlNets, which may inpaint
        context = torch.nn.functional.pad(control, (0, 0) * 3 + (0, more))
        shown = (list(noisy.unbind(0)), 1 - sigma, list(captions[0]))
        # A ControlNet that is trained has weights in float32 between those of the base in `dtype`.
        mixed = next(self.controlnet.control_layers.parameters()).dtype != transformer.dtype
        with self.mixed_precision(transformer.dtype if mixed else None):
            hints = self.controlnet(*shown, list(context.unbind(0)), conditioning_scale=self.cfg.control_strength)
            hints = {layer: hint.to(transformer.dtype) for layer, hint in hints.items()}
            found = transformer(*shown, controlnet_block_samples=hints, return_dict=False)[0]
        return -pack_latents(torch.stack(found).squeeze(2))

    def mixed_precision(self, dtype: torch.dtype | None) -> AbstractContextManager[object]:
        """Within, products are computed in `dtype`; None is each in its weights' own."""
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def _latents(self, tokens: Float[Tensor, "n tokens c"]) -> Float[Tensor, "n c2 1 h w"]:
        rows, columns = self.token_grid
        return unpack_latents(tokens, 2 * rows, 2 * columns).unsqueeze(2)

    def encode_captions(self, captions: Sequence[str]) -> tuple[list[Float[Tensor, "_ d"]]]:
        """Embeddings of each caption's own tokens, for `velocity`; captions differ in their number."""
        if not all(caption in self._embedded for caption in captions):
            self.need(self.text_parts)
        return (self.embeddings(captions),)

    @property
    def away_from(self) -> str | None:
        return "" if self.cfg.guidance > 0 else None

    def _embed(self, caption: str) -> Float[Tensor, "_ d"]:
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
        return self.run_pipeline(
            pipeline,
            noise,
            prompt_embeds=self.embeddings(captions),
            negative_prompt_embeds=self.encode_away(len(captions)),
            control_image=to_signed(controls),  # tensors pass through the pipeline as they are, unlike pictures
            guidance_scale=self.cfg.guidance,
            controlnet_conditioning_scale=control_strength * self.cfg.control_strength,
        )


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
