"""Rendered scenes of a pose batch."""

from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.model import load_body
from posedreamer_assets.config import Profile
from posedreamer_assets.render.appearance import appearance_from_json
from posedreamer_assets.render.scene import render_scenes
from posedreamer_assets.seeds import derive_seed, unit_hash
from posedreamer_assets.tables import images as codec
from posedreamer_assets.tables.fields import RENDERED_SCENES
from posedreamer_assets.tables.rows import bodies, cameras, make_table, texts


def render_scene_rows(profile: Profile, poses: pa.Table, key: str) -> tuple[pa.Table, np.ndarray]:
    """Rows of `records.RENDERED_SCENES`, and the images (n, h, w, 3)."""
    ids = texts(poses, "sample_id")
    appearances = [appearance_from_json(text) for text in texts(poses, "appearance")]
    body = load_body(profile.body.model_path)
    made = render_scenes(body, bodies(poses), cameras(poses), appearances, ids, profile.seed, profile.scenes)
    share = profile.scenes.reference_share
    columns: dict[str, Any] = {
        "sample_id": ids,
        "partition_key": [key] * len(ids),
        "image": [codec.encode(image, profile.image.format) for image in made],
        "caption": texts(poses, "caption"),
        "seed": [derive_seed(profile.seed, i, "scene") for i in ids],
        "split": ["reference" if unit_hash(f"reference {i}") < share else "train" for i in ids],
    }
    return make_table(columns, RENDERED_SCENES), made
