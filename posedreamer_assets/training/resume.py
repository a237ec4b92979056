"""State of a training that was stopped, written whole or not at all."""

from pathlib import Path
from typing import Any

import torch


def write_state(path: Path, **parts: Any) -> None:
    """Write plain values, tensors, and the state of whatever has a `state_dict` (networks, optimizers), atomically."""
    state = {name: part.state_dict() if hasattr(part, "state_dict") else part for name, part in parts.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def read_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """What `write_state` wrote; tensors and plain values alone are read, no other objects."""
    return torch.load(path, weights_only=True, map_location=device)
