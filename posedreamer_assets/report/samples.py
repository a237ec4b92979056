"""What the store knows of samples, side by side: strips of pictures for the report and `posedreamer view`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.render.drawing import draw_keypoints, overlay_render
from posedreamer_assets.report.gallery import GallerySample
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import image_of

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

Row = dict[str, Any]

# What is shown of a sample comes from these columns; a later table's go before an earlier one's.
_OF_SAMPLE = {
    "pose_library": ("caption", "family", "provenance", "split", "alignment_split", "seed", "predicted_oks"),
    "control_maps": ("control", "keypoints_2d", "keypoints_visible"),
    "sample_scores": ("oks", "ranker_oks", "people", "head_error_deg", "top_colour_error", "detected"),
    "filtered_dataset": ("keep", "reason"),
}
_OF_IMAGE = {
    "preference_pairs": ("status", "winner", "loser", "winner_oks", "loser_oks", "candidate_images"),
    "rendered_scenes": ("image",),
    "raw_generations": ("image", "seed"),
}
_FIGURES = (
    "oks",
    "ranker_oks",
    "people",
    "head_error_deg",
    "top_colour_error",
    "predicted_oks",
    "winner_oks",
    "loser_oks",
)
_TEXTS = ("caption", "family", "provenance", "split", "alignment_split", "status", "seed")
_HARDNESS = (("pose_library", "predicted_oks"), ("sample_scores", "oks"), ("preference_pairs", "winner_oks"))


def samples_of(store: "LanceStore", ids: Sequence[str]) -> list[GallerySample]:
    """Samples with what all tables know of them, by sample and by image, in this order."""
    return [sample_of(row) for row in sample_rows(store, ids)]


def sample_rows(store: "LanceStore", ids: Sequence[str]) -> list[Row]:
    """The merged columns of all tables. Images of a table of renders are `render`, those of candidates their own."""
    merged: dict[str, Row] = {name: {"sample_id": name} for name in ids}
    for table, columns in (_OF_SAMPLE | _OF_IMAGE).items():
        places = {name: image_of(name) if table in _OF_IMAGE else name for name in ids}
        wanted = list(dict.fromkeys(places.values()))
        found = store.take(table, wanted, ["sample_id", *columns], missing_ok=True).to_pylist()
        own = {row.pop("sample_id"): _renamed(table, row) for row in found}
        for name, place in places.items():
            merged[name] |= {column: value for column, value in own.get(place, {}).items() if value is not None}
    return [merged[name] for name in ids]


def _renamed(table: str, row: Row) -> Row:
    if table == "rendered_scenes":
        return {"render": row["image"]}
    if table == "preference_pairs":
        candidates = row.pop("candidate_images") or []
        row |= {side: candidates[row[side]] if candidates and row[side] is not None else None for side in _SIDES}
    return row


_SIDES = ("winner", "loser")


def hardest_first(store: "LanceStore", keys: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Samples by the OKS that was predicted for them, else by the measured one, lowest first; others follow.

    Args:
        store: where the tables are.
        keys: partitions that the samples are in.
        ids: of the samples.
    """
    hardness = np.full(len(ids), np.nan)
    for table, column in _HARDNESS:
        rows = store.read(table, keys=keys, columns=["sample_id", column], missing_ok=True)
        hardness = np.where(np.isnan(hardness), _values_of(ids, rows, column), hardness)
    return [ids[int(i)] for i in np.argsort(hardness, kind="stable")]  # NaN comes last


def _values_of(ids: Sequence[str], rows: pa.Table, column: str) -> np.ndarray:
    """A column's values of these samples; NaN where there is none."""
    known = pc.SetLookupOptions(rows.column("sample_id").combine_chunks())
    places = pc.call_function("index_in", [pa.array(ids, pa.string())], known)
    return rows.column(column).take(places).combine_chunks().to_numpy(zero_copy_only=False).astype(float)


def sample_of(row: Row) -> GallerySample:
    """A sample from the merged columns of all tables."""
    figures = {name: _short(row[name]) for name in (*_FIGURES, *_TEXTS) if row.get(name) is not None}
    keep = row.get("keep")
    verdict = "" if keep is None else ("kept" if keep else "rejected")
    return GallerySample(row["sample_id"], panels(row), figures, verdict, row.get("reason") or "")


def panels(row: Row) -> dict[str, np.ndarray]:
    """Titled pictures of a sample, as far as its row has them."""
    shown = {title: decode(row[title]) for title in ("control", "render", "winner", "loser", "image") if row.get(title)}
    control = shown.get("control")
    picture = next((shown[title] for title in ("image", "winner", "render", "control") if title in shown), None)
    if picture is None:
        return shown
    if row.get("keypoints_2d"):
        truth = np.array(row["keypoints_2d"], np.float32).reshape(17, 2)
        shown["label"] = draw_keypoints(picture, truth, np.array(row["keypoints_visible"], bool))
    if row.get("detected"):
        shown["detected"] = draw_keypoints(picture, np.array(row["detected"], np.float32).reshape(17, 3))
    if control is not None and picture is not control:
        shown["mesh"] = overlay_render(picture, control)
    return shown


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
