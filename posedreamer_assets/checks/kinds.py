"""Every kind of test: what it takes, what it tests, and the function that computes it where Great Expectations cannot."""

from functools import partial

import pyarrow as pa

from posedreamer_assets.checks.arm_kinds import ARM_KINDS
from posedreamer_assets.checks.crowd_kinds import CROWD_KINDS
from posedreamer_assets.checks.kind import Kind, is_plain, late
from posedreamer_assets.pipeline.student_scores import COMPARED
from posedreamer_assets.scoring.verdict import COLUMNS as JUDGED
from posedreamer_assets.tables.fields import BODY_COLUMNS, CAMERA, names_of


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_numeric(kind: pa.DataType) -> bool:
    return _is_number(kind.value_type if _is_list(kind) else kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_matrix(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) and kind.list_size == 9


def _is_blob(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_picture(kind: pa.DataType) -> bool:
    """A file, or a list of files of which `pick` says which one."""
    return _is_blob(kind.value_type) if _is_list(kind) else _is_blob(kind)


def _is_content(kind: pa.DataType) -> bool:
    return _is_blob(kind) or _is_list(kind)


def _anything(kind: pa.DataType) -> bool:
    return True


_values, _pictures, _labels, _lineage, _trends, _groups, _students = (
    partial(late, module) for module in ("values", "pictures", "labels", "lineage", "trends", "groups", "students")
)
_RANGE = {"min": float, "max": float}
_CAMERA = names_of(CAMERA)
_BODY = tuple(BODY_COLUMNS)
_LABEL = ("keypoints_2d", "keypoints_visible", "body_pixels")

KINDS: dict[str, Kind] = {
    # Of whole tables
    "row_count": Kind("The number of rows is within {range}", _RANGE, None, whole=True),
    "unique_combination": Kind("No two rows agree in all of {columns}", {"columns!": list}, None),
    "all_not_null": Kind("None of {columns} is null", {"columns!": list}, None, _values("all_not_null")),
    "expression_is_true": Kind("{expression}", {"expression!": str}, None),
    "covers": Kind("Every sample of {to} is here", {"to!": list, "having": str}, None, _lineage("covers"), whole=True),
    "same_in": Kind(
        "{columns} are those of the sample in {to}", {"to!": list, "columns!": list}, None, _lineage("same_in")
    ),
    # Of columns
    "not_null": Kind("{column} is never null", {}, _anything),
    "unique": Kind("No two rows have the same {column}"),
    "unique_content": Kind("No two rows hold the same {column}", {"pick": str}, _is_content, _values("unique_content")),
    "constant": Kind("{column} is the same in the whole partition", {}, is_plain, _values("constant")),
    "accepted_values": Kind("{column} is one of {values}", {"values!": list}),
    "between": Kind("{column} is within {range}", _RANGE, _is_number),
    "mean_between": Kind("The mean of {column} is within {range}", _RANGE, _is_number, whole=True),
    "stdev_between": Kind("The standard deviation of {column} is within {range}", _RANGE, _is_number, whole=True),
    "quantile_between": Kind(
        "The quantile {quantile} of {column} is within {range}", {"quantile!": float, **_RANGE}, _is_number, whole=True
    ),
    "distinct_between": Kind("The number of values of {column} is within {range}", _RANGE, whole=True),
    "share_between": Kind(
        "The share of {values} in {column} is within {range}",
        {"values!": list, **_RANGE},
        is_plain,
        _values("share_between"),
        whole=True,
    ),
    "matches": Kind("{column} matches {regex}", {"regex!": str}, pa.types.is_string),
    "relationships": Kind(
        "Every {column} is a {field} of {to}",
        {"to!": list, "field!": str, "by": str},
        is_plain,
        _values("relationships"),
    ),
    "finite": Kind("{column} holds neither nan nor infinity", {}, _is_numeric, _values("finite")),
    "values_between": Kind("All values in {column} are within {range}", _RANGE, _is_list, _values("values_between")),
    "norm_between": Kind(
        "The norms of {column} are within {range}", {**_RANGE, "parts": int}, _is_list, _values("norm_between")
    ),
    "is_rotation": Kind("{column} is a rotation matrix", {"tolerance": float}, _is_matrix, _values("is_rotation")),
    "same_length": Kind("{column} is as long as {other}", {"column!": str}, _is_list, _values("same_length")),
    "round_of_key": Kind(
        "{column} is the round that the partition's key names", {}, pa.types.is_string, _values("round_of_key")
    ),
    "known_reason": Kind(
        "{column} is `kept` or a reason of the filter", {}, pa.types.is_string, _values("known_reason")
    ),
    "predicted_in_hard_rounds": Kind(
        "{column} is there exactly in rounds of hard poses", {}, _is_number, _values("predicted_in_hard_rounds")
    ),
    "is_json": Kind("{column} is JSON", {}, pa.types.is_string, _values("is_json")),
    "json_between": Kind(
        "{path} in {column} is within {range}",
        {"path!": str, "unless": dict, **_RANGE},
        pa.types.is_string,
        _values("json_between"),
    ),
    "steady": Kind(
        "The {measure} of {column} stays as in the batches before",
        {"measure": str, "sigmas": float, "least": float, "batches": int},
        _anything,
        _trends("steady"),
        whole=True,
    ),
    "alike_among": Kind(
        "{column} is true equally often in all groups that {group} finds in the other column",
        {"column!": str, "group!": str, "level": float, "batches": int},
        pa.types.is_boolean,
        _groups("alike_among"),
        whole=True,
    ),
    "none_left_behind": Kind(
        "{column} is true of no group of {group} much more seldom than of all",
        {"group!": str, "share!": float, "level": float, "batches": int},
        pa.types.is_boolean,
        _groups("none_left_behind"),
        whole=True,
    ),
    # Of images
    "image_decodes": Kind(
        "Every image in {column} can be decoded and has its declared size",
        {"sized": bool, "modes": list, "pick": str},
        _is_picture,
        _pictures("image_decodes"),
    ),
    "same_size_in": Kind(
        "Every image in {column} is as large as {to} declares",
        {"to!": list, "pick": str},
        _is_picture,
        _pictures("same_size_in"),
        needs_of_to=("width", "height"),
    ),
    "shows_something": Kind(
        "Grey levels of {column} deviate by at least {min}",
        {"min!": float, "pick": str},
        _is_picture,
        _pictures("shows_something"),
    ),
    "outline_in_image": Kind(
        "{column} has its own sample's outline of {to}",
        {"to!": list, "better": float, "pick": str},
        _is_picture,
        _pictures("outline_in_image"),
        needs_of_to=("silhouette",),
    ),
    "maps_agree": Kind(
        "Control, depth, normals, parts and silhouette show one body",
        {},
        None,
        _pictures("maps_agree"),
        needs=("control", "depth", "normals", "parts", "silhouette"),
    ),
    "outline_follows_silhouette": Kind(
        "`bbox` and `body_pixels` are the silhouette's",
        {},
        None,
        _pictures("outline_follows_silhouette"),
        needs=("silhouette", "bbox", "body_pixels"),
    ),
    "colours_follow_parts": Kind(
        "The control map has each body part's own colours",
        {"mostly_pixels": float},
        None,
        _pictures("colours_follow_parts"),
        needs=("control", "parts"),
    ),
    # Of labels
    "within_joint_limits": Kind(
        "Every joint is within its range of motion",
        {"tolerance_deg": float},
        None,
        _labels("within_joint_limits"),
        needs=_BODY,
    ),
    "camera_frames_body": Kind(
        "The camera has the body before it and in the frame",
        {"inside": float, "min_share": float},
        None,
        _labels("camera_frames_body"),
        needs=(*_BODY, *_CAMERA),
    ),
    "camera_angles_agree": Kind(
        "`cam_pitch_deg` and `cam_roll_deg` are those of `cam_rotation`",
        {"tolerance_deg": float},
        None,
        _labels("camera_angles_agree"),
        needs=("cam_rotation", "cam_pitch_deg", "cam_roll_deg"),
    ),
    "body_measure_between": Kind(
        "{of_body} of each body is within {range}",
        {"of_body!": str, **_RANGE},
        None,
        partial(late, "stance")("body_measure_between"),
        needs=_BODY,
    ),
    "projection_agrees": Kind(
        "Joints and keypoints are the projection of the body of {to} by its camera",
        {"to!": list, "tolerance_px": float, "tolerance_m": float},
        None,
        _labels("projection_agrees"),
        needs=("joints_2d", "joints_cam_m", "keypoints_2d"),
        needs_of_to=(*_BODY, *_CAMERA),
    ),
    "joints_project": Kind(
        "`joints_2d` are `joints_cam_m` through the row's camera",
        {"tolerance_px": float},
        None,
        _labels("joints_project"),
        needs=("joints_2d", "joints_cam_m", "focal_px", "principal_px"),
    ),
    "visible_in_frame": Kind(
        "What is marked visible lies in the frame",
        {},
        None,
        _labels("visible_in_frame"),
        needs=("joints_2d", "joints_visible", "keypoints_2d", "keypoints_visible", "width", "height"),
    ),
    "joints_on_silhouette": Kind(
        "Joints lie on the silhouette",
        {"tolerance_px": float, "mostly_joints": float},
        None,
        _labels("joints_on_silhouette"),
        needs=("joints_2d", "silhouette"),
    ),
    "visibility_follows_depth": Kind(
        "Joints, and keypoints that are joints, are visible exactly where the depth map has nothing before them",
        {},
        None,
        _labels("visibility_follows_depth"),
        needs=("joints_2d", "joints_cam_m", "joints_visible", "keypoints_visible", "depth"),
    ),
    **CROWD_KINDS,
    **ARM_KINDS,
    # Of what rows were made from
    "seed_derived": Kind(
        "{column} follows from the run's seed, the sample's id and {stage}",
        {"stage!": str},
        pa.types.is_integer,
        _lineage("seed_derived"),
    ),
    "split_of_pose": Kind(
        "{column} is that of the clip, or of the procedural pose, that the row comes from",
        {},
        pa.types.is_string,
        _lineage("split_of_pose"),
        needs=("provenance",),
    ),
    "oks_follows_detections": Kind(
        "`oks` is that of `detected` against the label in {to}",
        {"to!": list, "tolerance": float},
        None,
        _lineage("oks_follows_detections"),
        needs=("oks", "detected"),
        needs_of_to=_LABEL,
    ),
    "fits_own_label": Kind(
        "No person fits another sample's label above {other} and its own below {own}",
        {"to!": list, "own!": float, "other!": float},
        None,
        _lineage("fits_own_label"),
        needs=("detected",),
        needs_of_to=_LABEL,
    ),
    "verdict_follows_scores": Kind(
        "Verdicts are those of the scores in {to} under the profile's thresholds",
        {"to!": list},
        None,
        _lineage("verdict_follows_scores"),
        needs=("keep", "reason", "reasons"),
        needs_of_to=JUDGED,
    ),
    "ranking_followed": Kind(
        "Winner and loser are the best and the worst candidate",
        {},
        None,
        _lineage("ranking_followed"),
        needs=("candidate_oks", "candidate_seeds", "winner", "loser", "winner_oks", "loser_oks"),
    ),
    # Of students
    "nowhere_in": Kind(
        "No {column} occurs as {field} of {to}, in any partition",
        {"to!": list, "field!": str},
        is_plain,
        _students("nowhere_in"),
    ),
    "sources_exist": Kind(
        "Every image is in the table that is named, as it was",
        {},
        None,
        _students("sources_exist"),
        needs=("table", "source_sample_id", "source_digest"),
    ),
    "far_from_tests": Kind(
        "The pose of {column} is that of no test image, to a moment or its mirror image",
        {"least_deg": float},
        is_plain,
        _students("far_from_tests"),
    ),
    "as_many_as": Kind(
        "There are as many rows as {column} says", {}, pa.types.is_integer, _students("as_many_as"), whole=True
    ),
    "seen_as_planned": Kind(
        "Every student has seen as many samples as the study plans",
        {},
        None,
        _students("seen_as_planned"),
        ("samples_seen",),
    ),
    "scores_follow_predictions": Kind(
        "Errors are those of the predicted parameters against the labels under the profile's protocol",
        {"tolerance_mm": float},
        None,
        _students("scores_follow_predictions"),
        needs=("test_sample_id", "predicted_rotations", "predicted_betas", "predicted_pelvis_m", *COMPARED),
    ),
    "labels_are_there": Kind(
        "What `labels` says is known of a person is there",
        {},
        None,
        _students("labels_are_there"),
        needs=("labels", "true_joints_m", "true_rotations", "true_vertices_m", "labelled_keypoints"),
    ),
    "checkpoint_intact": Kind(
        "The files are those that the folder is named after",
        {},
        None,
        _values("checkpoint_intact"),
        needs=("path",),
    ),
}
