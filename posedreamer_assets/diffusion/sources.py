"""What a profile's generator needs before it can paint: files, memory, a licence. Nothing is loaded, torch included.

A run that would fail at its first image, hours after its poses were made, is refused at its start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.diffusion.shares import lowered_bytes
from posedreamer_assets.errors import BackendError
from posedreamer_assets.hub import ask, file_of_model, is_here, is_written_so

TEXT_PARTS = {"T5", "CLIP", "Qwen3", "Qwen2.5-VL", "text encoders", "text_encoder", "text_encoder_2"}
NOT_LOWERED = TEXT_PARTS | {"VAE", "vae"}  # parts that no precision changes
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}  # auto: bfloat16 on a GPU


@dataclass(frozen=True)
class Source:
    """A model on the hub.

    Attributes:
        parameters: of each part, in billions, counted on the architectures without weights (torch's meta device).
        licence: of the weights, and what it says of images made with them.
        gated: whether the hub asks who takes it to agree to the licence, with a token.
        lowered: of each part that a precision lowers, by precision: GB of what is lowered, and billions of parameters that
            are not; counted as `parameters`.
    """

    parameters: Mapping[str, float]
    licence: str
    gated: bool = False
    lowered: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)


KNOWN = {
    "black-forest-labs/FLUX.1-dev": Source(
        {"transformer": 11.90, "T5": 4.76, "CLIP": 0.12, "VAE": 0.08},
        "FLUX.1 [dev] Non-Commercial License: images may be used, but not to train a model that competes with FLUX.1",
        gated=True,
        lowered={"transformer": {"fp8": (8.61, 3.293), "int8": (11.85, 0.067), "nf4": (6.66, 0.067)}},
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": Source(
        {"UNet": 2.57, "text encoders": 0.82, "VAE": 0.08},
        "CreativeML Open RAIL++-M: weights and images may be used commercially, but not for what its Attachment A lists",
        lowered={"UNet": {"fp8": (2.56, 0.008), "int8": (2.23, 0.342), "nf4": (1.25, 0.342)}},
    ),
    "diffusers/controlnet-depth-sdxl-1.0": Source(
        {"ControlNet": 1.25},
        "OpenRAIL++",
        lowered={"ControlNet": {"fp8": (1.24, 0.009), "int8": (1.11, 0.149), "nf4": (0.62, 0.149)}},
    ),
    "Tongyi-MAI/Z-Image-Turbo": Source(
        {"transformer": 6.15, "Qwen3": 4.02, "VAE": 0.08},
        "Apache-2.0: weights and images may be used commercially",
        lowered={"transformer": {"fp8": (6.02, 0.139), "int8": (6.15, 0.013), "nf4": (3.45, 0.013)}},
    ),
    "alibaba-pai/Z-Image-Turbo-Fun-Controlnet-Union-2.1/Z-Image-Turbo-Fun-Controlnet-Union-2.1-8steps.safetensors": Source(
        {"ControlNet": 3.36},
        "Apache-2.0",
        lowered={"ControlNet": {"fp8": (3.29, 0.068), "int8": (3.36, 0.001), "nf4": (1.89, 0.001)}},
    ),
    "black-forest-labs/FLUX.2-klein-4B": Source(
        {"transformer": 3.88, "Qwen3": 4.02, "VAE": 0.08},
        "Apache-2.0: weights and images may be used commercially",
        lowered={"transformer": {"fp8": (3.82, 0.053), "int8": (3.83, 0.053), "nf4": (2.15, 0.053)}},
    ),
    "Qwen/Qwen-Image": Source(
        {"transformer": 20.43, "Qwen2.5-VL": 8.29, "VAE": 0.13},
        "Apache-2.0: weights and images may be used commercially",
        lowered={"transformer": {"fp8": (20.40, 0.029), "int8": (20.42, 0.035), "nf4": (11.47, 0.035)}},
    ),
    "InstantX/Qwen-Image-ControlNet-Union": Source(
        {"ControlNet": 1.77},
        "Apache-2.0",
        lowered={"ControlNet": {"fp8": (1.76, 0.010), "int8": (1.76, 0.011), "nf4": (0.99, 0.011)}},
    ),
}
"""Models that the shipped profiles name."""
WITHOUT_CONTROL = ("black-forest-labs/FLUX.1-dev",)
"""Models of the flux backend that take no control image but by a control LoRA."""


@dataclass(frozen=True)
class Need:
    """One model of a profile: where it lies, or what it takes to have it.

    Attributes:
        name: as the profile says.
        here: whether it can be loaded without a download.
        gigabytes: of each part's weights in the profile's precision; empty where they cannot be known without a download.
        licence: empty where this project does not know it.
        revision: commit or tag on the hub; None is the newest.
    """

    name: str
    here: bool
    gigabytes: Mapping[str, float]
    licence: str = ""
    revision: str | None = None


def needs(cfg: GeneratorConfig) -> list[Need]:
    """The models that a generator is loaded from; none of the shipped one.

    Raises:
        BackendError: a path that does not exist, or a damaged file of weights.
    """
    named = ((cfg.model_path, cfg.revision), (cfg.control_lora_path, None))
    precision = "bf16" if cfg.precision == "auto" else cfg.precision
    found = [_need(name, revision, BYTES[cfg.dtype], precision) for name, revision in named if name]
    loras = [_need(lora.path, lora.revision, BYTES[cfg.dtype]) for lora in cfg.loras]
    merged = cfg.bake is True or precision != "bf16"
    if cfg.backend == "flux" and cfg.control_lora_path and merged:
        found[-1] = replace(found[-1], gigabytes=dict.fromkeys(found[-1].gigabytes, 0.0))
    return [*found, *(replace(lora, gigabytes={"LoRA": 0.0}) for lora in loras)]  # they take no memory of their own


def require(cfg: GeneratorConfig) -> None:
    """Refuse a large generator whose models are not named, or neither here nor to be had.

    Raises:
        BackendError: in one line, with the remedy; or as `needs`.
    """
    if cfg.model_path is None:
        raise BackendError(f"generator.model_path: the {cfg.backend} backend needs a model, see docs/generators.md")
    sees_control = cfg.backend == "klein" or (cfg.backend == "flux" and cfg.model_path not in WITHOUT_CONTROL)
    if cfg.control_lora_path is None and not sees_control:
        raise BackendError(
            f"generator.control_lora_path: {cfg.model_path} alone sees no control image, see docs/generators.md"
        )
    for need in needs(cfg):
        if not need.here and (why := ask(need.name, need.revision)):
            folder = "or give a folder with --set generator.model_path=DIR (or generator.control_lora_path, or generator.loras)"
            raise BackendError(f"{need.name} is not on this computer, and {why}; {folder}")


def _need(name: str, revision: str | None, size: int, precision: str = "bf16") -> Need:
    path = Path(name).expanduser()
    if path.exists():
        return Need(name, True, stored_gigabytes(path, size, precision))
    if not is_written_so(name) and file_of_model(name) is None:
        raise BackendError(f"{name}: no such file or folder; set generator.model_path and generator.control_lora_path")
    known = KNOWN.get(name)
    parts = {part: count * size for part, count in known.parameters.items()} if known else {}
    for part, by_precision in known.lowered.items() if known else ():
        if precision in by_precision:
            lowered_gb, kept = by_precision[precision]
            parts[part] = lowered_gb + kept * size
    return Need(name, is_here(name, revision), parts, known.licence if known else "", revision)


def stored_gigabytes(path: Path, size: int, precision: str = "bf16") -> dict[str, float]:
    """Gigabytes of the numbers in each sub-folder's safetensors files, at so many bytes a number, from their headers; of layers
    that a precision lowers as it stores them.

    Raises:
        BackendError: there are none, or a file is damaged.
    """
    shapes: dict[str, dict[str, Sequence[int]]] = {}
    for file in _weights(path):
        part = file.parent.name if path.is_dir() and file.parent != path else path.stem
        try:
            with safe_open(file, "numpy") as arrays:
                named = {key: arrays.get_slice(key).get_shape() for key in arrays.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as error:
            raise BackendError(f"{file}: {error}") from error
        shapes.setdefault(part, {}).update(named)
    if not shapes:
        raise BackendError(f"{path}: no *.safetensors; other formats are not read")
    found = {}
    for part, named in shapes.items():
        lowered, kept = lowered_bytes(named, "bf16" if part in NOT_LOWERED else precision)
        found[part] = (lowered + kept * size) / 1e9
    return found


def _weights(path: Path) -> Iterator[Path]:
    """Files of weights; of a part that is stored in two precisions the first alone, and no copy beside the parts."""
    if path.is_file():
        yield path
        return
    folders = sorted({file.parent for file in path.rglob("*.safetensors")})
    parts = [folder for folder in folders if folder != path] or folders
    for folder in parts:
        files = sorted(folder.glob("*.safetensors"))
        plain = [file for file in files if ".fp16" not in file.name]
        yield from plain or files
