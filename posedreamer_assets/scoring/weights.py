"""Where detectors' weights lie, and loading them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from posedreamer_assets.config import local_path
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.hub import DETECTORS, is_hub_name, model_folder
from posedreamer_assets.scoring.networks import CentreNet, HeatmapNet, SilhouetteNet


def folder_of(kind: str, path: str, revision: str | None = None) -> Path:
    """The folder of a profile's path, checked to hold weights; those of a name on the model hub are fetched.

    Args:
        kind: of the detector.
        path: a folder, `shipped:NAME`, or of a published network `owner/model`.
        revision: commit or tag on the hub.

    Raises:
        DetectorError: it does not exist or holds no weights.
    """
    if kind in DETECTORS and is_hub_name(path):
        return model_folder(path, revision, DetectorError)
    folder = local_path(path)
    if kind in DETECTORS and not (folder / "model.safetensors").is_file():
        raise DetectorError(
            f"no {kind} weights at {folder} (config.json and model.safetensors), and no name on the hub"
        )
    if not (folder / "model.safetensors").is_file():
        raise DetectorError(
            f"no {kind} weights at {folder} (model.safetensors); train them with "
            f"`python -m posedreamer_assets.pocket.train_detectors {kind} --shards ... --out {folder}`"
        )
    return folder


def describe(folder: Path) -> dict[str, Any]:
    """`detector.json`; empty where there is none (published ViTPose checkpoints).

    Raises:
        DetectorError: it is not a JSON object.
    """
    file = folder / "detector.json"
    if not file.exists():
        return {}
    try:
        description = json.loads(file.read_text())
    except ValueError as error:
        raise DetectorError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(description, dict):
        raise DetectorError(f"{file}: expected an object, found {description!r}")
    return description


def load_network(kind: str, folder: Path) -> nn.Module:
    """The heatmap, silhouette or counter network with its weights, in full precision and evaluation mode.

    Raises:
        DetectorError: the file is damaged or holds other arrays.
    """
    makes: dict[str, Callable[[int], nn.Module]] = {"heatmap": HeatmapNet, "silhouette": SilhouetteNet}
    network = makes[kind](describe(folder).get("width", 48)) if kind in makes else CentreNet()
    file = folder / "model.safetensors"
    try:
        state = load_file(file)
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise DetectorError(f"{file}: not weights of a {kind} network: {str(error).splitlines()[0]}") from error
    return network.float().eval()


def folder_digest(*files: Path) -> str:
    """blake2b of the files' names and bytes, in the given order; absent files are left out."""
    state = hashlib.blake2b(digest_size=16)
    for file in files:
        if file.exists():
            state.update(file.name.encode() + b"\0")
            state.update(file.read_bytes())
    return state.hexdigest()


CPU_BLOCK = 8


def block_size(batch_size: int) -> int:
    """Images that go through a network together: `batch_size` on a GPU.

    On a CPU always the same number, because sums in blocks of another size round differently, while larger blocks are
    no faster: so a keypoint does not depend on the configured batch size.
    """
    return CPU_BLOCK if default_device().type == "cpu" else batch_size


def default_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
