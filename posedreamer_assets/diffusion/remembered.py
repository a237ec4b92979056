"""How many images a device had room for, once it had none for more: a fact of this computer, kept in its cache, in no digest."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch

from posedreamer_assets.config import GeneratorConfig, ImageConfig, cache_folder, write_whole
from posedreamer_assets.digests import digest

FILE = "batch_sizes.json"


def remembered_rows(cfg: GeneratorConfig, image: ImageConfig, device: torch.device) -> int | None:
    """Images of the largest block that was left after a larger one did not fit; None where all have fitted."""
    return _read(cache_folder() / FILE).get(_what(cfg, image, device))


def remember_rows(cfg: GeneratorConfig, image: ImageConfig, device: torch.device, rows: int) -> None:
    """Let who loads this generator on such a device begin with so many; where nothing can be written, a warning says so."""
    file = cache_folder() / FILE
    known = _read(file) | {_what(cfg, image, device): rows}
    try:
        write_whole(file, json.dumps(known, indent=1, sort_keys=True))
    except OSError as error:
        logging.getLogger(__name__).warning("the size of blocks is not remembered: %s", error)


def _what(cfg: GeneratorConfig, image: ImageConfig, device: torch.device) -> str:
    """The kind of device, for people, and everything that decides on memory, but for the size of blocks itself."""
    settings = {name: value for name, value in asdict(cfg).items() if name not in ("batch_size", "device")}
    return f"{_device_name(device)}: {cfg.backend} {digest([settings, asdict(image)])}"


def _device_name(device: torch.device) -> str:
    if not torch.cuda.is_available():
        return device.type
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory / 1e9:.1f} GB"


def _read(file: Path) -> dict[str, int]:
    """What is remembered; nothing where there is no such file, or one that is none of these."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {key: rows for key, rows in known.items() if isinstance(rows, int) and rows > 0} if known else {}
