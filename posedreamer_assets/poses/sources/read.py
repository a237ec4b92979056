"""Pose files of a folder: which there are, of what kind, on which terms; bad ones are set aside with a reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.amass import is_amass, read_amass
from posedreamer_assets.poses.sources.bvh import read_bvh
from posedreamer_assets.poses.sources.fits import is_fits, read_fits
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.npz import NpzArrays
from posedreamer_assets.progress import track

_SUFFIXES = (".bvh", ".npz")
_LICENCE_FILES = ("LICENSE", "LICENCE", "licence.txt", "license.txt", "LICENSE.txt", "LICENCE.txt", "LICENSE.md")
_LICENCE_KEYS = ("licence", "license")


@dataclass(frozen=True)
class PoseFolder:
    """A `PoseSource` of all pose files below a folder."""

    path: Path
    body: BodyModel | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def licence(self) -> str:
        """Terms of the folder as a whole; a file may bring its own."""
        return folder_licence(self.path, self.path) or f"unknown: see {self.path.name}"

    def frames(self, *, stride_s: float, seed: int) -> tuple[list[PoseFrames], list[PoseFileError]]:
        """Poses of every readable file, and what was set aside."""
        return read_folder(self.path, stride_s=stride_s, seed=seed, body=self.body)


def scan_folder(path: Path | str) -> list[Path]:
    """All BVH and npz files below a folder (or the file itself), sorted by path; hidden ones are left out.

    Raises:
        PoseFileError: `empty` when there is no such folder.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise PoseFileError(root, "empty", "no such file or folder")
    found = (p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))


def read_pose_file(
    path: Path | str, *, stride_s: float, seed: int, body: BodyModel | None = None, licence: str | None = None
) -> PoseFrames:
    """Read one pose file of any known kind.

    Args:
        path: a .bvh file, or an .npz in an AMASS layout or with per-image fits.
        stride_s: time between two frames taken from a clip, seconds.
        seed: chooses the phase of the stride.
        body: the body that poses are for; the shipped free body by default.
        licence: terms to record; by default those in the file, beside it, or "unknown: see <file>".

    Raises:
        PoseFileError: the whole file is unusable; single bad frames are in `rejected` of the result instead.
    """
    path = Path(path)
    body = body or load_body()
    if path.suffix.lower() == ".bvh":
        terms = licence or folder_licence(path.parent, path.parent) or f"unknown: see {path.name}"
        return read_bvh(path, stride_s=stride_s, seed=seed, licence=terms, body=body)
    if path.suffix.lower() != ".npz":
        raise PoseFileError(path, "unknown_layout", f"suffix {path.suffix!r}, expected .bvh or .npz")
    arrays = NpzArrays(path)
    terms = _npz_licence(arrays) or licence or folder_licence(path.parent, path.parent) or f"unknown: see {path.name}"
    if is_amass(arrays):
        return read_amass(arrays, stride_s=stride_s, seed=seed, licence=terms, body=body)
    if is_fits(arrays):
        return read_fits(arrays, licence=terms, body=body)
    raise PoseFileError(
        path, "unknown_layout", f"neither an AMASS clip nor fits; holds {', '.join(arrays.names()[:20]) or 'nothing'}"
    )


def read_folder(
    path: Path | str,
    *,
    stride_s: float,
    seed: int,
    body: BodyModel | None = None,
    files: Iterable[Path] | None = None,
) -> tuple[list[PoseFrames], list[PoseFileError]]:
    """Read every pose file below a folder, in sorted order, or only the given `files` of it, in theirs.

    Returns:
        The readable files, and an error for each file or single frame that was set aside.
    """
    root = Path(path)
    body = body or load_body()
    clips: list[PoseFrames] = []
    errors: list[PoseFileError] = []
    for file in track(scan_folder(root) if files is None else files):
        try:
            terms = folder_licence(file.parent, root if root.is_dir() else file.parent)
            clip = read_pose_file(file, stride_s=stride_s, seed=seed, body=body, licence=terms)
        except PoseFileError as error:
            errors.append(error)
            continue
        clips.append(clip)
        errors.extend(clip.rejected)
    return clips, errors


def folder_licence(folder: Path, top: Path) -> str | None:
    """The title of the nearest licence file in `folder` or above it, up to `top`, with the file's name."""
    for place in _upwards(folder, top):
        for name in _LICENCE_FILES:
            file = place / name
            if file.is_file():
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                title = next((line.strip() for line in lines if line.strip()), "")
                return f"{title[:120]} (see {name})" if title else f"see {name}"
    return None


def _upwards(folder: Path, top: Path) -> Iterable[Path]:
    yield folder
    while folder != top and top in folder.parents:
        folder = folder.parent
        yield folder


def _npz_licence(arrays: NpzArrays) -> str | None:
    key = next((key for key in _LICENCE_KEYS if key in arrays), None)
    return (arrays.text(key) or [None])[0] if key else None
