"""The dataset: kept rows of both rounds, their counts and a card."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from posedreamer_assets.config import Profile
from posedreamer_assets.digests import digest
from posedreamer_assets.progress import track
from posedreamer_assets.tables.fields import DATASET
from posedreamer_assets.tables.images import decode_all

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

_CARD = """\
# Dataset card

{kept} images of {width}x{height} pixels with SMPL-X parameters, camera, COCO keypoints and SMPL-X joints.
Made by PoseDreamer Assets with the profile `{profile}`, seed {seed}.

| | |
|---|---|
| Body model | {body} |
| Generator | {generator} |
| Rounds | {rounds} |
| Splits | {splits} |
| Licences of the poses | {licences} |
| Filter | OKS at least {min_oks}, at most {max_people} people, head within {max_head} degrees |

Frames: world is metres, y up; camera is OpenCV's (x right, y down, z forward), x_cam = R x_world + t; pixel (0, 0)
is the corner of the image. Labels belong to the body model above and do not transfer to another one.
"""


def collect(
    profile: Profile, store: "LanceStore", base: Sequence[str], hard: Sequence[str]
) -> Callable[[Path], dict[str, Any]]:
    """Write table `dataset`, one partition for each filtered one that has changed; the result writes the card and returns
    its counts.
    """
    sources = dict.fromkeys(base, "base_filtered_dataset") | dict.fromkeys(hard, "hard_filtered_dataset")
    verdicts = {table: store.partitions(table) for table in set(sources.values())}
    stored = store.partitions("dataset")
    contents: dict[str, str] = {}
    for key, table in track(sources.items()):
        input_digest = digest({"stage": "dataset", "rows": verdicts[table][key].content_digest})
        info = stored.get(key)
        if info is None or info.input_digest != input_digest:
            rows = store.read(table, keys=[key]).filter(pc.field("keep")).select(DATASET.names)
            info = store.replace_partition("dataset", key, rows, input_digest=input_digest)
        contents[key] = info.content_digest
    for key in set(stored) - set(sources):
        store.delete_partition("dataset", key)
    kept = store.read("dataset", columns=["round", "split", "licence"], missing_ok=True)
    rounds, splits, licences = (Counter(kept.column(name).to_pylist()) for name in ("round", "split", "licence"))
    counts = {"kept": sum(rounds.values()), "rounds": dict(rounds), "splits": dict(splits), "licences": dict(licences)}

    def write(folder: Path) -> dict[str, Any]:
        (folder / "card.md").write_text(_card(profile, store, counts))
        (folder / "contents.json").write_text(json.dumps({**counts, "partitions": contents}, indent=2, sort_keys=True))
        return counts

    return write


def some_images(store: "LanceStore", most: int = 12) -> np.ndarray:
    """Images of the dataset, spread evenly over it: (n, h, w, 3); n is 0 where it is empty."""
    ids = store.read("dataset", columns=["sample_id"], missing_ok=True).column("sample_id").to_pylist()
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, min(most, len(ids))).astype(int)]
    if not chosen:
        return np.zeros((0, 1, 1, 3), np.uint8)
    quoted = ", ".join(f"'{name}'" for name in chosen)
    return decode_all(
        store.read("dataset", columns=["image"], filter=f"sample_id IN ({quoted})").column("image").to_pylist()
    )


def _card(profile: Profile, store: "LanceStore", counts: dict[str, Any]) -> str:
    def named(checkpoint: str) -> str:
        found = store.checkpoint(checkpoint)
        return str(found.metrics.get("name")) if found else "unknown"

    def listed(values: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(values.items())) or "none"

    return _CARD.format(
        kept=counts["kept"],
        width=profile.image.width,
        height=profile.image.height,
        profile=profile.name,
        seed=profile.seed,
        body=named("body_model"),
        generator=named("control_checkpoint"),
        rounds=listed(counts["rounds"]),
        splits=listed(counts["splits"]),
        licences=listed(counts["licences"]),
        min_oks=profile.curation.min_oks,
        max_people=profile.curation.max_people,
        max_head=profile.curation.max_head_error_deg,
    )
