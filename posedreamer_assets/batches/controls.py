"""The control images that a profile's generator is given."""

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.diffusion.controls import depth_controls, normal_controls
from posedreamer_assets.rows import images


def control_images(cfg: GeneratorConfig, maps: pa.Table) -> UInt8[np.ndarray, "n h w 3"]:
    """Control images of rows of `records.CONTROL_MAPS`, of the kind that `generator.control` names; black is background."""
    if cfg.control == "depth":
        return depth_controls(images(maps, "depth"))
    if cfg.control == "normals":
        return normal_controls(images(maps, "normals"))
    return images(maps, "control")
