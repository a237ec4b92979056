"""Checkpoints of transformers that find people in photographs: loading them, and their class `person`."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor

from posedreamer_assets.errors import DetectorError

PERSON = "person"


def load_published(kind: Any, folder: Path, what: str) -> tuple[Any, Any]:
    """A network in full precision and its preprocessing.

    Args:
        kind: an `AutoModelFor...`.
        folder: of the checkpoint.
        what: it is, for messages.

    Raises:
        DetectorError: missing or damaged weights, or those of something else.
    """
    try:
        network, info = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DetectorError(f"{folder}: not {what} of transformers: {str(error).splitlines()[0]}") from error
    # transformers fills missing weights with random ones and only warns.
    unfit = sorted(str(k) for keys in ("missing_keys", "mismatched_keys") for k in info[keys])
    if unfit:
        raise DetectorError(f"{folder}: not {what} of transformers: no fitting weight for {unfit[0]}")
    return network, processor


def person_class(names: dict[int, str], folder: Path, purpose: str) -> int:
    """The index of the class `person`.

    Raises:
        DetectorError: there is none, so that the checkpoint cannot do what it is for.
    """
    for index, name in names.items():
        if name.lower() == PERSON:
            return int(index)
    raise DetectorError(f"{folder}: knows no class {PERSON!r}, so that it cannot {purpose}")
