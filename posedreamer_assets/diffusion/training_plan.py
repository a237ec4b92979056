"""What Flow-DPO takes of a GPU's memory, and whether it fits; networks are counted without weights, so nothing is loaded.

    network + adapter + activations + encoders + CUDA

The network in the generator's precision, as the plan for painting has it (`memory.py`); of the adapter its weights, their
gradient, that of a part, the optimizer's moments, and where it is the reference a copy of it; activations are what autograd keeps
of the forward pass (`counting.py`), with a control LoRA merged; text encoders and autoencoder only where `latent_cache` is false.
What a product needs while it is computed comes on top. No figure was compared with a GPU yet.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.memory import CARDS_GIB, RUNTIME_GB, plan
from posedreamer_assets.diffusion.sources import NOT_LOWERED
from posedreamer_assets.errors import AlignmentError

MOMENTS = {"adamw": 8, "adamw8bit": 2}  # bytes a weight; the scales of 8 bits are a 64th of that
OF_A_WEIGHT = 4 + 4 + 4  # itself, its gradient, that of a part
KNOWN: Mapping[str, Mapping[str, Any]] = {
    "black-forest-labs/FLUX.1-dev": {"in_channels": 64, "guidance_embeds": True},
}
"""Arguments of the transformers of models on the hub, where they differ from diffusers' defaults."""


@dataclass(frozen=True)
class TrainingPlan:
    """Memory in GB (1e9 bytes) of Flow-DPO with these settings.

    Attributes:
        pairs: that go through the network together.
        settings: in words.
        parts: network, adapter, activations and, where they stay on the GPU, encoders.
    """

    pairs: int
    settings: str
    parts: Mapping[str, float]

    @property
    def peak_gb(self) -> float:
        """Everything at once."""
        return sum(self.parts.values()) + RUNTIME_GB

    def __str__(self) -> str:
        return f"{self.peak_gb:.1f} GB with {self.settings}"


def pairs_together(cfg: AlignmentConfig, block: int) -> int:
    """Pairs that training on a GPU begins with, where the generator makes `block` images at a time."""
    return cfg.micro_pairs or max(1, block // 2)


def training_plan(generator: GeneratorConfig, image: ImageConfig, cfg: AlignmentConfig) -> TrainingPlan | None:
    """The plan of a configuration; None of another backend than flux, of fp8, and where a model's size is not known.

    Raises:
        BackendError: as `sources.needs`.
    """
    config = (
        _architecture(generator) if generator.backend == "flux" and generator.precision not in ("fp8", "auto") else None
    )
    painting = None if config is None else plan(generator, image)
    if config is None or painting is None:
        return None
    pairs = pairs_together(cfg, generator.block)
    adapter, kept = _counted(
        config, image, cfg.lora_rank, cfg.half_images, cfg.gradient_checkpointing, pairs, generator.dtype
    )
    encoders = sum(size for part, size in painting.parts.items() if part in NOT_LOWERED)
    parts = {
        "network": sum(painting.parts.values()) - encoders,
        "adapter": adapter * bytes_of_a_weight(cfg) / 1e9,
        "activations": kept / 1e9,
    }
    return TrainingPlan(
        pairs, _words(generator, cfg, pairs), parts if cfg.latent_cache else parts | {"encoders": encoders}
    )


def bytes_of_a_weight(cfg: AlignmentConfig) -> int:
    """Of the adapter, everything that training holds of it."""
    return OF_A_WEIGHT + MOMENTS[cfg.optimizer] + (4 if cfg.reference_every else 0)


def remedies(generator: GeneratorConfig, cfg: AlignmentConfig) -> Iterator[dict[str, Any]]:
    """Settings to try, those first that change least of what is learnt, each with all before it."""
    changes: dict[str, Any] = {}
    steps: list[tuple[str, Any, bool]] = [
        ("alignment.latent_cache", True, cfg.latent_cache),
        ("alignment.gradient_checkpointing", True, cfg.gradient_checkpointing),
        ("alignment.micro_pairs", 1, pairs_together(cfg, generator.block) == 1),
        ("alignment.optimizer", "adamw8bit", cfg.optimizer == "adamw8bit"),
        ("generator.precision", "int8", generator.precision in ("int8", "nf4")),
        ("generator.precision", "nf4", generator.precision == "nf4"),
    ]
    for name, value, is_so in steps:
        if not is_so:
            changes[name] = value
            yield dict(changes)


def fitting_training(
    generator: GeneratorConfig, image: ImageConfig, cfg: AlignmentConfig, room_gb: float
) -> tuple[TrainingPlan, dict[str, Any]] | None:
    """The plan that fits with the least changes, and these; none where it fits as it stands. None where nothing fits."""

    def fits(changes: Mapping[str, Any]) -> TrainingPlan | None:
        found = training_plan(*_changed(generator, image, cfg, changes))
        return found if found is not None and found.peak_gb <= room_gb else None

    changes = next((one for one in ({}, *remedies(generator, cfg)) if fits(one)), None)
    if changes is None:
        return None
    for name in reversed(list(changes)):  # the last that was tried may have made others needless
        fewer = {other: value for other, value in changes.items() if other != name}
        changes = fewer if fits(fewer) else changes
    found = fits(changes)
    assert found is not None, "they fitted before"
    return found, changes


def require_training_room(
    generator: GeneratorConfig, image: ImageConfig, cfg: AlignmentConfig, room_gb: float | None
) -> None:
    """Refuse Flow-DPO that the GPU has no room for. Without a GPU, without alignment and without known sizes nothing is said, and
    where the number of pairs is not configured, one that fits is found while it is trained.

    Raises:
        AlignmentError: in one line, with the settings that would fit, if any do.
    """
    if room_gb is None or cfg.off or generator.device == "cpu":
        return
    least = replace(cfg, micro_pairs=cfg.micro_pairs or 1)
    found = training_plan(generator, image, least)
    if found is not None and found.peak_gb > room_gb:
        fits = _remedy(generator, image, least, room_gb)
        raise AlignmentError(f"alignment: needs {found}; the GPU has {room_gb:.1f} GB: {fits}")


def _remedy(generator: GeneratorConfig, image: ImageConfig, cfg: AlignmentConfig, room_gb: float) -> str:
    """Settings with which it fits, in words."""
    found = fitting_training(generator, image, cfg, room_gb)
    if found is None:
        return "no setting fits: a smaller image or alignment.lora_rank, a larger GPU, or --set alignment.method=none"
    planned, changes = found
    others = " and paints other images" if "generator.precision" in changes else ""
    return f"{_as_options(changes)} needs {planned.peak_gb:.1f} GB{others}"


def training_on_cards(generator: GeneratorConfig, image: ImageConfig, cfg: AlignmentConfig) -> str:
    """What fits cards of 24, 48 and 80 GiB, in words."""
    said = []
    for card in CARDS_GIB:
        found = fitting_training(generator, image, cfg, card * 2**30 / 1e9)
        said.append(f"{card} GiB: {found[0]}" if found else f"{card} GiB: does not fit")
    return "; ".join(said)


def _words(generator: GeneratorConfig, cfg: AlignmentConfig, pairs: int) -> str:
    precision = "" if generator.precision == "bf16" else f", precision={generator.precision}"
    checkpointing = str(cfg.gradient_checkpointing).lower()
    return f"micro_pairs={pairs}, gradient_checkpointing={checkpointing}, optimizer={cfg.optimizer}{precision}"


def _as_options(changes: Mapping[str, Any]) -> str:
    return " ".join(f"--set {name}={str(value).lower()}" for name, value in changes.items())


def _changed(
    generator: GeneratorConfig, image: ImageConfig, cfg: AlignmentConfig, changes: Mapping[str, Any]
) -> tuple[GeneratorConfig, ImageConfig, AlignmentConfig]:
    of = {"generator": generator, "alignment": cfg}
    for name, value in changes.items():
        section, _, field = name.partition(".")
        of[section] = replace(of[section], **{field: value})
    return of["generator"], image, of["alignment"]  # type: ignore[return-value]


def _architecture(generator: GeneratorConfig) -> str | None:
    """Arguments of the transformer as JSON, with an input layer as wide as control images need it: of a known model, or of a
    folder; None where they are not on this computer."""
    name = generator.model_path or ""
    try:
        file = Path(name).expanduser() / "transformer" / "config.json"
        found = dict(KNOWN[name]) if name in KNOWN else json.loads(file.read_text())
        out = found.get("out_channels") or found["in_channels"]
    except (OSError, ValueError, LookupError):
        return None
    return json.dumps({**found, "in_channels": 2 * out, "out_channels": out}, sort_keys=True)


@lru_cache(maxsize=64)
def _counted(
    config: str, image: ImageConfig, rank: int, half_images: bool, checkpointing: bool, pairs: int, dtype: str
) -> tuple[int, int]:
    """Weights of the adapter and bytes that are kept; importing what counts takes seconds."""
    import torch

    from posedreamer_assets.diffusion.counting import count_flow_dpo

    cfg = AlignmentConfig(lora_rank=rank, half_images=half_images, gradient_checkpointing=checkpointing)
    on_gpu = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    found = count_flow_dpo(json.loads(config), image, cfg, pairs, on_gpu)
    return found.adapter, found.kept
