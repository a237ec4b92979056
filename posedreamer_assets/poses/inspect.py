"""What pose files are, told before any run: one finding a file, whether it can be read or not."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
        kind: as its reader states.
        poses: how many a run would take, one for each `poses.frame_stride_s`.
        fps: of the file; 0 for fits.
        stature_m: sole to crown of the first pose's body in the T-pose; without betas a run draws its own.
        has_betas: whether the file brings a shape that is used.
        airborne: share of some frames in which the body flies; in all others it has been put on the ground.
        sole_pitch_deg: median angle to the ground of feet that stand on it in these frames; None where none does.
        notes: what was assumed or dropped; the up axis and how sure it is are among them.
    """

    kind: str
    poses: int
    fps: float
    stature_m: float
    has_betas: bool
    airborne: float
    sole_pitch_deg: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FileFinding:
    """One file: its clips, and what of it was refused, as (reason, detail); without clips all of it was."""

    path: str
    clips: tuple[ClipFinding, ...]
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Totals:
    """Counts: files read by kind, files refused by reason, files of which single frames were refused."""

    read: dict[str, int]
    refused: dict[str, int]
    partly: int


def inspect_files(
    folder: Folder,
    paths: Iterable[str],
    *,
    stride_s: float,
    seed: int,
    body: BodyModel,
    up_axis: str = "auto",
    hands: HandSpace | None = None,
) -> Iterator[FileFinding]:
    """Look at files of a folder one after another; a bad one is a finding, too. One file's poses are held at a time."""
    for path in paths:
        try:
            top = folder.local_copy([path])
            clips, errors = read_folder(
                top, stride_s=stride_s, seed=seed, body=body, files=[top / path], up_axis=up_axis, hands=hands
            )
        except OSError as error:
            yield FileFinding(shown_path(path), (), (("unreadable", error.strerror or str(error)),))
            continue
        found = tuple(_look_at(body, clip) for clip in clips if len(clip))
        yield FileFinding(path, found, _refused(errors) or (() if found else (("empty", "holds no poses"),)))


def totals_of(findings: Sequence[FileFinding]) -> Totals:
    """Count files; one with clips of two kinds counts as its first, one refused for several reasons under the first."""
    read = Counter(finding.clips[0].kind for finding in findings if finding.clips)
    refused = Counter(finding.refused[0][0] for finding in findings if not finding.clips)
    partly = sum(bool(finding.clips and finding.refused) for finding in findings)
    return Totals(dict(read.most_common()), dict(refused.most_common()), partly)


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
        clip.kind,
        len(clip),
        float(clip.fps),
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
