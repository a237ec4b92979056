"""FLUX.1 with a control LoRA, through diffusers' `FluxControlPipeline`."""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, FluxControlPipeline, FluxTransformer2DModel
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.adapters import bake
from posedreamer_assets.diffusion.backend import (
    PipelineGenerator,
    loading,
    resolve_device,
    resolve_dtype,
    settled,
)
from posedreamer_assets.diffusion.loras import merge_loras
from posedreamer_assets.diffusion.networks import image_ids, image_tokens
from posedreamer_assets.diffusion.pixels import to_signed
from posedreamer_assets.errors import BackendError

CONTROL_ADAPTER = "control"
MAX_CAPTION_TOKENS = 128
REMEMBERED_CONTROLS = 1024  # 64 KB each of the pocket generator, 130 KB of FLUX at 512 pixels

Kind = TypeVar("Kind", bound="FluxGenerator")


class FluxGenerator(PipelineGenerator):
    """A FLUX transformer that sees the control image's latents beside the noisy ones.

    `model_path` names FLUX.1-dev (a folder or a name on the hub) or a model whose transformer already takes control
    latents, such as FLUX.1-Depth-dev; `control_lora_path` names the control LoRA, which widens the input layer of
    FLUX.1-dev. It is computed beside the layers, or merged into them (`generator.bake`), as it must be before they are stored
    in fewer bits.
    """

    text_parts = ("text_encoder", "text_encoder_2")
    painting_parts = ("transformer",)

    def __init__(self, pipeline: Any, cfg: GeneratorConfig, image: ImageConfig, weights: str) -> None:
        super().__init__(pipeline, cfg, image, weights)
        self._controls: dict[bytes, Future[Tensor]] = {}
        self._embedded: dict[tuple[str, ...], tuple[Tensor, ...]] = {}
        self._lock = threading.Lock()

    @property
    def network_name(self) -> str:
        return "transformer"

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """The attention's projections of image tokens."""
        return ("to_q", "to_k", "to_v", "to_out.0")

    @property
    def transformer(self) -> FluxTransformer2DModel:
        """The denoising transformer."""
        return self.pipeline.transformer

    @property
    def vae(self) -> AutoencoderKL | AutoencoderTiny:
        """The autoencoder of images and control images."""
        return self.pipeline.vae

    @classmethod
    def load(cls: type[Kind], cfg: GeneratorConfig, image: ImageConfig) -> Kind:
        """Load the base model and its control LoRA.

        Raises:
            BackendError: no `model_path`, weights that cannot be read or do not fit, or a transformer that takes no
                control latents.
        """
        cfg = settled(cfg, image)
        pipeline = cls.read(cfg, image)
        if cfg.control_lora_path is not None:
            load_control_lora(pipeline, cfg.control_lora_path)
            if merges(cfg):
                bake(pipeline.transformer)
        expected = 2 * 4 * pipeline.vae.config["latent_channels"]
        # Widening the input layer sets the attribute and leaves the item as it was.
        found = pipeline.transformer.config.in_channels
        if found != expected:
            raise BackendError(
                f"{cfg.model_path}: the transformer takes {found} channels, {expected} are needed to see a control "
                "image: give generator.control_lora_path"
            )
        return cls.ready(pipeline, cfg, image)

    @classmethod
    def load_base(cls: type[Kind], cfg: GeneratorConfig, image: ImageConfig) -> Kind:
        """Load a model that sees no control image, and widen its input layer by channels that count nothing yet: what a
        control LoRA is trained on.

        Raises:
            BackendError: as `load`, a transformer that takes control latents already, or weights in fewer bits.
        """
        if cfg.precision != "bf16":
            raise BackendError(f"generator.precision {cfg.precision}: a control LoRA is trained with weights in bf16")
        pipeline = cls.read(cfg, image)
        expected, found = 4 * pipeline.vae.config["latent_channels"], pipeline.transformer.config.in_channels
        if found != expected:
            raise BackendError(
                f"{cfg.model_path or 'the shipped generator'}: the transformer takes {found} channels; a control LoRA is trained "
                f"on one of {expected}, which sees no control image yet: generator.model_path names it"
            )
        widen(pipeline.transformer)
        return cls.ready(pipeline, cfg, image)

    @classmethod
    def read(cls, cfg: GeneratorConfig, image: ImageConfig) -> FluxControlPipeline:
        """The networks, with the LoRAs that belong to the base and without a control LoRA.

        Raises:
            BackendError: no `model_path`, or weights that cannot be read or do not fit.
        """
        del image
        if cfg.model_path is None:
            raise BackendError(
                "generator.model_path: the flux backend needs a model, e.g. black-forest-labs/FLUX.1-dev"
            )
        with loading(cfg.model_path):
            pipeline = FluxControlPipeline.from_pretrained(
                cfg.model_path,
                revision=cfg.revision,
                dtype=resolve_dtype(cfg.dtype, resolve_device(cfg.device)),
                use_safetensors=True,
            )
        merge_loras(pipeline, "transformer", cfg.loras)  # before a control LoRA widens it
        return pipeline

    def run_block(
        self,
        pipeline: Any,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        noise: list[torch.Generator],
        control_strength: float,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        hidden, pooled = self._embeddings(captions)
        self.need(self.painting_parts)
        return self.run_pipeline(
            pipeline,
            noise,
            prompt_embeds=hidden,
            pooled_prompt_embeds=pooled,
            # Packed latents pass through the pipeline as they are: no sampling of the posterior, and the very latents that
            # Flow-DPO trains on.
            control_image=self.encode_controls(controls, control_strength).to(hidden.dtype),
            guidance_scale=self.cfg.guidance,
        )

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of tokens that the transformer sees of an image."""
        side = 2 * self.pipeline.vae_scale_factor
        return self.image.height // side, self.image.width // side

    def embed_ahead(self, captions: Sequence[str]) -> None:
        """Block by block, so that the bits are those of text encoders that stay; kept in the CPU's memory."""
        for first in range(0, len(captions), self.block_size):
            together = [captions[row] for row in self.block_rows(first, len(captions))]
            if tuple(together) not in self._embedded:
                self._embedded[tuple(together)] = tuple(part.cpu() for part in self.encode_captions(together))

    def forget_embedded(self) -> None:
        self._embedded.clear()

    def _embeddings(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        if (kept := self._embedded.get(tuple(captions))) is None:
            return self.encode_captions(captions)
        hidden, pooled = (part.to(self.device) for part in kept)
        return hidden, pooled

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n tokens d"], Float[Tensor, "n e"]]:
        """Token embeddings and pooled embeddings of captions."""
        self.need(self.text_parts)
        hidden, pooled, _ = self.pipeline.encode_prompt(
            prompt=list(captions), prompt_2=None, device=self.device, max_sequence_length=MAX_CAPTION_TOKENS
        )
        return hidden, pooled

    @torch.no_grad()
    def encode_image(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "tokens c"]:
        """Packed, normalised latents of one image: the mode of the posterior, as the transformer sees them."""
        return image_tokens(self.vae, to_signed(image[None]).to(self.device, self.vae.dtype))

    def encode_controls(
        self, controls: UInt8[np.ndarray, "n h w 3"], strength: float = 1.0
    ) -> Float[Tensor, "n tokens c"]:
        """Packed latents of control images, on the line from a black image's (strength 0) through their own (1).

        The profile's `generator.control_strength` multiplies the strength, so that Flow-DPO trains on what is painted with.
        """
        strength = strength * self.cfg.control_strength
        latents = torch.stack([self._encode_control(image) for image in controls])
        if strength == 1.0:
            return latents
        return torch.lerp(self._encode_control(np.zeros_like(controls[0])), latents, strength)

    def _encode_control(self, control: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "tokens c"]:
        """`encode_image`, of a control image that was seen before from memory: candidates and draws of a pose share it."""
        key = hashlib.blake2b(np.ascontiguousarray(control).data, digest_size=16).digest()
        with self._lock:  # several cores paint at a time, and one of them encodes
            latents = self._controls.get(key)
            is_new = latents is None
            if latents is None:
                if len(self._controls) >= REMEMBERED_CONTROLS:
                    del self._controls[next(iter(self._controls))]  # the oldest
                latents = self._controls[key] = Future()
        if is_new:
            try:
                latents.set_result(self.encode_image(control))
            except BaseException as error:
                with self._lock:
                    self._controls.pop(key, None)
                latents.set_exception(error)
                raise
        return latents.result()

    def velocity(
        self,
        tokens: Float[Tensor, "n tokens c"],
        controls: Float[Tensor, "n tokens c"],
        captions: tuple[Float[Tensor, "n ..."], ...],
        sigma: Float[Tensor, "n"],
        shown: Int[np.ndarray, "tokens"] | None = None,
    ) -> Float[Tensor, "n tokens c"]:
        """The transformer's velocity for noisy tokens at noise level sigma in [0, 1].

        `captions`: token embeddings (n, words, d) and pooled embeddings (n, e); `shown`: the indices of the tokens where
        they are of a part of the image only.
        """
        self.need(self.painting_parts)
        hidden, pooled = captions
        rows, columns = self.token_grid
        ids = image_ids(2 * rows, 2 * columns)
        if shown is not None:
            ids = ids[shown]
        guidance = None
        if self.transformer.config["guidance_embeds"]:
            guidance = torch.full((len(tokens),), self.cfg.guidance, device=tokens.device)
        return self.transformer(
            hidden_states=torch.cat([tokens, controls], dim=2).to(self.transformer.dtype),
            timestep=sigma,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=hidden,
            txt_ids=torch.zeros(hidden.shape[1], 3, device=tokens.device),
            img_ids=ids.to(tokens.device),
        ).sample


def load_control_lora(pipeline: FluxControlPipeline, path: str) -> None:
    """Add the control LoRA; diffusers widens the input layer where the LoRA is wider than the model.

    Raises:
        BackendError: no safetensors file there, or weights that do not fit.
    """
    local = Path(path).expanduser()
    with loading(path):
        if local.is_file():
            pipeline.load_lora_weights(str(local.parent), weight_name=local.name, adapter_name=CONTROL_ADAPTER)
        else:
            pipeline.load_lora_weights(path, adapter_name=CONTROL_ADAPTER, use_safetensors=True)
    if CONTROL_ADAPTER not in getattr(pipeline.transformer, "peft_config", {}):
        raise BackendError(f"{path}: holds no LoRA of the transformer")


def merges(cfg: GeneratorConfig) -> bool:
    """Whether a control LoRA is merged into the weights."""
    return cfg.bake is True or cfg.precision != "bf16"


def widen(transformer: FluxTransformer2DModel) -> None:
    """Let the input layer take as many channels again, with weights of zero, as a control LoRA does when it is loaded."""
    narrow = transformer.x_embedder
    layer = torch.nn.Linear(
        2 * narrow.in_features, narrow.out_features, bias=True, device=narrow.weight.device, dtype=narrow.weight.dtype
    )
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, : narrow.in_features].copy_(narrow.weight)
        layer.bias.copy_(narrow.bias)
    transformer.x_embedder = layer
    transformer.register_to_config(in_channels=layer.in_features)


def freeze(pipeline: FluxControlPipeline) -> None:
    """Evaluation mode and no gradients, for every network of a pipeline."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
