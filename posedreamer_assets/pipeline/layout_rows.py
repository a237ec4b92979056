"""Rows of `scene_layouts` to the layouts that pictures and labels are made from, and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import BODY, CAMERA, NO_ROOM, SCHEMAS, names_of
from posedreamer_assets.tables.keys import person_id
from posedreamer_assets.tables.rows import array, bodies, cameras, make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.body.params import BodyParams
    from posedreamer_assets.cameras.pinhole import Cameras
    from posedreamer_assets.render.appearance import Appearance
    from posedreamer_assets.render.shading import Light
    from posedreamer_assets.scenes.layout import Layout

TABLE = "scene_layouts"
GEOMETRY = (*names_of(BODY), *names_of(CAMERA))
DRAWN_FROM = (*GEOMETRY, "appearance", "light", "seed")


@dataclass(frozen=True)
class Placed:
    """The people of one image, as rows say.

    Attributes:
        image_id: the image.
        photo_id: the photograph that it is made from; empty without one.
        people: their persons.
        params: world frame.
        looks: what they wear.
        seeds: of cloth and shades.
        camera: one.
        light: direction in the world's frame.
    """

    image_id: str
    photo_id: str
    people: list[int]
    params: "BodyParams"
    looks: "list[Appearance]"
    seeds: list[int]
    camera: "Cameras"
    light: "Light"

    @property
    def instance_ids(self) -> list[int]:
        """What each person is called in maps of people."""
        return [person + 1 for person in self.people]


def layout_table(key: str, laid: Sequence[tuple[str, str | None, "Layout"]]) -> pa.Table:
    """Rows of layouts: (image, photograph, layout) each."""
    from posedreamer_assets.scenes.layout import light_to_vector

    parts = [_columns(key, *one, light_to_vector(one[2].light)) for one in laid if one[2].people]
    if not parts:
        return SCHEMAS[TABLE].empty_table()
    return pa.concat_tables([make_table(columns, SCHEMAS[TABLE]) for columns in parts])


def left_out_table(key: str, laid: Sequence[tuple[str, str | None, "Layout"]], max_tries: int) -> pa.Table:
    """Rows of `quarantine`: people for whom there was no room."""
    names = [person_id(image, person) for image, _, layout in laid for person in layout.left_out]
    columns = {
        "sample_id": names,
        "partition_key": [key] * len(names),
        "path": names,
        "reason": [NO_ROOM] * len(names),
        "detail": [f"touched somebody at each of {max_tries} places, or no place is in the frame"] * len(names),
    }
    return make_table(columns, SCHEMAS["quarantine"])


def placed_of(rows: pa.Table) -> Iterator[Placed]:
    """The people of each image, in the order of the rows."""
    from posedreamer_assets.render.appearance import appearance_from_json
    from posedreamer_assets.scenes.layout import light_from_vector

    images = texts(rows, "image_id")
    bounds = [i for i, image in enumerate(images) if i == 0 or images[i - 1] != image]
    for start, end in pairwise([*bounds, len(images)]):
        part = rows.slice(start, end - start)
        names = texts(part, "photo_id") if "photo_id" in part.column_names else [""]
        yield Placed(
            images[start],
            names[0],
            part.column("person").to_pylist(),
            bodies(part),
            [appearance_from_json(text) for text in texts(part, "appearance")],
            part.column("seed").to_pylist(),
            cameras(part.slice(0, 1)),
            light_from_vector(array(part, "light")[0]),
        )


def _columns(key: str, image: str, photo: str | None, layout: "Layout", light: list[float]) -> dict[str, Any]:
    from posedreamer_assets.render.appearance import appearance_to_json

    count = len(layout.people)
    views = layout.camera.take(np.zeros(count, int))
    return {
        "sample_id": [person_id(image, person) for person in layout.people],
        "partition_key": [key] * count,
        "image_id": [image] * count,
        "person": layout.people,
        "photo_id": [photo] * count,
        "people_drawn": [layout.drawn] * count,
        "people_placed": [count] * count,
        "tries": [layout.tries] * count,
        "family": layout.families,
        **layout.params.to_flat(),
        **views.to_flat(),
        "appearance": [appearance_to_json(look) for look in layout.looks],
        "light": np.tile(np.array(light, np.float32), (count, 1)),
        "seed": layout.seeds,
    }


def image_seed(run_seed: int, image: str) -> int:
    """The seed of what is behind the people of an image."""
    return derive_seed(run_seed, image, "picture")
