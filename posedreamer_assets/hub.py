"""Models on a model hub: whether a name is one, whether it is here, and having its files here. Nothing is loaded."""

import os
from pathlib import Path

from posedreamer_assets.errors import PoseDreamerError

LOADED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What models are read from; pickles are not fetched."""
DETECTORS = ("vitpose", "detr", "segmenter")
"""Kinds of detectors, counters and segmenters whose weights are published on the hub."""


def is_hub_name(name: str) -> bool:
    """`owner/model`, as the hub writes it, and nothing of that name in the folder one stands in."""
    return is_written_so(name) and not Path(name).expanduser().exists()


def is_written_so(name: str) -> bool:
    """Whether a text has the form of a hub's name: `owner/model`."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(("/", ".onnx"))


def file_of_model(name: str) -> tuple[str, str] | None:
    """Model and file of `owner/model/file.safetensors`, one file of a model on the hub; None for other names."""
    if name.count("/") != 2 or name.startswith((".", "/", "~")) or not name.endswith(".safetensors"):
        return None
    if Path(name).exists():
        return None
    model, _, file = name.rpartition("/")
    return model, file


def model_folder(name: str, revision: str | None, error: type[PoseDreamerError]) -> Path:
    """The folder of a model: its own where it is one, else that of the hub's files, which are fetched where they are not here.

    Args:
        name: a folder, or `owner/model`.
        revision: commit or tag on the hub; None is the newest.
        error: what is raised.

    Raises:
        PoseDreamerError: `error`, in one line: no such folder, and no such model on the hub, or no way to it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_name(name):
        raise error(f"{name}: no such folder, and not a name on the model hub (owner/model)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(LOADED)))
    except Exception as found:
        if not is_no_answer(found):
            raise
        at = f" at {revision}" if revision else ""
        raise error(f"{name}{at} cannot be fetched from the model hub ({no_answer(found)})") from found


def is_no_answer(error: Exception) -> bool:
    """Whether an error is of the hub or the way to it: without a network it is httpx's or httpx2's, by the library's release."""
    return isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "huggingface"))


def no_answer(error: Exception) -> str:
    """Such an error in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def is_here(name: str, revision: str | None) -> bool:
    """Whether a model of the hub, or one file of it, was fetched before."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if (one := file_of_model(name)) is not None:
        return isinstance(try_to_load_from_cache(*one, revision=revision), str)
    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return False
    return any(folder.rglob("*.safetensors"))


def ask(name: str, revision: str | None) -> str:
    """Why the hub would not give a model, or one file of it, in words with the remedy; empty where it would."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE forbids to download it: unset it"
    model = (file_of_model(name) or (name,))[0]
    try:
        HfApi().auth_check(model)  # what a gated model is, is told to everybody; its files are not given to everybody
        if revision is not None:
            HfApi().model_info(model, revision=revision)
    except GatedRepoError:
        return "its licence has to be agreed to: on the model's page, then `hf auth login` or HF_TOKEN"
    except RevisionNotFoundError:
        return f"the hub has no revision {revision!r} of it"
    except RepositoryNotFoundError:
        return "the hub has none of that name, or hides it"
    except Exception as error:
        if not is_no_answer(error):
            raise
        return f"the hub cannot be reached ({type(error).__name__})"
    return ""
