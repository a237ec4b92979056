"""Faults in the study's tables, as a bug or a mixed-up batch would make them, and the check that must catch each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.tables.images import decode, encode_png
from posedreamer_assets_tests.planted_faults.faults import with_column

ROW = 1
Plant = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Fault:
    """What happened to the rows of a stage, and the check that must say so."""

    name: str
    stage: str
    check: str
    plant: Plant

    @property
    def table(self) -> str:
        """The table of the stage."""
        return self.stage.rpartition("/")[2]


def changed(
    column: str, change: Callable[[Any], Any], *, where: Callable[[dict[str, Any]], bool] | None = None
) -> Plant:
    """One value of the first row that a condition holds for; of row `ROW` without a condition."""

    def plant(rows: pa.Table) -> pa.Table:
        values = rows.column(column).to_pylist()
        row = ROW
        if where is not None:
            small = rows.drop_columns(
                [n for n in rows.column_names if pa.types.is_large_binary(rows.schema.field(n).type)]
            )
            row = next(i for i, one in enumerate(small.to_pylist()) if where(one))
        values[row] = change(values[row])
        return with_column(rows, column, values)

    return plant


def rolled(*columns: str) -> Plant:
    """Columns slid by one row."""

    def plant(rows: pa.Table) -> pa.Table:
        for column in columns:
            values = rows.column(column).to_pylist()
            rows = with_column(rows, column, values[1:] + values[:1])
        return rows

    return plant


def every(column: str, change: Callable[[Any], Any]) -> Plant:
    """Every value of a column."""
    return lambda rows: with_column(rows, column, [change(value) for value in rows.column(column).to_pylist()])


def moved_onto_another(rows: pa.Table) -> pa.Table:
    """A person in the place of another one of the same image."""
    images, places = rows.column("image_id").to_pylist(), rows.column("transl").to_pylist()
    first = next(i for i in range(1, len(images)) if images[i] == images[i - 1])
    places[first] = [places[first - 1][0], places[first][1], places[first - 1][2]]
    return with_column(rows, "transl", places)


def redrawn(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    return lambda blob: encode_png(np.ascontiguousarray(change(decode(blob))))


def brighter(picture: np.ndarray) -> np.ndarray:
    """All pixels a level up, as a second encoding would leave some of them."""
    return np.where(picture < 255, picture + 1, picture - 1).astype(np.uint8)


def with_stranger(ids: np.ndarray) -> np.ndarray:
    ids = ids.copy()
    ids[:3, :3] = 77
    return ids


def from_photo(row: dict[str, Any]) -> bool:
    return row["origin"] == "photo" and any(row["mpii_labelled"])


def of_another_photo(name: str) -> str:
    """Person 0 of another photograph, who exists."""
    key = name.split("/")[0]
    return f"{key}/000001" if name.startswith(f"{key}/000000") else f"{key}/000000"


def hidden_somewhere(row: dict[str, Any]) -> bool:
    return row["origin"] == "synthetic" and not all(row["mpii_visible"])


def shifted(values: list[float]) -> list[float]:
    return [values[0] + 1.0, *values[1:]]


DS_LAYOUT, DS_IMAGE, DS_PEOPLE = "ds/scene_layouts", "ds/scene_images", "ds/scene_people"
DM_LAYOUT, DM_IMAGE, DM_PEOPLE, STYLED = "dm/scene_layouts", "dm/scene_images", "dm/scene_people", "dm/styled_images"

FAULTS = (
    Fault("somebody inside another", DS_LAYOUT, "bodies_apart", moved_onto_another),
    Fault("somebody above the ground", DS_LAYOUT, "feet_on_ground", changed("transl", lambda v: [v[0], v[1] + 0.05, v[2]],
          where=lambda row: row["family"] not in ("jump", "run", "freestyle"))),
    Fault("somebody in the ground", DM_LAYOUT, "feet_on_ground", changed("transl", lambda v: [v[0], v[1] - 0.05, v[2]],
          where=lambda row: row["family"] not in ("jump", "run", "freestyle"))),
    Fault("a camera of another image", DS_LAYOUT, "one_camera_and_light_an_image", changed("focal_px", lambda v: v * 1.1)),
    Fault("a person lost after it was counted", DS_LAYOUT, "people_counted", lambda rows: rows.slice(1)),
    Fault("more people placed than drawn", DS_LAYOUT, "people_counted", every("people_drawn", lambda v: 1)),
    Fault("clothes of another seed", DS_LAYOUT, "seeds_derived", changed("seed", lambda v: v + 1)),
    Fault("cameras that all look down alike", DS_LAYOUT, "pitch_is_uniform", every("cam_pitch_deg", lambda v: 44.9)),
    Fault("a batch of crowds alone", DS_LAYOUT, "people_are_poisson", every("people_drawn", lambda v: 40)),
    Fault("a knee bent backwards", DS_LAYOUT, "poses_within_joint_limits",
          changed("body_pose", lambda v: [*v[:9], -1.2, *v[10:]])),
    Fault("a stranger in the map of people", DS_IMAGE, "maps_list_the_people", changed("instances", redrawn(with_stranger))),
    Fault("somebody missing from the list", DS_IMAGE, "maps_list_the_people", changed("persons", lambda v: v[:-1])),
    Fault("an image that no layout has", DS_IMAGE, "maps_list_the_people",
          changed("sample_id", lambda v: "scenes-0000/000099")),
    Fault("maps of people of another scene", DS_IMAGE, "maps_agree", rolled("instances")),
    Fault("depth of another scene", DS_IMAGE, "maps_agree", rolled("depth")),
    Fault("ids of people permuted", DS_PEOPLE, "boxes_follow_instances", rolled("person")),
    Fault("everything marked visible", DS_PEOPLE, "visibility_follows_instances",
          changed("mpii_visible", lambda v: [True] * 16, where=hidden_somewhere)),
    Fault("everybody hidden by person 3", DS_PEOPLE, "visibility_follows_instances", every("occluded_by", lambda v: [3] * 16)),
    Fault("joints of another person", DS_PEOPLE, "joints_are_the_projected_body", rolled("joints_2d")),
    Fault("distances in metres", DS_PEOPLE, "min_distance_agrees", every("min_distance_px", lambda v: v and v / 100)),
    Fault("boxes a pixel off", DS_PEOPLE, "boxes_follow_instances", changed("bbox", shifted)),
    Fault("more pixels seen than there are", DS_PEOPLE, "fewer_pixels_seen_than_there_are",
          changed("pixels_amodal", lambda v: 0, where=lambda row: row["pixels_visible"] > 0)),
    Fault("a person left out", DS_PEOPLE, "no_person_is_missing", lambda rows: rows.slice(1)),
    Fault("the photograph encoded again", DM_IMAGE, "photo_untouched_outside_people", changed("image", redrawn(brighter))),
    Fault("people over another photograph", DM_IMAGE, "photo_untouched_outside_people", rolled("photo_id")),
    Fault("labels of the photograph moved", DM_PEOPLE, "labels_of_photo_untouched",
          changed("mpii_2d", shifted, where=from_photo)),
    Fault("a covered joint left visible", DM_PEOPLE, "labels_of_photo_untouched",
          changed("mpii_visible", lambda v: [not flag for flag in v], where=from_photo)),
    Fault("a photograph's person of another photograph", DM_PEOPLE, "labels_of_photo_untouched",
          changed("photo_person", of_another_photo, where=from_photo)),
    Fault("a covered eye left visible", DM_PEOPLE, "labels_of_photo_untouched",
          changed("keypoints_visible", lambda v: [not v[0], *v[1:]], where=from_photo)),
    Fault("the head of another person", DM_PEOPLE, "labels_of_photo_untouched",
          changed("head_size_px", lambda v: (v or 10.0) * 1.5, where=from_photo)),
    Fault("style that leaks out of people", STYLED, "changed_only_in_people", changed("image", redrawn(brighter))),
    Fault("styled where nothing should be", STYLED, "changed_only_in_people",
          changed("status", lambda v: "mask_too_small", where=lambda row: row["status"] == "stylised")),
    Fault("photographs twice", "photos/annotated_photos", "photos_unique",
          lambda rows: with_column(rows, "image", [rows.column("image")[0].as_py()] * rows.num_rows)),
    Fault("a photograph without a licence", "photos/annotated_photos", "licence_present", changed("licence", lambda v: " ")),
    Fault("a keypoint that is no number", "photos/photo_people", "finite__keypoints_2d",
          changed("keypoints_2d", lambda v: [float("nan"), *v[1:]])),
)  # fmt: skip
