"""The control images that a profile's generator is given."""

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import GeneratorConfig
from posedreamer_assets.tables.rows import images


def control_images(cfg: GeneratorConfig, maps: pa.Table) -> np.ndarray:
    """Control images of rows of `control_maps`, of the kind that `generator.control` names: uint8 (n, h, w, 3).

    Black is background.
    """
    return of_kind(cfg.control, images(maps, control_column(cfg)))


def of_kind(control: str, found: np.ndarray) -> np.ndarray:
    """Control images of a kind from the maps that they are made from."""
    from posedreamer_assets.diffusion.controls import depth_controls, normal_controls

    if control == "depth":
        return depth_controls(found)
    return normal_controls(found) if control == "normals" else found


def control_column(cfg: GeneratorConfig) -> str:
    """The column of `control_maps` that the control images are made from."""
    return "control" if cfg.control == "mesh" else cfg.control
