"""What pose files are, told before any run: one finding a file, whether it can be read or not."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.floor import lowest_points_m, sole_pitch_deg
from posedreamer_assets.poses.folder import Folder
from posedreamer_assets.poses.paths import shown_path
from posedreamer_assets.poses.sources import HandSpace, PoseFrames, read_folder
from posedreamer_assets.poses.stature import stature_m

AIRBORNE_M = 0.03
FRAMES_LOOKED_AT = 5  # of each clip, spread evenly: figures need a body's surface, which is slow


@dataclass(frozen=True)
class ClipFinding:
    """One person's clip in a file.

    Attributes:
        name: the clip's name: the file's, with the person's number where it holds several.
        kind: as its reader states.
        frames: that the file holds of this person.
        poses: how many a run would take, one for each `poses.frame_stride_s`.
        fps: of the file, or assumed with a note; 0 for fits.
        up_axis: the axis that points up in the file; empty for fits, which are in a camera's axes.
        up_axis_sure: how sure that is, 0.5 to 1; None for fits.
        stature_m: sole to crown of the first pose's body in the T-pose; without betas a run draws its own.
        has_betas: whether the file brings a shape that is used.
        airborne: share of some frames in which the body flies; in all others it has been put on the ground.
        sole_pitch_deg: median angle to the ground of feet that stand on it in these frames; None where none does.
        notes: what was assumed or dropped; the up axis and how sure it is are among them.
    """

    name: str
    kind: str
    frames: int
    poses: int
    fps: float
    up_axis: str
    up_axis_sure: float | None
    stature_m: float
    has_betas: bool
    airborne: float
    sole_pitch_deg: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FileFinding:
    """One file: its clips, and what of it was refused, as (reason, detail).

    Without clips all of it was; or, where nothing was refused, it rightly holds no pose, as AMASS's shape files.
    """

    path: str
    clips: tuple[ClipFinding, ...]
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Totals:
    """Counts: files read by kind, files refused by reason, files of which single frames were refused, files that
    rightly hold no pose."""

    read: dict[str, int]
    refused: dict[str, int]
    partly: int
    poseless: int


def inspect_files(
    folder: Folder,
    paths: Iterable[str],
    *,
    stride_s: float,
    seed: int,
    body: BodyModel,
    up_axis: str = "auto",
    hands: HandSpace | None = None,
    look: Callable[[str, Sequence[PoseFrames]], None] | None = None,
    sketches: int = 0,
) -> Iterator[FileFinding]:
    """Look at files of a folder one after another; a bad one is a finding, too. One file's poses are held at a time.

    Args:
        folder: that the files lie in.
        paths: of the files, relative to it.
        stride_s: time between two poses, seconds.
        seed: of the run that would take them.
        body: that the poses are for.
        up_axis: the axis that points up in the files; "auto" decides from each.
        hands: the body's hand components.
        look: is given each file's path and clips.
        sketches: of how many frames of each clip `look` wants the source's own skeleton.
    """
    for path in paths:
        try:
            top = folder.local_copy([path])
            clips, errors = read_folder(
                top,
                stride_s=stride_s,
                seed=seed,
                body=body,
                files=[top / path],
                up_axis=up_axis,
                hands=hands,
                sketches=sketches,
            )
        except OSError as error:
            yield FileFinding(shown_path(path), (), (("unreadable", error.strerror or str(error)),))
            continue
        clips = [clip for clip in clips if len(clip)]
        if look is not None:
            look(path, clips)
        yield FileFinding(path, tuple(_look_at(body, clip) for clip in clips), _refused(errors))


def totals_of(findings: Sequence[FileFinding]) -> Totals:
    """Count files; one with clips of two kinds counts as its first, one refused for several reasons under the first."""
    read = Counter(finding.clips[0].kind for finding in findings if finding.clips)
    refused = Counter(finding.refused[0][0] for finding in findings if finding.refused and not finding.clips)
    partly = sum(bool(finding.clips and finding.refused) for finding in findings)
    poseless = sum(not finding.clips and not finding.refused for finding in findings)
    return Totals(dict(read.most_common()), dict(refused.most_common()), partly, poseless)


def folder_of(place: Path | str) -> Folder:
    """The folder or file, listed.

    Raises:
        PoseFileError: there is none, or it is a file in a format that is not read.
    """
    folder = Folder(str(place))
    if not folder.stamps and not folder.unread():
        raise PoseFileError(folder.root, "empty", "no pose files: BVH, npz, npy or tar")
    return folder


def _refused(errors: Sequence[PoseFileError]) -> tuple[tuple[str, str], ...]:
    return tuple((error.reason, error.detail) for error in errors)


def _look_at(body: BodyModel, clip: PoseFrames) -> ClipFinding:
    count = min(FRAMES_LOOKED_AT, len(clip))
    params = clip.params.take(np.unique(np.linspace(0, len(clip) - 1, count).round().astype(int)))
    return ClipFinding(
        clip.family,
        clip.kind,
        clip.count,
        len(clip),
        float(clip.fps),
        clip.up_axis,
        None if clip.up_axis_sure is None else round(float(clip.up_axis_sure), 4),
        float(stature_m(body, params.betas[:1])[0]),
        bool(params.betas.any()),
        float((lowest_points_m(body, params) > AIRBORNE_M).mean()),
        _median(np.abs(sole_pitch_deg(body, params))),
        clip.notes,
    )


def _median(values: np.ndarray) -> float | None:
    """Median of the finite values; a foot in the air has none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None
