"""Which of the user's backgrounds scenes may have: those that are large enough and show nobody."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.stage import Inputs, Made, Stage
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import BACKGROUND, sample_id
from posedreamer_assets.tables.rows import make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.scenes.background_files import BackgroundFile, KeptBackgrounds, Look

TABLE = "backgrounds"
OF_KEPT = ("path", "digest", "keep", "reason")
_PART = 16  # images that are held at once
_SHOWN = 6  # of those kept, and of those with people
_FRAMES = {"kept": (46, 139, 87), "has_people": (200, 60, 50)}


def make(inputs: Inputs) -> Made:
    """A verdict on every image of the batch; a part of them is held at a time."""
    from posedreamer_assets import progress
    from posedreamer_assets.scenes.background_files import KEPT, look_at, reason_of

    least, files = inputs.profile.crowds.min_background_px, files_of(inputs)
    folder = folder_of(inputs.profile)
    rows: list[dict[str, Any]] = []
    shown: dict[str, list[np.ndarray]] = {reason: [] for reason in _FRAMES}
    left = iter(files)
    while part := list(islice(left, _PART)):
        looks = [look_at(folder / file.name, least) for file in progress.track(part)]
        for file, look, (people, score) in zip(part, looks, _counted(inputs, looks), strict=True):
            reason = reason_of(look.size, people, least)
            width, height = look.size or (None, None)
            row = {"path": file.name, "digest": look.digest, "width": width, "height": height}
            rows.append(row | {"people": people, "people_score": score, "keep": reason == KEPT, "reason": reason})
            if look.picture is not None and len(shown[reason]) < _SHOWN:
                shown[reason].append(_framed(look.picture, _FRAMES[reason]))
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["sample_id"] = [sample_id(inputs.key, number) for number in range(len(rows))]
    columns["partition_key"] = [inputs.key] * len(rows)
    pictures = [picture for some in shown.values() for picture in some]
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=np.stack(pictures) if pictures else None)


def _counted(inputs: Inputs, looks: "Sequence[Look]") -> list[tuple[int | None, float | None]]:
    """People of each image and their score; None where the image was refused before."""
    pictures = [look.picture for look in looks if look.picture is not None]
    if not pictures:
        return [(None, None)] * len(looks)
    people, scores = inputs.models.counter.count(np.stack(pictures))
    counted: Iterator[tuple[int, float]] = zip(people.tolist(), scores.tolist(), strict=True)
    return [(None, None) if look.picture is None else next(counted) for look in looks]


def _framed(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A small picture in a frame whose colour is the verdict's."""
    from posedreamer_assets.pipeline.thumbnails import with_keypoints

    small = np.array(with_keypoints(picture, None))
    small[:4] = small[-4:] = colour
    small[:, :4] = small[:, -4:] = colour
    return small


def folder_of(profile: Profile) -> Path:
    """The folder of backgrounds."""
    assert profile.scenes.backgrounds, "there are batches of backgrounds where a folder is named alone"
    return Path(profile.scenes.backgrounds).expanduser()


def files_of(inputs: Inputs) -> "list[BackgroundFile]":
    """The files of the batch, as they lie in the folder now.

    Raises:
        ConfigError: there are none, or not any more.
    """
    from posedreamer_assets.errors import ConfigError
    from posedreamer_assets.scenes.background_files import SETTING, background_files, batches_of

    folder = str(folder_of(inputs.profile))
    found = batches_of(background_files(folder)).get(int(inputs.key.rpartition("-")[2]))
    if not found:
        raise ConfigError(f"{SETTING}: no image in {folder} belongs to {inputs.key} any more; leave that batch out")
    return found


def kept_backgrounds(inputs: Inputs) -> "KeptBackgrounds":
    """What scenes may have behind them, from the verdicts on all batches.

    Raises:
        ConfigError: no image is kept; says why not.
    """
    from posedreamer_assets.errors import ConfigError
    from posedreamer_assets.scenes.background_files import REASONS, SETTING, KeptBackgrounds

    rows = inputs.rows(TABLE, OF_KEPT)
    keep, reasons = rows.column("keep").to_pylist(), rows.column("reason").to_pylist()
    named = zip(texts(rows, "path"), rows.column("digest").to_pylist(), keep, strict=True)
    digests = {name: digest for name, digest, is_kept in named if is_kept}
    if not digests:
        counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in REASONS if reason in reasons)
        raise ConfigError(
            f"{SETTING}: none of {len(reasons)} images in {inputs.profile.scenes.backgrounds} is kept ({counts}); name another "
            "folder or counter, lower crowds.min_background_px, or leave the setting null"
        )
    return KeptBackgrounds(folder_of(inputs.profile), digests)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many images are kept, and how many are refused for what."""
    from posedreamer_assets.scenes.background_files import REASONS

    found = rows.column("reason").to_pylist()
    return {f"images_{reason}": found.count(reason) for reason in REASONS}


def images_of_batch(profile: Profile) -> int:
    """Units of progress of a batch, about."""
    from posedreamer_assets.scenes.background_files import background_files, batches_of

    if not profile.scenes.backgrounds:
        return 1
    files = background_files(profile.scenes.backgrounds)
    return max(1, len(files) // len(batches_of(files)))


STAGE = Stage(
    "ds/backgrounds",
    "One row per image in the folder `scenes.backgrounds`: its size, how many people the counter finds in it, and whether "
    "scenes may have it behind them; if not, why.",
    make,
    "1",
    table=TABLE,
    groups=(BACKGROUND,),
    settings=("crowds.min_background_px", "counter"),
    files=("counter", "background_files"),
    seeded=False,
    figures=figures,
    units=images_of_batch,
    ui_group="scenes",
    kinds=frozenset(("torch", "lance")),
    starts="request",
)
