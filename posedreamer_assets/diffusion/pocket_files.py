"""The files of a pocket generator, and whether they can be used, without the seconds that importing diffusers takes."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from posedreamer_assets.config import WEIGHTS_DIR, GeneratorConfig, ImageConfig
from posedreamer_assets.digests import digest, folder_digest
from posedreamer_assets.errors import BackendError

SHIPPED = WEIGHTS_DIR / "generator"
PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")


def pocket_folder(cfg: GeneratorConfig, image: ImageConfig) -> Path:
    """The folder of the weights, `model_path` or the shipped ones.

    Raises:
        BackendError: a part is missing, an image size that cannot be packed into tokens, or a guidance other than 1:
            these weights are not distilled for guidance.
    """
    folder = Path(cfg.model_path).expanduser() if cfg.model_path else SHIPPED
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise BackendError(f"{folder}: not a pocket generator, missing {', '.join(missing)}")
    if image.width % 8 or image.height % 8:
        raise BackendError(f"image size {image.width} x {image.height}: the pocket generator needs multiples of 8")
    if cfg.guidance != 1.0:
        raise BackendError(
            f"generator.guidance: the pocket generator has no guidance, expected 1, found {cfg.guidance}"
        )
    return folder


def pocket_digest(folder: Path) -> str:
    """Digest of all files of its parts."""
    return digest([folder_digest(folder / part) for part in PARTS])


def check_weights(folder: Path) -> None:
    """Open every file of weights, without reading the weights.

    Raises:
        BackendError: there are none, or a file is not whole.
    """
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise BackendError(f"{folder}: no *.safetensors")
    for file in files:
        try:
            with safe_open(file, "numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise BackendError(f"{file}: {error}") from error
