"""How many images, or rows of a training, a device had room for, once it had none for more: a fact of this computer, kept in its
cache, in no digest."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from posedreamer_assets.config import GeneratorConfig, ImageConfig, cache_folder, write_whole
from posedreamer_assets.digests import digest

FILE = "batch_sizes.json"


def remembered_rows(cfg: GeneratorConfig, image: ImageConfig, device: torch.device) -> int | None:
    """Images of the largest block that was left after a larger one did not fit; None where all have fitted."""
    return _read(cache_folder() / FILE).get(_painting(cfg, image, device))


def remember_rows(cfg: GeneratorConfig, image: ImageConfig, device: torch.device, rows: int) -> None:
    """Let who loads this generator on such a device begin with so many; where nothing can be written, a warning says so."""
    _remember(_painting(cfg, image, device), rows)


def remembered_training(what: str, settings: Mapping[str, Any], device: torch.device) -> int | None:
    """Rows of a training with these settings that were left to go through the network together after more did not fit; None
    where all have fitted.

    Args:
        what: is trained, for people.
        settings: everything that decides on memory, but for the number of rows.
        device: where.
    """
    return _read(cache_folder() / FILE).get(_training(what, settings, device))


def remember_training(what: str, settings: Mapping[str, Any], device: torch.device, rows: int) -> None:
    """Let who trains so on such a device begin with so many rows together; as `remember_rows`."""
    _remember(_training(what, settings, device), rows)


def _painting(cfg: GeneratorConfig, image: ImageConfig, device: torch.device) -> str:
    """The kind of device, for people, and everything that decides on memory, but for the size of blocks itself."""
    return f"{_device_name(device)}: {cfg.backend} {digest([deciding(cfg), asdict(image)])}"


def _training(what: str, settings: Mapping[str, Any], device: torch.device) -> str:
    return f"{_device_name(device)}: {what} {digest(dict(settings))}"


def deciding(cfg: GeneratorConfig) -> dict[str, Any]:
    """What of a generator may decide on memory, beside the size of blocks and of images."""
    return {name: value for name, value in asdict(cfg).items() if name not in ("batch_size", "device")}


def _remember(key: str, rows: int) -> None:
    file = cache_folder() / FILE
    known = _read(file) | {key: rows}
    try:
        write_whole(file, json.dumps(known, indent=1, sort_keys=True))
    except OSError as error:
        logging.getLogger(__name__).warning("the size of blocks is not remembered: %s", error)


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
