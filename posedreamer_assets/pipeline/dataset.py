"""What people train on: the kept rows of a round, and their release as a whole with a card."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage, copied
from posedreamer_assets.scoring.verdict import filter_in_words
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.rows import images

TABLE = "dataset"
_SHOWN = 12
_COUNTED = ("round", "split", "licence", "source")
_CARD = """\
# Dataset card

{kept} images of {width}x{height} pixels with SMPL-X parameters, camera, COCO keypoints and SMPL-X joints.
Made by PoseDreamer Assets with the profile `{profile}`, seed {seed}.

| | |
|---|---|
| Body model | {body} |
| Generator | {generator} |
| Rounds | {round} |
| Splits | {split} |
| Test images | none of these: `posedreamer students bench-export` writes those of a study |
| Sources of the poses | {source} |
| Licences of the poses | {licence} |
| Filter | {filter} |

All frames of a clip, and a procedural pose, are of one split.

Frames: world is metres, y up; camera is OpenCV's (x right, y down, z forward), x_cam = R x_world + t; pixel (0, 0)
is the corner of the image. Labels belong to the body model above and do not transfer to another one.
"""


def make(inputs: Inputs) -> Made:
    """The rows that the filter keeps."""
    import pyarrow.compute as pc

    rows = inputs.rows("filtered_dataset").filter(pc.field("keep")).select(SCHEMAS[TABLE].names)
    some = rows.column("sample_id").slice(0, _SHOWN).to_pylist()
    pictures = images(inputs.take("raw_generations", some, ("image",)), "image") if some else None
    return Made(rows.cast(SCHEMAS[TABLE]), pictures=pictures)


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many there are."""
    return {"kept": rows.num_rows}


STAGE = Stage(
    TABLE,
    "One row per kept image of the round: label, camera, split and licence; the image itself is in `raw_generations`.",
    make,
    "3",
    table=TABLE,
    reads=(
        Reads("filtered_dataset", tuple(SCHEMAS["filtered_dataset"].names)),
        Reads("raw_generations", ("image",)),
    ),
    seeded=False,
    origins=lambda profile: copied("filtered_dataset", *SCHEMAS[TABLE].names),
    figures=figures,
    kinds=frozenset(("lance",)),
)


# The release


def make_release(inputs: Inputs) -> Made:
    """Counts and card of everything that is kept; the runtime tags the tables as they are."""
    kept = inputs.rows(TABLE, _COUNTED)
    counts = {name: dict(Counter(kept.column(name).to_pylist())) for name in _COUNTED}
    facts = {
        "kept": kept.num_rows,
        "rounds": counts["round"],
        "splits": counts["split"],
        "licences": counts["licence"],
        "sources": counts["source"],
        "filter": filter_in_words(inputs.profile.curation),
        "body": str(inputs.checkpoint("body_model").metrics.get("name")),
        "generator": str(inputs.checkpoint("control_checkpoint").metrics.get("name")),
    }
    contents = {**facts, "partitions": inputs.contents(TABLE)}
    (inputs.place / "card.md").write_text(_card(inputs.profile, facts, counts))
    (inputs.place / "contents.json").write_text(json.dumps(contents, indent=2, sort_keys=True))
    return Made(figures=facts, pictures=_some_images(inputs))


def _card(profile: Profile, facts: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]]) -> str:
    listed = {
        name: ", ".join(f"{value} {count}" for value, count in sorted(found.items())) or "none"
        for name, found in counts.items()
    }
    size = {"width": profile.image.width, "height": profile.image.height}
    return _CARD.format(**{**facts, **listed, **size, "profile": profile.name, "seed": profile.seed})


def _some_images(inputs: Inputs) -> np.ndarray | None:
    """Images of the dataset, spread evenly over it."""
    ids = inputs.rows(TABLE, ("sample_id",)).column("sample_id").to_pylist()
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, min(_SHOWN, len(ids))).astype(int)]
    return images(inputs.take("raw_generations", chosen, ("image",)), "image") if chosen else None


def release(groups: tuple[str, ...]) -> Stage:
    """The union of all rounds' kept rows."""
    return Stage(
        "dataset_release",
        "One release of table `dataset`: its rows of all rounds, with a card and counts; tagged, with the images behind it, "
        "so that it stays as it is.",
        make_release,
        "2",
        settings=("curation", "image"),
        reads=(Reads(TABLE, _COUNTED, groups), Reads("raw_generations", ("image",), groups)),
        checkpoints=("body_model", "control_checkpoint"),
        seeded=False,
        releases=(TABLE, "raw_generations", "checkpoints"),
        prunes=TABLE,
        ui_group="dataset",
        kinds=frozenset(("lance",)),
        starts="union",
    )
