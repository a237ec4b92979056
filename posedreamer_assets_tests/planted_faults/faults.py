"""Faults as they happen: each changes rows of one table as a bug, a broken disk or a mixed-up batch would.

A fault names the check that must catch it. `sample` is the row that is hit; checks that name samples must name it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.joints import COCO17_MIRROR, JOINT_MIRROR
from posedreamer_assets.tables.images import decode, encode_jpeg, encode_png
from posedreamer_assets_tests.planted_faults.filters import kept_by_family, kept_by_skin, with_column

ROW, OTHER = 5, 11  # the row that is hit, and the one it is mixed up with
Plant = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Fault:
    """A fault and the check that must catch it.

    Attributes:
        name: what happened.
        table: where.
        check: name of the check that must fail.
        plant: the rows with the fault, from those without.
        names_row: whether the check names the row's id.
        check_of_cut: the check that must catch it where the row shows a body cut off on purpose, if that is another one.
    """

    name: str
    table: str
    check: str
    plant: Plant
    names_row: bool = True
    check_of_cut: str = ""

    def check_in(self, rows: pa.Table) -> str:
        """The check that must catch it in these rows."""
        is_cut = bool(self.check_of_cut) and rows.column("truncated")[ROW].as_py()
        return self.check_of_cut if is_cut else self.check


def _set(name: str, value: Any) -> Plant:
    """One value of the hit row."""

    def plant(rows: pa.Table) -> pa.Table:
        values = rows.column(name).to_pylist()
        values[ROW] = value(values[ROW]) if callable(value) else value
        return with_column(rows, name, values)

    return plant


def _all(name: str, change: Callable[[Any], Any]) -> Plant:
    """Every value of a column."""
    return lambda rows: with_column(rows, name, [change(v) for v in rows.column(name).to_pylist()])


def _copy(*names: str) -> Plant:
    """Values of another sample in the hit row."""

    def plant(rows: pa.Table) -> pa.Table:
        for name in names:
            values = rows.column(name).to_pylist()
            values[ROW] = values[OTHER]
            rows = with_column(rows, name, values)
        return rows

    return plant


def _swap(*names: str) -> Plant:
    """Values of two samples in each other's place."""

    def plant(rows: pa.Table) -> pa.Table:
        for name in names:
            values = rows.column(name).to_pylist()
            values[ROW], values[OTHER] = values[OTHER], values[ROW]
            rows = with_column(rows, name, values)
        return rows

    return plant


def _shift(*names: str) -> Plant:
    """Columns that slid by one row, as after an off-by-one in a batch."""

    def plant(rows: pa.Table) -> pa.Table:
        for name in names:
            values = rows.column(name).to_pylist()
            rows = with_column(rows, name, values[1:] + values[:1])
        return rows

    return plant


def _without(row: int) -> Plant:
    return lambda rows: pa.concat_tables([rows.slice(0, row), rows.slice(row + 1)])


def _mirrored(width: int, order: np.ndarray) -> Callable[[list[float]], list[float]]:
    """Left and right of each point exchanged."""
    return lambda flat: np.array(flat, object).reshape(-1, width)[order].reshape(-1).tolist()


def _number(index: int, value: float) -> Callable[[list[float]], list[float]]:
    return lambda flat: [*flat[:index], value, *flat[index + 1 :]]


def _moved(x: float, y: float = 0.0) -> Callable[[list[float]], list[float]]:
    return lambda flat: (np.array(flat).reshape(-1, 2) + np.array([x, y])).reshape(-1).tolist()


def _scaled(factor: float) -> Callable[[Any], Any]:
    return lambda value: (np.array(value) * factor).tolist()


def _redrawn(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    return lambda blob: encode_png(np.ascontiguousarray(change(decode(blob))))


def _grown(image: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(image, 2, 0), 2, 1)


def _dark(image: np.ndarray) -> np.ndarray:
    return (image * 0.2).astype(np.uint8)


def _truncated_jpeg(blob: bytes) -> bytes:
    """As a download that broke off leaves it."""
    return encode_jpeg(decode(blob))[:-400]


def _recaptioned(rows: pa.Table) -> pa.Table:
    return with_column(rows, "caption", [rows.column("caption")[0].as_py()] * rows.num_rows)


def _transposed(flat: list[float]) -> list[float]:
    return np.array(flat).reshape(3, 3).T.reshape(-1).tolist()


def _kept_all(rows: pa.Table) -> pa.Table:
    rows = with_column(rows, "keep", [True] * rows.num_rows)
    rows = with_column(rows, "reason", ["kept"] * rows.num_rows)
    return with_column(rows, "reasons", [[]] * rows.num_rows)


def _exchanged(rows: pa.Table) -> pa.Table:
    """Winner and loser of a pair the wrong way round."""
    winner, loser = (rows.column(name)[ROW].as_py() for name in ("winner", "loser"))
    return _set("loser", winner)(_set("winner", loser)(rows))


def _candidate(which: str, change: Callable[[bytes], bytes]) -> Plant:
    """The picture of the hit row's winner or loser."""

    def plant(rows: pa.Table) -> pa.Table:
        chosen = rows.column(which)[ROW].as_py()
        return _set("candidate_images", lambda of: [change(b) if i == chosen else b for i, b in enumerate(of)])(rows)

    return plant


def _candidate_of_another(which: str) -> Plant:
    """The picture of another pose's winner or loser in the place of the hit row's."""

    def plant(rows: pa.Table) -> pa.Table:
        other = rows.column("candidate_images")[OTHER].as_py()[rows.column(which)[OTHER].as_py()]
        return _candidate(which, lambda blob: other)(rows)

    return plant


def _shown_elsewhere(rows: pa.Table) -> pa.Table:
    """The person of the image that shows its pose best, seen in the hit row's image."""
    similarities = [value or 0.0 for value in rows.column("oks").to_pylist()]
    similarities[ROW] = 0.0
    best = rows.column("detected")[int(np.argmax(similarities))].as_py()
    return _set("detected", best)(rows)


def _one_pose(rows: pa.Table) -> pa.Table:
    """A sampler that collapsed: everyone in nearly the same pose."""
    first = np.array(rows.column("body_pose")[0].as_py())
    noise = np.random.default_rng(0).normal(0, 0.01, (rows.num_rows, len(first)))
    return with_column(rows, "body_pose", first + noise)


def _one_family(rows: pa.Table) -> pa.Table:
    return with_column(rows, "family", ["stand"] * rows.num_rows)


_WORLD_LABELS = (
    "joints_2d",
    "joints_visible",
    "joints_cam_m",
    "keypoints_2d",
    "keypoints_visible",
    "keypoints_in_frame",
)
_MAPS = ("control", "depth", "normals", "parts", "silhouette")

FAULTS = (
    # Poses and cameras
    Fault("a NaN rotation", "pose_library", "body_pose_angles", _set("body_pose", _number(4, float("nan")))),
    Fault("an infinite hand", "pose_library", "left_hand_pose_angles", _set("left_hand_pose", _number(0, float("inf")))),
    Fault("rotations in degrees", "pose_library", "body_pose_angles", _set("body_pose", _scaled(57.3))),
    Fault("a knee bent backwards", "pose_library", "made_poses_within_joint_limits", _set("body_pose", _number(9, -1.2))),
    Fault("betas out of range", "pose_library", "values_between__betas", _set("betas", _number(0, 12.0))),
    Fault("an implausible shape", "pose_library", "betas_plausible", _set("betas", _number(0, 6.0))),
    Fault("a giant", "pose_library", "made_bodies_are_people", _set("betas", _number(0, 4.5))),
    Fault("a body half in the ground", "pose_library", "made_bodies_on_the_ground",
          _set("transl", lambda v: [v[0], v[1] - 0.5, v[2]])),
    Fault("millimetres for metres", "pose_library", "norm_between__transl", _set("transl", _scaled(1000.0))),
    Fault("centimetres for metres", "pose_library", "body_in_frame", _set("transl", _scaled(100.0)),
          check_of_cut="cut_body_in_frame"),
    Fault("a focal length in millimetres", "pose_library", "body_in_frame", _set("focal_px", 35.0),
          check_of_cut="cut_body_in_frame"),
    Fault("a mirrored camera", "pose_library", "is_rotation__cam_rotation",
          _set("cam_rotation", lambda m: [*(-v for v in m[:3]), *m[3:]])),
    Fault("camera to world for world to camera", "pose_library", "camera_angles_agree", _set("cam_rotation", _transposed)),
    Fault("a camera far aside", "pose_library", "body_in_frame", _set("cam_translation", _number(0, 5.0)),
          check_of_cut="cut_body_in_frame"),
    Fault("a camera behind the body", "pose_library", "body_before_camera", _set("cam_translation", _number(2, -5.0))),
    Fault("a seed used twice", "pose_library", "seeds_unique", _copy("seed")),
    Fault("a seed of nowhere", "pose_library", "seeds_derived", _set("seed", 12345)),
    Fault("the same pose twice", "pose_library", "poses_unique", _copy("body_pose")),
    Fault("a duplicated id", "pose_library", "unique__sample_id", _copy("sample_id")),
    Fault("an id of another form", "pose_library", "matches__sample_id", _set("sample_id", "walk 7")),
    Fault("no licence", "pose_library", "licence_present", _set("licence", "  ")),
    Fault("no provenance", "pose_library", "not_null__provenance", _set("provenance", None)),
    Fault("an unknown split", "pose_library", "accepted_values__split", _set("split", "eval")),
    Fault("a frame of a clip on the other side", "dataset", "frames_of_a_clip_are_of_one_split",
          _set("split", lambda split: "val" if split == "train" else "train")),
    Fault("broken JSON", "pose_library", "is_json__appearance", _set("appearance", "{'top'")),
    Fault("a missing body part", "pose_library", "body_complete", _set("jaw_pose", None)),
    Fault("all captions alike", "pose_library", "captions_vary", _recaptioned, names_row=False),
    Fault("all poses alike", "pose_library", "pose_variety_steady", _one_pose, names_row=False),
    Fault("a batch of one family", "pose_library", "pose_coverage_steady", _one_family, names_row=False),
    Fault("a prediction for a pose that no model chose", "pose_library", "predicted_in_hard_rounds__predicted_oks",
          _set("predicted_oks", 0.4)),
    Fault("the id of a person for that of an image", "pose_library", "image_id_names_an_image",
          _set("image_id", lambda name: f"{name}/01")),
    Fault("a person counted from -1", "pose_library", "between__person", _set("person", -1)),
    Fault("nearly all bodies cut off", "pose_library", "truncation_is_the_exception", _all("truncated", lambda v: True),
          names_row=False),
    Fault("a batch without poses", "pose_library", "row_count__table", lambda rows: rows.slice(0, 0), names_row=False),
    # Control maps and labels
    Fault("swapped left and right joints", "control_maps", "joints_are_the_projected_body",
          _set("joints_2d", _mirrored(2, JOINT_MIRROR))),
    Fault("swapped left and right keypoints", "control_maps", "joints_are_the_projected_body",
          _set("keypoints_2d", _mirrored(2, COCO17_MIRROR))),
    Fault("joints shifted by a pixel", "control_maps", "joints_are_the_projected_body", _set("joints_2d", _moved(1))),
    Fault("joints as x and y from 0 to 1", "control_maps", "joints_are_the_projected_body",
          _set("joints_2d", _scaled(1 / 128))),
    Fault("y before x", "control_maps", "joints_are_the_projected_body",
          _set("joints_2d", lambda v: np.array(v).reshape(-1, 2)[:, ::-1].reshape(-1).tolist())),
    Fault("joints in millimetres", "control_maps", "joints_are_the_projected_body",
          _set("joints_cam_m", _scaled(1000.0))),
    Fault("labels of another sample", "control_maps", "joints_are_the_projected_body", _copy(*_WORLD_LABELS)),
    Fault("labels slid by one row", "control_maps", "joints_are_the_projected_body", _shift(*_WORLD_LABELS)),
    Fault("a NaN joint", "control_maps", "finite__joints_2d", _set("joints_2d", _number(0, float("nan")))),
    Fault("everything marked visible", "control_maps", "visibility_follows_depth",
          _set("joints_visible", lambda v: [True] * len(v))),
    Fault("visible outside the frame", "control_maps", "visible_in_frame",
          lambda rows: _set("keypoints_visible", _number(0, True))(_set("keypoints_2d", _number(0, -4.0))(rows))),
    Fault("a control map of another sample", "control_maps", "maps_agree", _copy("control")),
    Fault("all maps of another sample", "control_maps", "joints_on_silhouette", _copy(*_MAPS)),
    Fault("all maps slid by one row", "control_maps", "visibility_follows_depth", _shift(*_MAPS)),
    Fault("normals of another sample", "control_maps", "maps_agree", _copy("normals")),
    Fault("hidden and visible keypoints exchanged", "control_maps", "visibility_follows_depth",
          _set("keypoints_visible", lambda v: [not seen for seen in v])),
    Fault("keypoints seen of another sample", "control_maps", "visibility_follows_depth", _copy("keypoints_visible")),
    Fault("a mirrored control map", "control_maps", "maps_agree", _set("control", _redrawn(lambda i: i[:, ::-1]))),
    Fault("left and right colours swapped", "control_maps", "colours_follow_parts",
          _set("control", _redrawn(lambda i: np.where(i.any(-1, keepdims=True), [[[281, 0, 0]]] + i * [[[-1, 1, 1]]], 0)
                                   .clip(0, 255).astype(np.uint8)))),
    Fault("blue and red exchanged", "control_maps", "colours_follow_parts",
          _set("control", _redrawn(lambda i: i[..., ::-1]))),
    Fault("depth in centimetres", "control_maps", "visibility_follows_depth",
          _set("depth", _redrawn(lambda i: i // 10))),
    Fault("a depth map of 8 bits", "control_maps", "image_decodes__depth",
          _set("depth", _redrawn(lambda i: (i // 256).astype(np.uint8)))),
    Fault("an inverted silhouette", "control_maps", "maps_agree", _set("silhouette", _redrawn(lambda i: 255 - i))),
    Fault("boxes of corners", "control_maps", "box_and_area_follow_silhouette",
          _all("bbox", lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), names_row=False),
    Fault("a wrong area", "control_maps", "box_and_area_follow_silhouette", _set("body_pixels", lambda n: n + 40)),
    Fault("a control map of another size", "control_maps", "image_decodes__control", _set("control", _redrawn(_grown))),
    Fault("a missing row", "control_maps", "no_pose_is_missing", _without(ROW)),
    Fault("a declared size that is not the camera's", "control_maps", "size_of_the_camera", _set("width", 256)),
    # Images
    Fault("a truncated PNG", "raw_generations", "image_decodes__image", _set("image", lambda b: b[: len(b) // 2])),
    Fault("a truncated JPEG", "raw_generations", "image_decodes__image", _set("image", _truncated_jpeg)),
    Fault("no image at all", "raw_generations", "image_decodes__image", _set("image", b"")),
    Fault("a grey image", "raw_generations", "image_decodes__image", _set("image", _redrawn(lambda i: i[..., 0]))),
    Fault("a blank image", "raw_generations", "image_shows_something",
          _set("image", _redrawn(lambda i: np.full_like(i, 128)))),
    Fault("a larger image", "raw_generations", "size_of_the_control_map", _set("image", _redrawn(_grown))),
    Fault("the same image twice", "raw_generations", "images_unique", _copy("image")),
    Fault("images of two samples swapped", "raw_generations", "image_has_its_own_outline", _swap("image")),
    Fault("all images slid by one row", "raw_generations", "images_follow_control_maps", _shift("image")),
    Fault("a mirrored image", "raw_generations", "image_has_its_own_outline",
          _set("image", _redrawn(lambda i: i[:, ::-1]))),
    Fault("an image upside down", "raw_generations", "image_has_its_own_outline",
          _set("image", _redrawn(lambda i: i[::-1]))),
    Fault("dark images", "raw_generations", "brightness_steady", _all("image", _redrawn(_dark)), names_row=False),
    Fault("a caption of another sample", "raw_generations", "caption_of_the_pose", _copy("caption")),
    Fault("a seed of another sample", "raw_generations", "seeds_derived", _copy("seed")),
    Fault("an image of another generator", "raw_generations", "constant__generator", _set("generator", "flux:1")),
    Fault("an image of another round", "raw_generations", "round_of_key__round", _set("round", "hard")),
    Fault("a scene of another sample", "rendered_scenes", "image_has_its_own_outline", _swap("image")),
    Fault("an orphan row", "rendered_scenes", "relationships__sample_id", _set("sample_id", "procedural-0001/009999")),
    # Scores and verdicts
    Fault("an OKS in per cent", "sample_scores", "between__oks", _set("oks", 87.0)),
    Fault("an OKS of another sample", "sample_scores", "oks_follows_detections", _copy("oks")),
    Fault("detections of another sample", "sample_scores", "oks_follows_detections", _copy("detected")),
    Fault("detections swapped left and right", "sample_scores", "oks_follows_detections",
          _set("detected", _mirrored(3, COCO17_MIRROR))),
    Fault("all OKS too low", "sample_scores", "oks_steady", _all("oks", lambda v: v * 0.3), names_row=False),
    Fault("a generator that ignores poses", "sample_scores", "generator_follows_poses", _all("oks", lambda v: v * 0.2),
          names_row=False),
    Fault("not one image of its pose", "sample_scores", "best_tenth_shows_its_pose", _all("oks", lambda v: v * 0.2),
          names_row=False),
    Fault("a person of another image", "sample_scores", "person_fits_own_label", _shown_elsewhere),
    Fault("a rejected sample kept", "filtered_dataset", "verdict_follows_scores", _kept_all, names_row=False),
    Fault("a verdict without its reason", "filtered_dataset", "kept_rows_have_no_reason_against",
          _set("keep", lambda keep: not keep)),
    Fault("an image that is not there", "filtered_dataset", "image_is_the_generated_one", _set("image_digest", "0" * 32)),
    Fault("an image of another sample", "filtered_dataset", "images_unique", _copy("image_digest")),
    Fault("images of two verdicts exchanged", "filtered_dataset", "image_is_the_generated_one", _swap("image_digest")),
    Fault("a camera moved by a centimetre", "filtered_dataset", "body_and_camera_of_the_pose",
          _set("cam_translation", lambda t: [t[0] + 0.01, *t[1:]])),
    Fault("another focal length", "filtered_dataset", "joints_project", _set("focal_px", lambda f: f * 1.02)),
    Fault("a pose of another sample", "filtered_dataset", "body_and_camera_of_the_pose", _copy("body_pose")),
    Fault("swapped left and right in the label", "filtered_dataset", "label_of_the_control_map",
          _set("keypoints_2d", _mirrored(2, COCO17_MIRROR))),
    Fault("a reason that the filter does not know", "filtered_dataset", "known_reason__reason", _set("reason", "blurry")),
    Fault("a skin tone rejected", "filtered_dataset", "skin_tones_kept_alike", kept_by_skin, names_row=False),
    Fault("a family rejected", "filtered_dataset", "keep_rate_by_family", kept_by_family, names_row=False),
    Fault("a verdict of another round", "filtered_dataset", "round_of_key__round", _set("round", "hard2")),
    # The dataset
    Fault("a rejected sample in the dataset", "dataset", "accepted_values__reason", _set("reason", "low_oks")),
    Fault("a kept sample left out", "dataset", "no_kept_sample_is_missing", _without(ROW)),
    Fault("no kept sample in the dataset", "dataset", "no_kept_sample_is_missing", lambda rows: rows.slice(0, 0),
          names_row=False),
    Fault("a label touched after the filter", "dataset", "rows_of_the_filter", _set("bbox", _number(2, 1.0))),
    Fault("images of two kept samples exchanged", "dataset", "rows_of_the_filter", _swap("image_digest")),
    Fault("an image that was replaced since", "dataset", "image_is_the_generated_one", _set("image_digest", "0" * 32)),
    Fault("a sample of another round", "dataset", "round_of_key__round", _set("round", "hard")),
    # Pairs
    Fault("winner and loser exchanged", "preference_pairs", "ranking_followed", _exchanged),
    Fault("the same candidate twice", "preference_pairs", "ranking_followed", _set("candidate_seeds", lambda s: [s[0]] * len(s))),
    Fault("a candidate that got lost", "preference_pairs", "an_image_for_each_similarity",
          _set("candidate_images", lambda of: of[:1])),
    Fault("a strength too few", "preference_pairs", "a_strength_for_each_similarity",
          _set("candidate_strengths", lambda of: of[:1])),
    Fault("a seed too many", "preference_pairs", "same_length__candidate_seeds", _set("candidate_seeds", lambda of: [*of, 7])),
    Fault("a winner that is not there", "preference_pairs", "ranking_followed", _set("winner", 2)),
    Fault("a truncated winner", "preference_pairs", "winner_image_decodes", _candidate("winner", lambda b: b[: len(b) // 2])),
    Fault("a grey loser", "preference_pairs", "loser_image_decodes", _candidate("loser", _redrawn(lambda i: i[..., 0]))),
    Fault("a larger winner", "preference_pairs", "winner_image_size_of_the_control_map", _candidate("winner", _redrawn(_grown))),
    Fault("a larger loser", "preference_pairs", "loser_image_size_of_the_control_map", _candidate("loser", _redrawn(_grown))),
    Fault("a blank winner", "preference_pairs", "winner_image_shows_something",
          _candidate("winner", _redrawn(np.zeros_like))),
    Fault("a blank loser", "preference_pairs", "loser_image_shows_something",
          _candidate("loser", _redrawn(lambda i: np.full_like(i, 128)))),
    Fault("one winner of two poses", "preference_pairs", "winner_images_unique", _candidate_of_another("winner")),
    Fault("one loser of two poses", "preference_pairs", "loser_images_unique", _candidate_of_another("loser")),
    Fault("candidates of two poses exchanged", "preference_pairs", "winner_has_its_own_outline", _swap("candidate_images")),
    Fault("a pair of test poses", "preference_pairs", "accepted_values__alignment_split", _set("alignment_split", "test")),
)  # fmt: skip


def hit_ids(clean: pa.Table, rows: pa.Table) -> set[str]:
    """The id of the row that a fault hits, before and after."""
    return {table.column("sample_id")[ROW].as_py() for table in (clean, rows)}
