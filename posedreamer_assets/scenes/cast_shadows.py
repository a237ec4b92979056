"""Shadows that people cast on each other and on themselves, by a map of how far the light reaches.

People are drawn once as the light sees them; a vertex is in shadow where something is nearer to the light. Light is computed at
vertices (`render/shading.py`), and so are shadows: their edges are soft over a few texels of the map and a triangle.
"""

import numpy as np
from jaxtyping import Float, Int

from posedreamer_assets.render.gl import View, renderer

_MARGIN_PX = 4
_NEAREST_M = 1.0  # from the light's image plane to the first vertex: any distance does
# A surface hides itself from the light by the slope of a texel: so far is looked for in front of it.
_OFF_TEXELS, _OFF_M = 2.0, 0.01
_TAPS = 3  # texels of each side that a shadow is averaged over


def light_reaching(
    vertices: Float[np.ndarray, "n v 3"],
    normals: Float[np.ndarray, "n v 3"],
    faces: Int[np.ndarray, "f 3"],
    direction: Float[np.ndarray, "3"],
    size: tuple[int, int],
) -> Float[np.ndarray, "n v"]:
    """Which share of a directional light reaches each vertex: 1 where nothing is in the way, and where it faces away.

    Args:
        vertices: of all people, metres.
        normals: of unit length, in the frame of the vertices.
        faces: triangles of all people in one mesh.
        direction: that the light shines to, in that frame.
        size: width and height of the map, pixels.

    Raises:
        RenderError: no OpenGL on this machine.
    """
    frame = _frame_of(direction)
    flat = normals.reshape(-1, 3) @ frame.T
    points = vertices.reshape(-1, 3) @ frame.T
    low, high = points.min(axis=0), points.max(axis=0)
    points -= [*(low + high)[:2] / 2, low[2] - _NEAREST_M]
    scale = float(((np.array(size) - 2 * _MARGIN_PX) / np.maximum((high - low)[:2], 1e-6)).min())
    nearest = _depth_of(points, faces, View(scale, (size[0] / 2, size[1] / 2), *size))
    facing = np.flatnonzero(flat[:, 2] < 0)
    asked = points[facing] + flat[facing] * np.float32(_OFF_TEXELS / scale)
    asked[:, 2] -= _OFF_M
    reached = np.ones(len(points), np.float32)
    reached[facing] = 1 - _hidden(
        asked[:, :2] * np.float32(scale) + np.array(size, np.float32) / 2, asked[:, 2], nearest
    )
    return reached.reshape(vertices.shape[:2])


def _frame_of(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rows: across, down and along the light, right-handed like a camera's."""
    along = direction / np.linalg.norm(direction)
    other = np.eye(3)[np.abs(along).argmin()]
    across = np.cross(other, along)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(along, across), along]).astype(np.float32)


def _depth_of(points: Float[np.ndarray, "p 3"], faces: Int[np.ndarray, "f 3"], view: View) -> Float[np.ndarray, "h w"]:
    """How far the first surface is along parallel rays, metres; infinite where there is none.

    The renderer divides by depth, so that points are multiplied by theirs before. Within a triangle depth is then off by the
    square of its extent along the light, far less than a millimetre.
    """
    spread = points * [1, 1, 0] * points[:, 2:] + points * [0, 0, 1]
    drawn = renderer().draw(spread, faces, np.zeros_like(points), view)
    nearest = np.full((view.height, view.width), np.inf, np.float32)
    drawn.paste(nearest, np.where(drawn.depth_m > 0, drawn.depth_m, np.inf))
    return nearest


def _hidden(
    pixels: Float[np.ndarray, "k 2"], depth: Float[np.ndarray, "k"], nearest: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "k"]:
    """Share of the texels about each point where something is nearer: a square that moves with the point, not in steps."""
    height, width = nearest.shape
    first = pixels - np.float32(_TAPS / 2)
    corner = np.floor(first).astype(np.int32)
    part = first - corner
    hidden = np.zeros(len(depth), np.float32)
    for down in range(_TAPS + 1):
        row = np.clip(corner[:, 1] + down, 0, height - 1) * width
        by_row = np.zeros(len(depth), np.float32)
        for across in range(_TAPS + 1):
            column = np.clip(corner[:, 0] + across, 0, width - 1)
            by_row += _weight(part[:, 0], across) * (nearest.reshape(-1)[row + column] < depth)
        hidden += _weight(part[:, 1], down) * by_row
    return np.minimum(hidden / np.float32(_TAPS**2), 1)


def _weight(part: Float[np.ndarray, "k"], number: int) -> Float[np.ndarray, "k"] | np.float32:
    """How much of a texel the square covers along one side; `part` is how far its edge lies within the first."""
    return 1 - part if number == 0 else part if number == _TAPS else np.float32(1)
