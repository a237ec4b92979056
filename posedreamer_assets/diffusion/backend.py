"""What all backends on diffusers' pipelines share: blocks of rows, per-row noise, devices, adapters."""

import copy
import gc
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_log
from jaxtyping import UInt8
from safetensors import SafetensorError
from transformers.utils import logging as transformers_log

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.diffusion.adapters import AdapterSlot
from posedreamer_assets.diffusion.lowering import lower, move
from posedreamer_assets.diffusion.memory import chosen_precision, chosen_rows, gpu_gb, parks_text
from posedreamer_assets.diffusion.remembered import remember_rows, remembered_rows
from posedreamer_assets.diffusion.speed import compile_blocks, leaving_out_steps, set_attention
from posedreamer_assets.digests import digest, file_digest, folder_digest
from posedreamer_assets.errors import BackendError
from posedreamer_assets.progress import advance
from posedreamer_assets.training.precision import cpu_multiplies_bfloat16

CAPTIONS_TOGETHER = 256  # that are embedded before the text encoders step aside: 1 MB each of T5

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


Kind = TypeVar("Kind", bound="PipelineGenerator")


class PipelineGenerator(ABC):
    """A diffusers pipeline as a `Generator`.

    Rows are run in blocks of one size, the last one filled up with copies of its last row, so that every row meets the
    same matrix shapes whatever the number of rows. On a CPU the block is a single row: larger ones are not faster, and
    a row's bits then depend on that row alone. Where a backend allows it, each core of a CPU paints rows of its own:
    two cores are then 1.8 times as fast as one, and 1.3 times where both work on the same row. Where a GPU's memory ends, the
    rows that are not painted yet are, in blocks of half the size, which are remembered for the next time.

    A backend that names its `text_parts` can embed the captions of many rows before it paints them, with the networks of
    `painting_parts` aside meanwhile, and the text encoders afterwards (`parks`).
    """

    text_parts: ClassVar[tuple[str, ...]] = ()  # the pipeline's networks that embed captions
    painting_parts: ClassVar[tuple[str, ...]] = ()  # those that paint and can make room for them
    parks: bool = False
    rows_in_parallel: ClassVar[bool] = False  # whether several threads may use the pipeline's networks at a time

    def __init__(self, pipeline: DiffusionPipeline, cfg: GeneratorConfig, image: ImageConfig, weights: str) -> None:
        self.pipeline: Any = pipeline
        self.cfg, self.image = cfg, image
        self.device = resolve_device(cfg.device)
        if cfg.loras:
            merged = [[weights_digest(lora.path), lora.weight, lora.revision] for lora in cfg.loras]
            weights = digest([weights, merged])
        self._digest = weights if cfg.precision == "bf16" else digest([weights, cfg.precision])
        self._at_work: tuple[str, ...] = ()
        self.pipeline.set_progress_bar_config(disable=True)
        self.adapter = AdapterSlot(self.pipeline, self.network_name, bakes=cfg.bake is True and cfg.precision == "bf16")

    @property
    @abstractmethod
    def network_name(self) -> str:
        """The pipeline's denoising network: `transformer` or `unet`."""

    @property
    def name(self) -> str:
        """Backend and model, with the precision and the cache that change its images, for people."""
        precision = "" if self.cfg.precision == "bf16" else f"@{self.cfg.precision}"
        precision += "" if self.cfg.cache_interval is None else f"@{self.cfg.cache}"
        return f"{self.cfg.backend}:{Path(self.cfg.model_path).name if self.cfg.model_path else 'shipped'}{precision}"

    @property
    def digest(self) -> str:
        """Digest of the weights, those of merged LoRAs among them, and of the precision that they were lowered to."""
        return self._digest

    @property
    def block_size(self) -> int:
        """Rows that go through the pipeline together."""
        return 1 if self.device.type == "cpu" else self.cfg.block

    @property
    def network(self) -> torch.nn.Module:
        """The denoising network."""
        return getattr(self.pipeline, self.network_name)

    @classmethod
    def ready(cls: type[Kind], pipeline: Any, cfg: GeneratorConfig, image: ImageConfig) -> Kind:
        """These networks on their device, for painting."""
        parks = prepare(pipeline, cls, cls.painting_parts, cfg, image)
        generator = cls(pipeline, cfg, image, weights_digest(cfg.model_path, cfg.control_lora_path, cfg.revision))
        generator.parks = parks
        return generator

    @abstractmethod
    def run_block(
        self,
        pipeline: Any,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        noise: list[torch.Generator],
        control_strength: float,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Images of one block of rows, by this pipeline or a copy of it."""

    def run_pipeline(self, pipeline: Any, noise: list[torch.Generator], **inputs: Any) -> UInt8[np.ndarray, "n h w 3"]:
        """Images of a block at the profile's size and number of steps; what else the pipeline is given is the backend's."""
        images = pipeline(
            **inputs,
            height=self.image.height,
            width=self.image.width,
            num_inference_steps=self.cfg.steps,
            generator=noise,
            output_type="pt",
        ).images
        return images.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def generate(
        self,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        seeds: list[int],
        *,
        adapter_path: Path | None = None,
        control_strength: float = 1.0,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """See `Generator.generate`.

        Raises:
            BackendError: as there, or a GPU whose memory is too small for a single image.
        """
        self._check(controls, captions, seeds)
        images, done = np.empty_like(controls), 0
        while done < len(controls):
            rest = controls[done:], captions[done:], seeds[done:]
            try:
                for some in self._paint(*rest, adapter_path, control_strength):
                    images[done : done + len(some)] = some
                    done += len(some)
                    advance(len(some))
            except torch.OutOfMemoryError as error:
                self._halve(error)
        return images

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Half as many rows together from now on, and the memory of those that did not fit back.

        Raises:
            BackendError: there was a single one.
        """
        rows, first = self.block_size, str(error).partition("\n")[0]
        if rows == 1:
            others = "generator.memory=park_text, a generator.precision of fewer bits or smaller images"
            raise BackendError(
                f"the GPU's memory is too small for a single image ({first}): set {others}, or free the GPU of other programs"
            ) from error
        error.__traceback__ = None  # its frames hold what did not fit
        self.cfg = replace(self.cfg, batch_size=rows // 2)
        remember_rows(self.cfg, self.image, self.device, rows // 2)
        logging.getLogger(__name__).warning(
            "%s: the GPU's memory is too small for %d images together, %d from now on: %s",
            self.name,
            rows,
            rows // 2,
            first,
        )
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _paint(
        self,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        seeds: list[int],
        adapter_path: Path | None,
        control_strength: float,
    ) -> Iterator[UInt8[np.ndarray, "rows h w 3"]]:
        """Images of the rows, block by block; where text encoders are parked, after the captions of some hundred rows."""
        if not self.parks:
            yield from self._paint_blocks(controls, captions, seeds, adapter_path, control_strength)
            return
        many = max(CAPTIONS_TOGETHER // self.block_size, 1) * self.block_size  # blocks are those of all rows together
        for first in range(0, len(controls), many):
            rows = slice(first, first + many)
            self.need(self.text_parts)
            self.embed_ahead(captions[rows])
            self.need(self.painting_parts)
            try:
                yield from self._paint_blocks(
                    controls[rows], captions[rows], seeds[rows], adapter_path, control_strength
                )
            finally:
                self.forget_embedded()

    def embed_ahead(self, captions: Sequence[str]) -> None:
        """Keep the embeddings of these captions, which the next rows have; of a backend that parks."""
        raise NotImplementedError

    def forget_embedded(self) -> None:
        """Drop what `embed_ahead` kept."""
        raise NotImplementedError

    def need(self, parts: tuple[str, ...]) -> None:
        """Where the text encoders are parked: have these networks on the device, and the others aside.

        `parts`: `text_parts` or `painting_parts`.
        """
        if self.parks and (self._at_work != parts or any(self._type_of(part) != self.device.type for part in parts)):
            aside = self.painting_parts if parts == self.text_parts else self.text_parts
            self._place(aside=aside, at_work=parts)
            self._at_work = parts

    def _type_of(self, part: str) -> str:
        return next(getattr(self.pipeline, part).parameters()).device.type

    def _place(self, aside: tuple[str, ...], at_work: tuple[str, ...]) -> None:
        """Move networks off the device and then others onto it."""
        for names, device in ((aside, torch.device("cpu")), (at_work, self.device)):
            for name in names:
                move(getattr(self.pipeline, name), device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def block_rows(self, first: int, count: int) -> list[int]:
        """Rows of the block that begins with row `first` of so many, filled up with the last one."""
        return [min(first + i, count - 1) for i in range(self.block_size)]

    def _paint_blocks(
        self,
        controls: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        seeds: list[int],
        adapter_path: Path | None,
        control_strength: float,
    ) -> Iterator[UInt8[np.ndarray, "rows h w 3"]]:
        self.adapter.use(adapter_path)
        blocks = range(0, len(controls), self.block_size)

        own = threading.local()

        def take_pipeline() -> None:
            # The networks are shared; the scheduler counts steps, which two threads may not do with one.
            own.pipeline = copy.copy(self.pipeline)
            own.pipeline.scheduler = copy.deepcopy(self.pipeline.scheduler)

        @torch.no_grad()
        def paint(first: int) -> np.ndarray:
            rows = self.block_rows(first, len(controls))
            noise = [torch.Generator().manual_seed(seeds[r]) for r in rows]
            with leaving_out_steps(self.network, self.cfg.cache_interval):
                return self.run_block(
                    own.pipeline, controls[rows], [captions[r] for r in rows], noise, control_strength
                )

        cores = cores_of(self.device) if self.rows_in_parallel else 1
        for first, painted in zip(blocks, map_on_cores(paint, blocks, cores, take_pipeline), strict=True):
            yield painted[: len(controls) - first]

    def _check(self, controls: np.ndarray, captions: list[str], seeds: list[int]) -> None:
        if not len(controls) == len(captions) == len(seeds):
            raise BackendError(f"{len(controls)} control images, {len(captions)} captions and {len(seeds)} seeds")
        size = (self.image.height, self.image.width, 3)
        if controls.dtype != np.uint8 or controls.shape[1:] != size:
            raise BackendError(
                f"control images: expected uint8 (n, {str(size)[1:]}, found {controls.dtype} {controls.shape}"
            )


def settled(cfg: GeneratorConfig, image: ImageConfig) -> GeneratorConfig:
    """With what `auto` is on this device: the precision that its memory has room for, bf16 without a GPU; and with blocks of
    no more images than have fitted before."""
    device = resolve_device(cfg.device)
    room_gb = gpu_gb() if device.type == "cuda" else None
    cfg = replace(cfg, precision=chosen_precision(cfg, image, room_gb))
    fitted = remembered_rows(cfg, image, device) if device.type == "cuda" else None
    rows = chosen_rows(cfg, image, room_gb)
    return replace(cfg, batch_size=min(rows, fitted or rows))


def prepare(
    pipeline: Any, kind: type[PipelineGenerator], painting: Sequence[str], cfg: GeneratorConfig, image: ImageConfig
) -> bool:
    """Make a loaded pipeline ready for painting: its networks named in `painting` in their precision, everything frozen and
    on the device but what is parked, with the configured attention, and compiled.

    Returns:
        whether the text encoders are parked, `generator.parks`.

    Raises:
        BackendError: a library that precision or attention need is not installed.
    """
    device = resolve_device(cfg.device)
    networks = [getattr(pipeline, name) for name in painting]
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    lower(networks, cfg.precision, resolve_dtype(cfg.dtype, device), device)
    parks = bool(kind.text_parts) and parks_text(cfg, image, gpu_gb() if device.type == "cuda" else None)
    later = {*kind.text_parts, *kind.painting_parts} if parks else set()
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and name not in later:
            move(part, device)
    pipeline.vae.enable_slicing()  # one image of a block after another
    set_attention(networks, cfg.attention)
    if cfg.compile:
        compile_blocks(networks)
    return parks


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU.

    Raises:
        BackendError: a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"generator.device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype of a configured name; `auto` is bfloat16 where the device multiplies in it, else float32.

    Raises:
        BackendError: another name than auto, float32, bfloat16 or float16.
    """
    if name == "auto":
        return torch.bfloat16 if device.type != "cpu" or cpu_multiplies_bfloat16() else torch.float32
    if name not in DTYPES:
        raise BackendError(f"generator.dtype: expected one of auto, {', '.join(DTYPES)}, found {name!r}")
    return DTYPES[name]


def weights_digest(*sources: str | Path | None) -> str:
    """Digest of local files and folders by content, and of names and revisions on a model hub as they are."""
    return digest([None if source is None else _source_digest(str(source)) for source in sources])


def _source_digest(source: str) -> str:
    path = Path(source).expanduser()
    if path.is_dir():
        return folder_digest(path)
    return file_digest(path) if path.is_file() else source


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn what diffusers, transformers and safetensors raise about bad weights into a BackendError naming them.

    Their own progress bars are off meanwhile: progress is shown by the sink of `progress.watching` alone.
    """
    try:
        diffusers_log.disable_progress_bar()
        transformers_log.disable_progress_bar()
        yield
    except (OSError, ValueError, LookupError, AttributeError, RuntimeError, TypeError, SafetensorError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise BackendError(f"{what} could not be loaded: {type(error).__name__}: {first_line}") from error
    finally:
        diffusers_log.enable_progress_bar()
        transformers_log.enable_progress_bar()
