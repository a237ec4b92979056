"""Images of a pose batch, painted by the generator, aligned or as it is."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.controls import control_images
from posedreamer_assets.pipeline.dpo_checkpoint import adapter_in
from posedreamer_assets.pipeline.models import generator_of
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables import images as codec
from posedreamer_assets.tables.fields import RAW_GENERATIONS
from posedreamer_assets.tables.rows import make_table, same_rows, texts

if TYPE_CHECKING:
    from posedreamer_assets.storage import CheckpointInfo


def generate_rows(
    profile: Profile, round_name: str, poses: pa.Table, maps: pa.Table, *, adapter: "CheckpointInfo", key: str
) -> tuple[pa.Table, np.ndarray]:
    """Rows of `records.RAW_GENERATIONS`, and the images (n, h, w, 3)."""
    same_rows(poses, maps)
    generator = generator_of(profile.generator, profile.image)
    ids = texts(poses, "sample_id")
    seeds = [derive_seed(profile.seed, i, "generation") for i in ids]
    aligned = adapter_in(adapter)
    controls = control_images(profile.generator, maps)
    made = generator.generate(controls, texts(poses, "caption"), seeds, adapter_path=aligned)
    count = len(ids)
    columns = {
        "sample_id": ids,
        "partition_key": [key] * count,
        "round": [round_name] * count,
        "image": [codec.encode(image, profile.image.format) for image in made],
        "caption": texts(poses, "caption"),
        "seed": seeds,
        "steps": [profile.generator.steps] * count,
        "guidance": [profile.generator.guidance] * count,
        "generator": [f"{generator.name}:{generator.digest}"] * count,
        "adapter": ["none" if aligned is None else adapter.digest] * count,
    }
    return make_table(columns, RAW_GENERATIONS), made
