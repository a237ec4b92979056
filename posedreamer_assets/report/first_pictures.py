"""The first pictures of a run, long before its end: a few poses of the first batch on one sheet.

Images of the dataset are painted after alignment, which takes most of a run. These are painted by the generator as it is, so
that a person sees within a minute or two what the run is about; they are kept nowhere else.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.config import Profile, write_whole
from posedreamer_assets.pipeline.control_images import control_column, control_images
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.images import decode_all, encode_png
from posedreamer_assets.tables.rows import texts

SHOWN_POSES = 6
STAGES = ("body_model", "pose_library", "base/control_maps", "rendered_scenes")
"""What the sheet is made from."""


def write_first_pictures(home: Home, profile: Profile, key: str) -> Path:
    """Write `reports/first.png`: a column for each of the first poses of a batch: control image, render, painted image.

    The painted image is that of an unaligned generator, by the seed that the pose's row of `raw_generations` will have.
    """
    store = home.store()
    ids = texts(store.read("control_maps", [key], ["sample_id"]), "sample_id")[:SHOWN_POSES]
    maps = store.take("control_maps", ids, ["sample_id", control_column(profile.generator)])
    scenes = store.take("rendered_scenes", ids, ["image", "caption"])
    controls, captions = control_images(profile.generator, maps), texts(scenes, "caption")
    seeds = [derive_seed(profile.seed, i, "generation") for i in ids]
    painted = Models(profile).generator.generate(controls, captions, seeds)
    rows = (controls, decode_all(scenes.column("image").to_pylist()), painted)
    path = home.reports / "first.png"
    write_whole(path, encode_png(sheet(rows)))
    return path


def sheet(rows: tuple[UInt8[np.ndarray, "n h w 3"], ...]) -> UInt8[np.ndarray, "_height _width 3"]:
    """Pictures of one size, row by row, without gaps."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
