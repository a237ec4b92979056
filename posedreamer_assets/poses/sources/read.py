"""Pose files of a folder: which there are, of what kind, on which terms; bad ones are set aside with a reason.

`READERS` lists the kinds. A new one is a module with a `Reader`, and an entry here.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.paths import LICENCE_NAMES, actual_path, shown_path, walk
from posedreamer_assets.poses.sources.amass import AMASS, SHAPE
from posedreamer_assets.poses.sources.bvh import read_bvh
from posedreamer_assets.poses.sources.fits import FITS
from posedreamer_assets.poses.sources.frames import PoseFrames
from posedreamer_assets.poses.sources.hands import HandSpace
from posedreamer_assets.poses.sources.labels import BEDLAM, HMR2, HMR2_TAR, HUMANDATA
from posedreamer_assets.poses.sources.motionx import MOTIONX
from posedreamer_assets.poses.sources.people import PEOPLE
from posedreamer_assets.poses.sources.reader import PoseFile, Reader, ReadOptions
from posedreamer_assets.poses.sources.unread import how_to_convert
from posedreamer_assets.progress import track


def _read_bvh(file: PoseFile, options: ReadOptions) -> list[PoseFrames]:
    return read_bvh(
        file.path,
        stride_s=options.stride_s,
        seed=options.seed,
        licence=options.licence,
        body=options.body,
        up_axis=options.up_axis,
        sketches=options.sketches,
    )


BVH = Reader("bvh", "BVH mocap", (".bvh",), lambda file: True, _read_bvh)
READERS: tuple[Reader, ...] = (BVH, SHAPE, PEOPLE, BEDLAM, HUMANDATA, HMR2, AMASS, FITS, MOTIONX, HMR2_TAR)
"""All kinds of pose files; the first whose suffix fits and which knows the contents reads a file."""

SUFFIXES = tuple(dict.fromkeys(suffix for reader in READERS for suffix in reader.suffixes))
_SHAPE_FILE = "_stagei.npz"  # AMASS's shapes, beside the clips of the same person


def is_pose_file(name: str) -> bool:
    """Whether a file of this name is one to read."""
    lower = name.lower()
    return lower.endswith(SUFFIXES) and not lower.endswith(_SHAPE_FILE) and not name.startswith(".")


def scan_folder(path: Path | str) -> list[Path]:
    """All pose files below a folder (or the file itself), sorted by path; hidden ones are left out.

    Raises:
        PoseFileError: `empty` when there is no such folder.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise PoseFileError(shown_path(root), "empty", "no such file or folder")
    return sorted(file for file in walk(root) if is_pose_file(file.name))


def read_clips(path: Path | str, options: ReadOptions) -> list[PoseFrames]:
    """All clips of one pose file of any known kind.

    Raises:
        PoseFileError: the whole file is unusable; single bad frames are in `rejected` of the clips instead.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    fitting = [reader for reader in READERS if suffix in reader.suffixes]
    if not fitting:
        expected = ", ".join(SUFFIXES)
        raise PoseFileError(path, "unknown_layout", how_to_convert(suffix) or f"suffix {suffix!r}, expected {expected}")
    file = PoseFile(path)
    try:
        for reader in fitting:
            if reader.reads(file):
                return reader.read(file, options)
    except MemoryError as error:
        raise PoseFileError(path, "absurd_value", "takes more memory than there is") from error
    raise _unknown(file)


def _unknown(file: PoseFile) -> PoseFileError:
    """Why no reader knows an npz."""
    arrays = file.arrays
    names = arrays.names()
    if any(arrays.is_pickled(name) for name in names):
        detail = f"its arrays are pickled, and pickles are never loaded (docs/poses.md); holds {arrays.summary()}"
        return PoseFileError(file.path, "pickle", detail)
    if any("joint" in name.lower() or "kp3d" in name.lower() or "keypoints3d" in name.lower() for name in names):
        detail = f"positions of joints without their rotations (docs/poses.md); holds {arrays.summary()}"
        return PoseFileError(file.path, "unknown_layout", detail)
    return PoseFileError(file.path, "unknown_layout", f"neither a clip nor fits; holds {arrays.summary()}")


def read_pose_file(
    path: Path | str,
    *,
    stride_s: float,
    seed: int,
    body: BodyModel | None = None,
    licence: str | None = None,
    up_axis: str = "auto",
) -> PoseFrames:
    """Read a pose file that holds one clip.

    Args:
        path: the file.
        stride_s: time between two frames taken from a clip, seconds.
        seed: chooses the phase of the stride.
        body: the body that poses are for; the shipped free body by default.
        licence: terms to record; by default those in the file, beside it, or "unknown: see <file>".
        up_axis: the axis that points up in the file; "auto" decides.

    Raises:
        PoseFileError: the whole file is unusable, or holds several clips or none.
    """
    path = Path(path)
    terms = licence or folder_licence(path.parent, path.parent) or f"unknown: see {shown_path(path.name)}"
    clips = read_clips(path, ReadOptions(stride_s, seed, terms, body or load_body(), up_axis))
    if len(clips) != 1:
        raise PoseFileError(path, "unknown_layout", f"holds {len(clips)} clips, expected one")
    return clips[0]


def read_folder(
    path: Path | str,
    *,
    stride_s: float,
    seed: int,
    body: BodyModel | None = None,
    files: Iterable[Path] | None = None,
    up_axis: str = "auto",
    hands: HandSpace | None = None,
    sketches: int = 0,
) -> tuple[list[PoseFrames], list[PoseFileError]]:
    """Read every pose file below a folder, in sorted order, or only the given `files` of it, in theirs.

    Names of frames and paths of errors are those below the folder, spelt so that they are always text.

    Args:
        path: the folder, or a file.
        stride_s: time between two frames taken from a clip, seconds.
        seed: chooses the phase of the stride.
        body: that the poses are for; the shipped free body by default.
        files: of the folder; all by default.
        up_axis: the axis that points up in the files; "auto" decides from each.
        hands: the body's hand components.
        sketches: of how many frames of each clip to keep the source's own skeleton.

    Returns:
        The clips of the readable files, and an error for each file or single frame that was set aside.
    """
    root = Path(path)
    top = root if root.is_dir() else root.parent
    body = body or load_body()
    clips: list[PoseFrames] = []
    errors: list[PoseFileError] = []
    for name in track(scan_folder(root) if files is None else files):
        file = actual_path(Path(name))
        terms = folder_licence(file.parent, top) or f"unknown: see {shown_path(file.name)}"
        try:
            found = read_clips(file, ReadOptions(stride_s, seed, terms, body, up_axis, hands, sketches))
        except PoseFileError as error:
            errors.append(_placed_error(error, file, top))
            continue
        for clip in found:
            clips.append(_placed(clip, file, top))
            errors.extend(clips[-1].rejected)
    return clips, errors


def _placed(clip: PoseFrames, file: Path, top: Path) -> PoseFrames:
    """The clip with names that begin with the file's path below the folder."""
    place = _below(file, top)
    names = [f"{place}#{name.rpartition('#')[2]}" for name in clip.names]
    rejected = tuple(_placed_error(error, file, top) for error in clip.rejected)
    return replace(clip, names=names, rejected=rejected, family=shown_path(clip.family))


def _placed_error(error: PoseFileError, file: Path, top: Path) -> PoseFileError:
    return PoseFileError(_below(file, top), error.reason, error.detail)


def _below(file: Path, top: Path) -> str:
    return shown_path(file.relative_to(top) if file.is_relative_to(top) else file.name)


def folder_licence(folder: Path, top: Path) -> str | None:
    """The title of the nearest licence file in `folder` or above it, up to `top`, with the file's name."""
    for place in _upwards(folder, top):
        for name in LICENCE_NAMES:
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
