"""An export from a store: what the command does."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.card import describe
from posedreamer_assets.export.formats import FORMATS
from posedreamer_assets.export.shards import Options, Result, export, finish
from posedreamer_assets.export.source import StoreReader, VersionedReader
from posedreamer_assets.export.subject import Subject

if TYPE_CHECKING:
    from posedreamer_assets.body.transfer import SmplConverter
    from posedreamer_assets.storage import LanceStore


@dataclass(frozen=True)
class Request:
    """What to export, beside the options of the engine.

    Attributes:
        form: name of the format.
        folder: where to.
        version: a version or tag of `dataset`; None takes the newest.
        mean_hands: hands relative to the mean hand of the body's file, not to the flat hand.
        smpl: an SMPL model and the matrix that leads to it from SMPL-X, npz or safetensors; None leaves SMPL out.
    """

    form: str
    folder: Path
    version: int | str | None = None
    mean_hands: bool = False
    smpl: tuple[Path, Path] | None = None


def export_dataset(
    store: "LanceStore",
    profile: Profile,
    request: Request,
    options: Options,
    reader: VersionedReader | None = None,
) -> Result:
    """Write the dataset, or finish an export that was interrupted; then the card and the list of checksums.

    Of the profile only the body is taken, and the rows are compared with it: the card says what the rows say.

    Args:
        store: where the dataset is.
        profile: of the home.
        request: what is written and where to.
        options: of the engine.
        reader: gives other rows in the dataset's place, such as those of a recipe; `request.version` is then left alone.

    Raises:
        ExportError: an unknown format, a folder that holds something else, images that were made again since the dataset
            was, or rows or a body that the format cannot hold.
        BodyModelError: a body or transfer file that cannot be used.
        StorageError: there is no dataset yet.
    """
    if request.form not in FORMATS:
        raise ExportError(f"unknown format {request.form!r}; known: {', '.join(FORMATS)}")
    form = FORMATS[request.form]
    if reader is None:
        reader = StoreReader(store, request.version)
    subject = Subject.load(profile.body.model_path, request.mean_hands, _converter(profile, request))
    result = export(reader, subject, form, request.folder, options)
    finish(request.folder, form, result, describe(form, result, reader.versions))
    return result


def _converter(profile: Profile, request: Request) -> "SmplConverter | None":
    if request.smpl is None:
        return None
    import torch

    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.body.transfer import SmplConverter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return SmplConverter.load(load_body(profile.body.model_path), *request.smpl, device=device)
