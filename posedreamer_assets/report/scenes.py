"""The report's section on the study `learning_to_train`: scenes of many people, and people over photographs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from posedreamer_assets.config import BACKGROUND_STUDY
from posedreamer_assets.report.html import Note, PanelRow, Panels, Section, Table
from posedreamer_assets.report.reading import rows_of, spread
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.scenes.points import MPII16, MPII_LIMBS
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import PHOTO, SCENE

_STUDY = "learning_to_train"
_SHOWN = 6
_NAMES = {"ds": "Scenes (D_S)", "dm": "People over photographs (D_M)"}
_OF = {"ds": (SCENE,), "dm": (PHOTO,)}
_PERSON = (
    "image_id",
    "person",
    "origin",
    "mpii_2d",
    "mpii_labelled",
    "mpii_visible",
    "visible_ratio",
    "min_distance_px",
)
# Colours that neighbours can be told apart by; people share them in turn.
_COLOURS = np.array(
    [(230, 90, 80), (90, 170, 240), (245, 190, 60), (110, 200, 120), (190, 120, 230), (240, 140, 190), (120, 210, 210)],
    np.uint8,
)


def scenes_section(snapshot: Snapshot) -> Section | None:
    """Figures and examples of what is up to date; None where the study was not asked for, or has made nothing."""
    if _STUDY not in snapshot.profile.studies:
        return None
    figures = [line for part in _NAMES if (line := _figures(snapshot, part)) is not None]
    if not figures:
        return None
    columns = ("", "images", "people drawn", "placed", "annotated", "joints seen", "nearest other, px")
    blocks: list[Any] = [Table(columns, figures, caption="Joints seen: mean share of the joints in the image.")]
    if snapshot.profile.photos.kind == "stand_in":
        text = "Photographs are a rendered stand-in, held apart from the scenes: nothing here says anything about photographs."
        blocks.append(Note(text, "warn"))
    for part, title in _NAMES.items():
        if rows := _examples(snapshot, part):
            caption = "Filled: a joint that is seen. Hollow: one that is hidden. White: annotated in the photograph."
            blocks.append(Panels(rows, title, caption))
    return Section("Learning to train: scenes of many people", blocks, "Everything is known of synthetic people.")


def scenes_figures(snapshot: Snapshot) -> dict[str, Any]:
    """Counts of what is up to date of the study: backgrounds by verdict, images and synthetic people of D_S and D_M.

    Empty where the study was not asked for, or has made nothing.
    """
    if _STUDY not in snapshot.profile.studies:
        return {}
    found: dict[str, Any] = {}
    for part in _NAMES:
        if (line := _figures(snapshot, part)) is not None:
            found[part] = {"images": line[1], "people_drawn": line[2], "people_placed": line[3], "annotated": line[4]}
    if BACKGROUND_STUDY in snapshot.profile.studies:
        rows = rows_of(snapshot, snapshot.graph["ds/backgrounds"], ["reason"])
        found["backgrounds"] = {} if rows is None else dict(Counter(rows.column("reason").to_pylist()))
    return {name: of for name, of in found.items() if of}


def _figures(snapshot: Snapshot, part: str) -> list[Any] | None:
    layouts = rows_of(snapshot, snapshot.graph[f"{part}/scene_layouts"], ["image_id", "people_drawn"], _OF[part])
    people = rows_of(
        snapshot, snapshot.graph[f"{part}/scene_people"], ["origin", "visible_ratio", "min_distance_px"], _OF[part]
    )
    if layouts is None or people is None:
        return None
    drawn = dict(zip(layouts.column("image_id").to_pylist(), layouts.column("people_drawn").to_pylist(), strict=True))
    distances = [value for value in people.column("min_distance_px").to_pylist() if value is not None]
    seen = people.column("visible_ratio").to_pylist()
    annotated = people.column("origin").to_pylist().count("photo")
    means = [f"{np.mean(seen):.2f}", f"{np.mean(distances):.0f}" if distances else "–"]
    return [_NAMES[part], len(drawn), sum(drawn.values()), layouts.num_rows, annotated, *means]


def _examples(snapshot: Snapshot, part: str) -> list[PanelRow]:
    """Some images with who is where and what of them is seen."""
    stage = snapshot.graph[f"{part}/scene_images"]
    listed = rows_of(snapshot, stage, ["sample_id"], _OF[part])
    labels = rows_of(snapshot, snapshot.graph[f"{part}/scene_people"], _PERSON, _OF[part])
    if listed is None or labels is None:
        return []
    people: dict[str, list[dict[str, Any]]] = {}
    for row in labels.to_pylist():
        people.setdefault(row["image_id"], []).append(row)
    # Labels of a partition may be missing or out of date while its images are not.
    names = [name for name in listed.column("sample_id").to_pylist() if name in people]
    chosen = [names[int(i)] for i in spread(len(names), _SHOWN)]
    images = snapshot.store.take("scene_images", chosen, columns=["sample_id", "image", "instances"]).to_pylist()
    styled = _styled(snapshot, chosen) if part == "dm" else {}
    return [_panel(row, people[row["sample_id"]], styled) for row in images]


def _styled(snapshot: Snapshot, names: Sequence[str]) -> dict[str, bytes]:
    found = rows_of(snapshot, snapshot.graph["dm/styled_images"], ["sample_id"])
    if found is None:
        return {}
    there = [name for name in names if name in set(found.column("sample_id").to_pylist())]
    rows = snapshot.store.take("styled_images", there, columns=["sample_id", "image"]).to_pylist()
    return {row["sample_id"]: row["image"] for row in rows}


def _panel(row: Mapping[str, Any], people: Sequence[Mapping[str, Any]], styled: Mapping[str, bytes]) -> PanelRow:
    image, instances = decode(row["image"]), decode(row["instances"])
    pictures = {"image": image, "joints": with_joints(image, instances, people)}
    if row["sample_id"] in styled:
        pictures["style"] = decode(styled[row["sample_id"]])
    seen = np.mean([person["visible_ratio"] for person in people])
    return PanelRow(pictures, row["sample_id"], {"people": len(people), "joints seen": f"{seen:.2f}"})


def with_joints(image: np.ndarray, instances: np.ndarray, people: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The image with everybody in a colour, and MPII's joints: filled where seen, hollow where hidden."""
    tint = _COLOURS[(instances.astype(int) - 1) % len(_COLOURS)]
    shown = np.where(instances[..., None] > 0, image // 2 + tint // 2, image)
    picture = Image.fromarray(shown.astype(np.uint8))
    pen, radius = ImageDraw.Draw(picture), max(1.5, max(image.shape) / 160)
    for person in people:
        points = np.array(person["mpii_2d"]).reshape(len(MPII16), 2)
        known, seen = person["mpii_labelled"], person["mpii_visible"]
        colour = tuple(int(v) for v in _COLOURS[person["person"] % len(_COLOURS)])
        colour = colour if person["origin"] == "synthetic" else (255, 255, 255)
        for a, b in MPII_LIMBS:
            if known[a] and known[b]:
                pen.line((*points[a], *points[b]), fill=colour, width=1)
        for (x, y), there, is_seen in zip(points, known, seen, strict=True):
            if there:
                box = (x - radius, y - radius, x + radius, y + radius)
                pen.ellipse(box, fill=colour if is_seen else None, outline=colour if not is_seen else (20, 20, 20))
    return np.asarray(picture)
