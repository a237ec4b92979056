"""A few clean rows of any table, what surrounds them, and check files of our own to run on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.checks import (
    CheckOutcome,
    run_checks,
)
from posedreamer_assets.tables.fields import BODY_COLUMNS, SCHEMAS
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets.tables.keys import sample_id

KEY = "procedural-0000"
N = 6
IDS = [sample_id(KEY, i) for i in range(N)]
SIZE = (32, 24)  # width, height in pixels


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE) -> bytes:
    width, height = size
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return encode_png(np.zeros(shape, np.uint16 if mode == "I;16" else np.uint8))


def vectors(width: int, value: float = 0.5) -> list[list[float]]:
    return [[value] * width] * N


def clean_values(table: str) -> dict[str, list[Any]]:
    """Rows of any table with which all its checks should be content."""
    values: dict[str, list[Any]] = {
        "sample_id": IDS,
        "image_id": IDS,
        "person": [0] * N,
        "partition_key": [KEY] * N,
        "source": ["procedural"] * N,
        "family": ["walk"] * N,
        "provenance": ["procedural/walk"] * N,
        "licence": ["CC0-1.0"] * N,
        "seed": [2**62 + i for i in range(N)],
        "split": ["train"] * N,
        "alignment_split": ["train"] * N,
        **{name: vectors(width, 0.1) for name, width in BODY_COLUMNS.items()},
        "cam_rotation": Rotation.random(N, np.random.default_rng(0)).as_matrix().reshape(N, 9).tolist(),
        "cam_translation": vectors(3),
        "focal_px": [100.0] * N,
        "principal_px": vectors(2, 64.0),
        "width": [SIZE[0]] * N,
        "height": [SIZE[1]] * N,
        "cam_pitch_deg": [10.0] * N,
        "cam_roll_deg": [0.0] * N,
        "truncated": [False] * N,
        "caption": ["a person walking"] * N,
        "appearance": ['{"top": "red"}'] * N,
        "predicted_oks": [None] * N,
        "path": ["checkpoints/dpo/abc" if table == "checkpoints" else "clips/a.bvh"] * N,
        "reason": ["truncated" if table == "quarantine" else "kept"] * N,
        "detail": ["ends early"] * N,
        "note": [f"{i} frames a second assumed" for i in range(N)],
        "folder": ["/mocap"] * N,
        "size": [100] * N,
        "mtime_ns": [1] * N,
        "digest": ["abc"] * N,
        "part": [0] * N,
        **{name: [picture()] * N for name in ("control", "normals", "image")},
        "depth": [picture("I;16")] * N,
        **{name: [picture("L")] * N for name in ("parts", "silhouette")},
        "joints_2d": vectors(110),
        "joints_visible": [[True] * 55] * N,
        "joints_cam_m": vectors(165),
        "keypoints_2d": vectors(34),
        "keypoints_visible": [[True] * 17] * N,
        "keypoints_in_frame": [[True] * 17] * N,
        "bbox": vectors(4, 5.0),
        "body_pixels": [200] * N,
        "status": ["pair"] * N,
        "candidate_oks": [[0.9, 0.5]] * N,
        "candidate_images": [[picture(), picture()]] * N,
        "candidate_seeds": [[1, 2]] * N,
        "candidate_strengths": [[1.0, 0.8]] * N,
        "winner": [0] * N,
        "loser": [1] * N,
        "winner_oks": [0.9] * N,
        "loser_oks": [0.5] * N,
        "round": ["base"] * N,
        "steps": [8] * N,
        "guidance": [1.0] * N,
        "generator": ["pocket:abc"] * N,
        "adapter": ["abc"] * N,
        "oks": [0.9] * N,
        "render_oks": [0.95] * N,
        "ranker_oks": [0.9] * N,
        "detected": vectors(51),
        "people": [1] * N,
        "people_score": [0.9] * N,
        "head_error_deg": [None, 5.0, 5.0, 5.0, 5.0, 5.0],
        "top_colour_error": [None] * N,
        "keep": [True] * N,
        "reasons": [[]] * N,
        "image_digest": [f"digest-{i}" for i in range(N)],
        "name": [f"model-{i}" for i in range(N)],
        "metrics": ["{}"] * N,
        "checked": [f"model-{i}" for i in range(N)],
        "key": [None] * N,
        "content": ["abc"] * N,
        "made_from": [""] * N,
        "time": ["2026-01-01T00:00:00+00:00"] * N,
        "rows": [1] * N,
        "checks": [1] * N,
        **{name: [[]] * N for name in ("blocking", "failed", "warned")},
        "outcomes": ["[]"] * N,
    }
    if table == "checkpoints":
        values |= {"partition_key": [f"checkpoint-model-{i}-0000" for i in range(N)]}
    return {name: values[name] for name in SCHEMAS[table].names}


def rows_of(table: str, **changes: list[Any]) -> pa.Table:
    values = {**clean_values(table), **changes}
    return pa.table([pa.array(values[f.name], f.type) for f in SCHEMAS[table]], schema=SCHEMAS[table])


class CleanAround:
    """Other tables hold the clean rows, and so did the batches before; nothing is known of the profile."""

    def __init__(self, *earlier: pa.Table) -> None:
        self._earlier = earlier

    def rows(self, table: str, columns: Sequence[str]) -> pa.Table:
        return rows_of(table).select(list(columns))

    def everywhere(self, table: str, columns: Sequence[str]) -> pa.Table:
        return self.rows(table, columns)

    def before(self, columns: Sequence[str], batches: int, rows: int) -> list[pa.Table]:
        return [table.slice(0, rows).select(list(columns)) for table in self._earlier[-batches:]]

    def profile(self) -> None:
        return None

    def body(self) -> BodyModel:
        return load_body(None)

    def folder(self, place: str) -> None:
        return None


AROUND = CleanAround()


def failed(outcomes: list[CheckOutcome]) -> dict[str, CheckOutcome]:
    return {o.name: o for o in outcomes if not o.passed}


def one(value: Any, clean: list[Any], at: int = 2) -> list[Any]:
    return [*clean[:at], value, *clean[at + 1 :]]


def write_file(folder: Path, tests: str = "", columns: str = "", table: str = "sample_scores") -> Path:
    body = f"version: 2\nmodels:\n  - name: {table}\n    description: Rows.\n"
    body += f"    tests:\n{tests}" if tests else ""
    body += f"    columns:\n{columns}" if columns else ""
    (folder / f"{table}.yml").write_text(body)
    return folder


def run_test(
    folder: Path,
    test: str,
    column: str | None = None,
    table: str = "sample_scores",
    around: CleanAround = AROUND,
    **values: Any,
) -> CheckOutcome:
    written = f"      - name: {column}\n        tests:\n          - {test}\n" if column else ""
    write_file(folder, "" if column else f"      - {test}\n", written, table)
    (outcome,) = run_checks(table, rows_of(table, **values), around, folder=folder)
    return outcome
