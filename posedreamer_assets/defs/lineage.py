"""From which columns of which assets a table's columns come, as Dagster shows it.

Written by hand beside what the stages do; a test compares copied columns with their origin in real tables, and says that
a column names only assets that its own asset reads.
"""

from collections.abc import Mapping

import dagster as dg

from posedreamer_assets.tables.fields import BODY_COLUMNS, CAMERA, DATASET, IDENTITY, PROVENANCE

Origins = dict[str, tuple[tuple[str, str], ...]]  # by column: (asset, column) each

_BODY = tuple(BODY_COLUMNS)
_CAMERA = tuple(field.name for field in CAMERA)
_IDENTITY = tuple(field.name for field in IDENTITY)
_PROVENANCE = tuple(field.name for field in PROVENANCE)
_FROM_GEOMETRY = (
    "control", "depth", "normals", "parts", "silhouette", "joints_2d", "joints_visible", "joints_cam_m", "keypoints_2d",
    "keypoints_visible", "keypoints_in_frame", "bbox", "body_pixels",
)  # fmt: skip
_NAMED = 4  # columns of one asset that are named one by one
_OKS_OF = ("keypoints_2d", "keypoints_visible", "body_pixels")  # what detections are compared with


def column_origins(asset: str, control: str = "control") -> Origins:
    """Origins of an asset's columns; columns that come from no table are left out, `{}` where all do.

    `control` is the column of control maps that the generator is given.
    """
    name, _, stage = asset.rpartition("/")
    if asset == "preference_pairs":
        return _pairs(control)
    if asset in _OF_ASSET:
        return _OF_ASSET[asset]
    poses = "hard_samples" if name == "hard" else "pose_library"
    maps, images, scores = f"{name}/control_maps", f"{name}/raw_generations", f"{name}/sample_scores"
    if stage == "control_maps":
        return _copies(poses, _IDENTITY) | {column: _all(poses, _BODY + _CAMERA) for column in _FROM_GEOMETRY}
    if stage == "raw_generations":
        return _copies(poses, (*_IDENTITY, "caption")) | {"image": ((maps, control), (poses, "caption"))}
    if stage == "sample_scores":
        return _copies(poses, _IDENTITY) | _scores(poses, maps, images)
    if stage == "filtered_dataset":
        return _verdicts(poses, maps, images, scores)
    return {}


def column_lineage(asset: str, control: str = "control") -> dg.TableColumnLineage | None:
    """The origins as Dagster's metadata; None where no column has one."""
    origins = column_origins(asset, control)
    if not origins:
        return None
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(asset.split("/")), name) for asset, name in found]
            for column, found in origins.items()
        }
    )


def origin_text(asset: str, column: str) -> str:
    """The origins in words, "" where there are none: the open-source UI keeps lineage of columns but does not draw it."""
    found = column_origins(asset).get(column, ())
    by_asset = {name: [c for a, c in found if a == name] for name in dict.fromkeys(a for a, _ in found)}
    parts = [
        f"{name} ({', '.join(columns) if len(columns) <= _NAMED else f'{len(columns)} columns'})"
        for name, columns in by_asset.items()
    ]
    return f"From {'; '.join(parts)}." if parts else ""


def _copies(asset: str, columns: tuple[str, ...]) -> Origins:
    return {column: ((asset, column),) for column in columns}


def _all(asset: str, columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((asset, column) for column in columns)


def _scores(poses: str, maps: str, images: str) -> Origins:
    picture = ((images, "image"),)
    head = (*picture, (maps, "keypoints_2d"), (maps, "keypoints_in_frame"))
    return {
        **{column: (*picture, *_all(maps, _OKS_OF)) for column in ("oks", "ranker_oks")},
        **dict.fromkeys(("detected", "people", "people_score"), picture),
        "head_error_deg": head,
        "top_colour_error": (*picture, (maps, "parts"), (poses, "caption")),
    }


def _verdicts(poses: str, maps: str, images: str, scores: str) -> Origins:
    tested = _all(scores, ("oks", "people", "head_error_deg"))
    labels = ("keypoints_2d", "keypoints_visible", "joints_2d", "joints_visible", "joints_cam_m", "bbox")
    return {
        **_copies(poses, (*_IDENTITY, *_PROVENANCE, *_BODY, *_CAMERA, "caption")),
        **_copies(maps, labels),
        **dict.fromkeys(("keep", "reason", "reasons"), tested),
        "oks": ((scores, "oks"),),
        "image": ((images, "image"),),
    }


def _pairs(control: str) -> Origins:
    drawn = (("base/control_maps", control), ("pose_library", "caption"))
    ranked = (*drawn, *_all("base/control_maps", _OKS_OF))
    chosen = ("status", "candidate_oks", "winner", "loser", "winner_oks", "loser_oks", "winner_image", "loser_image")
    return {
        **_copies("pose_library", (*_IDENTITY, "split", "caption")),
        "candidate_images": drawn,
        **dict.fromkeys(chosen, ranked),
    }


_OF_ASSET: Mapping[str, Origins] = {
    "rendered_scenes": {
        **_copies("pose_library", (*_IDENTITY, "caption")),
        "image": _all("pose_library", (*_BODY, *_CAMERA, "appearance")),
    },
    "dataset": {
        field.name: tuple((f"{name}/filtered_dataset", field.name) for name in ("base", "hard")) for field in DATASET
    },
}
