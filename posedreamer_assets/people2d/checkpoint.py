"""The state of an arm that was stopped: tensors as safetensors, plain values as JSON in the same file's header.

One file, so that both are always of the same step.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from posedreamer_assets.errors import StudentError


@dataclass(frozen=True)
class SavedArm:
    """What `write_arm` wrote."""

    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors whose names were put `under` this one."""
        return {k.removeprefix(name + "/"): v for k, v in self.tensors.items() if k.startswith(name + "/")}


def under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with longer names."""
    return {f"{name}/{key}": value for key, value in tensors.items()}


def write_arm(path: Path, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; whoever is killed meanwhile leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    # A layout of memory is no part of a value: safetensors takes rows one after the other.
    plain_tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    save_file(plain_tensors, part, metadata={"state": json.dumps(plain)})
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def read_arm(path: Path, arguments: str) -> SavedArm | None:
    """The checkpoint, or None where there is none or its arguments were others.

    Raises:
        StudentError: a damaged file.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["state"])
            if plain["arguments"] != arguments:
                return None
            names = list(file.keys())
            return SavedArm({name: file.get_tensor(name) for name in names}, plain)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StudentError(f"{path}: no checkpoint of a student, delete it: {error!r}") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and counters of an Adam, by number of the weight and name."""
    state = optimizer.state_dict()["state"]
    return {f"{number}/{name}": value for number, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
