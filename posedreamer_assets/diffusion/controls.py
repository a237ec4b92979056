"""Control images from a body's maps, as public depth and normal ControlNets were trained on them.

All have three channels and are black exactly where there is no body.
"""

import numpy as np
from jaxtyping import UInt8, UInt16

# Where the background lies behind the farthest visible point of the body. Depth estimators, on whose maps depth ControlNets
# were trained, see a body before something; this keeps its relief as flat as it looks there.
BACKDROP_MM = 1000.0


def depth_controls(depth_mm: UInt16[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Inverse depth as MiDaS and DPT estimate it: the nearest point is white, the backdrop black, the body in between.

    Args:
        depth_mm: along the optical axis, millimetres; 0 is background.
    """
    return np.stack([_inverse_depth(one) for one in depth_mm])


def _inverse_depth(depth_mm: UInt16[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    body = depth_mm > 0
    image = np.zeros((*depth_mm.shape, 3), np.uint8)
    if body.any():
        depth = depth_mm[body].astype(np.float64)
        black, white = 1 / (depth.max() + BACKDROP_MM), 1 / depth.min()
        grey = np.round(255 * (1 / depth - black) / (white - black))
        image[body] = np.maximum(grey, 1).astype(np.uint8)[:, None]  # 0 would be background
    return image


def normal_controls(normals: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Normals as renderers write them: red to the right, green up, blue towards the camera.

    Args:
        normals: (n + 1) / 2 in the camera's frame, x right, y down, z forward; black is background.
    """
    turned = np.stack([normals[..., 0], 255 - normals[..., 1], 255 - normals[..., 2]], axis=-1)
    return np.where(normals.any(-1, keepdims=True), turned, 0).astype(np.uint8)
