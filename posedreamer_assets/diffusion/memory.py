"""What a generator takes of a GPU's memory: its weights, and what a block of images needs on top. Nothing is loaded.

Weights are counted in files' headers, or on architectures without weights for known models (`sources.py`), those of layers that
`generator.precision` lowers with the bytes that they then have (`shares.py`). What is alive at once on top is the larger of two
figures, the first counted on the architecture without weights (a test counts it again), the second an estimate by hand that
nothing has checked:

    the decoder, which paints one image at a time:  pixels of an image x DECODER_BYTES
    the transformer:                                rows of a block x tokens x width x 2 bytes x TRANSFORMER_WIDTHS

and `RUNTIME_GB` for CUDA itself, which is an assumption. No figure was compared with a GPU yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from posedreamer_assets.config import PARKING, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.shares import PRECISIONS
from posedreamer_assets.diffusion.sources import TEXT_PARTS, needs
from posedreamer_assets.errors import BackendError

DECODER_BYTES = 2200  # a pixel, of the autoencoder that FLUX, SDXL and Z-Image share, in 16 bits
TRANSFORMER_WIDTHS = 22  # vectors of the transformer's width that are alive for each token
# Of SDXL's UNet, whose maps shrink, nothing is counted but the decoder.
WIDTHS = {"flux": 3072, "zimage": 3840, "klein": 3072, "qwenimage": 3072}
CAPTION_TOKENS = 512
RUNTIME_GB = 1.0
REFERENCES = ("klein",)  # backends that see the control image as as many tokens again
CARDS_GIB = (24, 48, 80)
MOST_ROWS = 64  # of a block of `batch_size: auto`; larger ones are hardly faster
UNPLANNED_ROWS = 16  # of one whose plan is not known: a GPU without room for so many halves it

Precision = Literal["auto", "bf16", "fp8", "int8", "nf4"]


@dataclass(frozen=True)
class Plan:
    """Memory in GB (1e9 bytes).

    Attributes:
        memory: `resident` or `park_text`.
        batch: images of a block.
        parts: weights of each part.
        activations_gb: what a block needs beside the weights.
        precision: of the painting networks, one of `PRECISIONS`.
    """

    memory: str
    batch: int
    parts: Mapping[str, float]
    activations_gb: float
    precision: str = "bf16"

    @property
    def resident_gb(self) -> float:
        """Weights that lie on the GPU while images are painted."""
        return sum(size for part, size in self.parts.items() if self.memory == "resident" or part not in TEXT_PARTS)

    @property
    def peak_gb(self) -> float:
        """The most that is needed at once; with `park_text` captions are embedded while the painting networks are aside."""
        text_gb = sum(size for part, size in self.parts.items() if part in TEXT_PARTS)
        return max(self.resident_gb + self.activations_gb, text_gb) + RUNTIME_GB

    def __str__(self) -> str:
        precision = "" if self.precision == "bf16" else f", precision={self.precision}"
        return f"{self.peak_gb:.1f} GB with memory={self.memory}, batch_size={self.batch}{precision}"


def plan(cfg: GeneratorConfig, image: ImageConfig) -> Plan | None:
    """The plan of a configuration as it stands (`auto` is resident, and bf16); None where a model's size is not known.

    Raises:
        BackendError: as `needs`.
    """
    found = needs(cfg)
    if not found or not all(need.gigabytes for need in found):
        return None
    parts = {part: size for need in found for part, size in need.gigabytes.items()}
    decoder = image.width * image.height * DECODER_BYTES
    seen = 2 if cfg.backend in REFERENCES else 1
    tokens = seen * (image.width // 16) * (image.height // 16) + CAPTION_TOKENS
    transformer = cfg.block * tokens * WIDTHS.get(cfg.backend, 0) * 2 * TRANSFORMER_WIDTHS
    memory = "park_text" if cfg.memory == "park_text" else "resident"
    precision = "bf16" if cfg.precision == "auto" else cfg.precision
    return Plan(memory, cfg.block, parts, max(decoder, transformer) / 1e9, precision)


def possible(cfg: GeneratorConfig, image: ImageConfig) -> list[Plan]:
    """Plans to choose from, as configured first: then the text encoder aside, then smaller blocks, down to one image."""
    modes = [cfg.memory] if cfg.memory != "auto" else ["resident", *(["park_text"] if cfg.backend in PARKING else [])]
    if cfg.memory == "resident" and cfg.backend in PARKING:
        modes.append("park_text")
    sizes = [MOST_ROWS if cfg.batch_size == "auto" else cfg.batch_size]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    tried = (plan(replace(cfg, memory=mode, batch_size=size), image) for size in sizes for mode in modes)
    return [one for one in tried if one is not None]


def fitting(cfg: GeneratorConfig, image: ImageConfig, room_gb: float) -> Plan | None:
    """The first possible plan that fits; with precision `auto`, in the precision that it then is."""
    cfg = replace(cfg, precision=chosen_precision(cfg, image, room_gb))
    return next((one for one in possible(cfg, image) if one.peak_gb <= room_gb), None)


def allowed(cfg: GeneratorConfig, image: ImageConfig) -> list[Plan]:
    """Plans with the configured block, of `auto` one image, and precision, text encoders where `memory` lets them be."""
    return [one for one in possible(cfg, image) if one.batch == cfg.block and cfg.memory in ("auto", one.memory)]


def in_precisions(cfg: GeneratorConfig) -> list[GeneratorConfig]:
    """The configuration in each precision, full precision first."""
    return [replace(cfg, precision=precision) for precision in PRECISIONS]  # type: ignore[arg-type]


def chosen_precision(cfg: GeneratorConfig, image: ImageConfig, room_gb: float | None) -> Precision:
    """The configured precision; of `auto` the first whose plan fits with the configured block, else the last; bf16
    without a GPU, and where sizes are not known."""
    if cfg.precision != "auto":
        return cfg.precision
    if room_gb is None or plan(cfg, image) is None:
        return "bf16"
    for one in in_precisions(cfg):
        if any(planned.peak_gb <= room_gb for planned in allowed(one, image)):
            return one.precision  # type: ignore[return-value]
    return "nf4"


def chosen_rows(cfg: GeneratorConfig, image: ImageConfig, room_gb: float | None) -> int:
    """The configured block; of `auto` the largest whose plan fits; one image without a GPU."""
    if cfg.batch_size != "auto" or room_gb is None:
        return cfg.block
    memory = "park_text" if parks_text(cfg, image, room_gb) else "resident"
    plans = [one for one in possible(cfg, image) if one.memory == memory]
    return next((one.batch for one in plans if one.peak_gb <= room_gb), 1) if plans else UNPLANNED_ROWS


def gpu_gb() -> float | None:
    """Memory of the first GPU; None where there is none."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else None


def parks_text(cfg: GeneratorConfig, image: ImageConfig, room_gb: float | None) -> bool:
    """Whether the text encoder is put aside: as the profile says; with `auto`, where all does not fit and this does."""
    if cfg.memory != "auto" or room_gb is None:
        return cfg.memory == "park_text"
    fits = {one.memory: one.peak_gb <= room_gb for one in allowed(cfg, image)}
    return fits.get("park_text", False) and not fits["resident"]


def require_room(cfg: GeneratorConfig, image: ImageConfig, room_gb: float | None) -> None:
    """Refuse a generator that the GPU has no room for; without a GPU, or without known sizes, nothing is said.

    Raises:
        BackendError: in one line, with the settings that would fit, if any do.
    """
    if room_gb is None or cfg.device == "cpu" or not possible(cfg, image):
        return
    cfg = replace(cfg, precision=chosen_precision(cfg, image, room_gb))
    plans = allowed(cfg, image)
    if any(one.peak_gb <= room_gb for one in plans):
        return
    raise BackendError(f"generator: needs {plans[-1]}; the GPU has {room_gb:.1f} GB: {_remedy(cfg, image, room_gb)}")


def _remedy(cfg: GeneratorConfig, image: ImageConfig, room_gb: float) -> str:
    """Settings that fit: those that leave images as they are, and the largest precision in which the block fits."""
    same = fitting(cfg, image, room_gb)
    smaller = in_precisions(replace(cfg, memory="auto"))[PRECISIONS.index(cfg.precision) + 1 :]
    other = next((its for one in smaller for its in allowed(one, image) if its.peak_gb <= room_gb), None)
    said = []
    if same:
        said.append(
            f"--set generator.memory={same.memory} --set generator.batch_size={same.batch} needs {same.peak_gb:.1f} GB"
        )
    if other:
        said.append(
            f"--set generator.precision={other.precision} --set generator.memory={other.memory} needs {other.peak_gb:.1f} GB "
            "and paints other images"
        )
    if not said:
        return "no setting of memory, batch_size or precision fits: a smaller image, another profile or a larger GPU"
    return ", or ".join(said)


def by_precision(cfg: GeneratorConfig, image: ImageConfig) -> str:
    """What each precision takes, in words: weights on the GPU while it paints, and the peak, text encoders there or aside."""
    said = []
    for one in in_precisions(cfg):
        plans = allowed(replace(one, memory="auto"), image)
        sizes = (f"{p.resident_gb:.1f} of weights, peak {p.peak_gb:.1f} GB ({p.memory})" for p in plans)
        said.append(f"{one.precision} {' or '.join(sizes)}")
    return "; ".join(said)


def on_cards(cfg: GeneratorConfig, image: ImageConfig) -> str:
    """What fits cards of 24, 48 and 80 GiB, in words."""
    said = []
    for card in CARDS_GIB:
        found = fitting(cfg, image, card * 2**30 / 1e9)
        said.append(f"{card} GiB: {found}" if found else f"{card} GiB: does not fit")
    return "; ".join(said)
