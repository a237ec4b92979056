"""Drawing many people at once: one pass gives colours, who is where, which part of the body, and how far.

Everything is drawn twice as large (very large photographs: at their size). A pixel belongs to the nearest person that any
of its smaller pixels shows, and the picture mixes people with what is behind them in the share of smaller pixels that show
somebody: so the map of people covers every pixel that is painted on, and no other.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16
from PIL import Image, ImageFilter

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.errors import RenderError
from posedreamer_assets.render.control import view_of
from posedreamer_assets.render.gl import Drawn, renderer
from posedreamer_assets.render.shading import Light, lit

_SCALE, _LARGEST_PX = 2, 4096  # of what is drawn: buffers hold several samples of each pixel
MOST_IDS = 254  # of an 8-bit map, 0 aside
_SHADOW = 0.42  # of the light is lost in the middle of a shadow
_SOFT = 1 / 160  # of the image's larger side


@dataclass(frozen=True)
class Crowd:
    """What one draw of all people gave.

    Attributes:
        colour: of people where they are.
        share: of each pixel that shows people, in [0, 1].
        instances: 0 where nobody is, else the person's id.
        parts: SMPL-X joint + 1 of the surface; 0 where nobody is.
        depth_mm: 0 where nobody is.
        amodal_pixels: by person, how many pixels would show it if it were alone.
    """

    colour: UInt8[np.ndarray, "h w 3"]
    share: Float[np.ndarray, "h w"]
    instances: UInt8[np.ndarray, "h w"]
    parts: UInt8[np.ndarray, "h w"]
    depth_mm: UInt16[np.ndarray, "h w"]
    amodal_pixels: list[int]

    def over(self, background: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """People over a picture; pixels that show nobody are those of the picture, bit for bit."""
        share = self.share[..., None]
        mixed = np.rint(background * (1 - share) + self.colour * share).astype(np.uint8)
        return np.where(self.instances[..., None] > 0, mixed, background)


def draw_crowd(
    body: BodyModel,
    vertices: Float[np.ndarray, "n v 3"],
    normals: Float[np.ndarray, "n v 3"],
    colours: Float[np.ndarray, "n v 3"],
    ids: list[int],
    camera: Cameras,
    light_cam: Light,
    reached: Float[np.ndarray, "n v"] | None = None,
) -> Crowd:
    """Draw people.

    Args:
        body: whose triangles they have.
        vertices: dressed, world frame, metres.
        normals: of unit length, world frame.
        colours: linear, in [0, 1].
        ids: what each person is called in `instances`, 1 to 254.
        camera: one.
        light_cam: direction in the camera's frame.
        reached: share of its light that comes to each vertex, see `cast_shadows.py`; all of it without.

    Raises:
        RenderError: an id that has no place in 8 bits, or no OpenGL on this machine.
    """
    wrong = [i for i in ids if not 1 <= i <= MOST_IDS]
    if wrong:
        raise RenderError(f"person {wrong[0]} in a map of people: ids are 1 to {MOST_IDS}")
    points = np.stack([camera.to_camera(v[None])[0] for v in vertices])
    to_camera = camera.rotation[0].T
    shares = [None] * len(ids) if reached is None else reached
    shades = np.concatenate(
        [
            lit(p, n @ to_camera, c, light_cam, share)
            for p, n, c, share in zip(points, normals, colours, shares, strict=True)
        ]
    )
    count = len(ids)
    names = np.zeros((count, len(body.v_template), 3), np.float32)
    names[..., 0] = np.array(ids)[:, None] / 255
    scale = scale_of(camera)
    view = view_of(camera, 0).scaled(scale)
    drawn = renderer().draw(
        points.reshape(-1, 3),
        faces_of(body, count),
        shades,
        view,
        labels=np.tile((body.dominant_joint + 1) / 255, count),
        normals=names.reshape(-1, 3),
    )
    crowd = _reduced(drawn, camera.width, camera.height, scale)
    seen = np.bincount(crowd.instances.reshape(-1), minlength=MOST_IDS + 1)
    for k, hidden in enumerate(may_be_hidden(points, camera)):
        alone = (
            _pixels(renderer().draw(points[k], body.faces, np.ones_like(points[k]), view), scale)
            if hidden
            else seen[ids[k]]
        )
        crowd.amodal_pixels.append(int(alone))
    return crowd


def scale_of(camera: Cameras) -> int:
    """How many times as large as its picture a camera's view is drawn."""
    return _SCALE if _SCALE * max(camera.width, camera.height) <= _LARGEST_PX else 1


@lru_cache(maxsize=2)  # one of a hundred people takes 25 MB
def faces_of(body: BodyModel, count: int) -> Int[np.ndarray, "f 3"]:
    """Triangles of so many bodies in one mesh."""
    steps = np.arange(count)[:, None, None] * len(body.v_template)
    return (body.faces[None] + steps).reshape(-1, 3).astype(np.int32)


def shadow_on_ground(
    body: BodyModel, vertices: Float[np.ndarray, "n v 3"], camera: Cameras, light_world: Light
) -> Float[np.ndarray, "h w"]:
    """How much light the ground (y = 0) loses to the people on it, in [0, 1], soft at the edges."""
    direction = light_world.direction
    slope = direction / min(direction[1], -0.35)
    flat = vertices - vertices[..., 1:2] * slope
    flat[..., 1] = 0.0
    points = camera.to_camera(flat.reshape(1, -1, 3))[0]
    drawn = renderer().draw(
        points, faces_of(body, len(vertices)), np.ones_like(points), view_of(camera, 0), smooth=True
    )
    mask = np.zeros((camera.height, camera.width), np.uint8)
    drawn.paste(mask, np.where(drawn.depth_m > 0, np.uint8(255), np.uint8(0)))
    radius = max(camera.width, camera.height) * _SOFT
    soft = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(radius))
    return _SHADOW * np.asarray(soft, np.float32) / 255


def may_be_hidden(points_cam: Float[np.ndarray, "n v 3"], camera: Cameras) -> list[bool]:
    """Which people somebody else may stand before: their boxes in the image overlap, and a part of the other is nearer."""
    pixels = camera.project_camera(points_cam.reshape(1, -1, 3)).reshape(*points_cam.shape[:2], 2)
    if not np.isfinite(pixels).all():
        return [len(pixels) > 1] * len(pixels)
    low, high = pixels.min(axis=1) - 1, pixels.max(axis=1) + 1
    near, far = points_cam[..., 2].min(axis=1), points_cam[..., 2].max(axis=1)
    meet = ((low[:, None] <= high[None]) & (low[None] <= high[:, None])).all(axis=-1) & (near[None] < far[:, None])
    np.fill_diagonal(meet, False)
    return meet.any(axis=1).tolist()


def _pixels(drawn: Drawn, scale: int) -> int:
    """Pixels of the image that a draw at the larger size touches."""
    rows, columns = np.nonzero(drawn.depth_m > 0)
    if not len(rows):
        return 0
    rows, columns = (rows + drawn.y) // scale, (columns + drawn.x) // scale
    touched = np.zeros((rows.max() + 1, columns.max() + 1), bool)
    touched[rows, columns] = True
    return int(touched.sum())


def _reduced(drawn: Drawn, width: int, height: int, scale: int) -> Crowd:
    """A draw at the larger size as pixels of the image; amodal pixels are still to be counted."""
    assert drawn.normal is not None, "ids were given as normals"
    crowd = Crowd(
        np.zeros((height, width, 3), np.uint8),
        np.zeros((height, width), np.float32),
        np.zeros((height, width), np.uint8),
        np.zeros((height, width), np.uint8),
        np.zeros((height, width), np.uint16),
        [],
    )
    left, top = drawn.x // scale, drawn.y // scale
    rows, columns = drawn.depth_m.shape
    right, low = -(-(drawn.x + columns) // scale), -(-(drawn.y + rows) // scale)
    place = np.s_[top:low, left:right]

    def framed(part: np.ndarray) -> list[np.ndarray]:
        """The smaller pixels of each pixel: scale * scale arrays of the size of `place`."""
        whole = np.zeros(((low - top) * scale, (right - left) * scale, *part.shape[2:]), part.dtype)
        whole[drawn.y - top * scale :, drawn.x - left * scale :][:rows, :columns] = part
        return [whole[i::scale, j::scale] for i in range(scale) for j in range(scale)]

    depths = [np.where(depth > 0, depth, np.inf) for depth in framed(drawn.depth_m)]
    nearest, covered = depths[0].copy(), np.isfinite(depths[0]).astype(np.uint8)
    for depth in depths[1:]:
        np.minimum(nearest, depth, out=nearest)
        covered += np.isfinite(depth)
    # Pixels that show nobody are black in a draw, so sums are those of the others.
    total = np.zeros(crowd.colour[place].shape, np.uint16)
    for colour in framed(drawn.value):
        total += colour
    count = np.maximum(covered, 1)[..., None]
    crowd.colour[place] = (2 * total + count) // (2 * count)
    crowd.share[place] = covered / np.float32(scale * scale)
    crowd.depth_mm[place] = np.clip(np.round(np.where(covered > 0, nearest, 0) * 1000), 0, 65535)
    for whole, parts in ((crowd.instances, framed(drawn.normal[..., 0])), (crowd.parts, framed(drawn.label))):
        # Of equally near ones the first: written last.
        for depth, part in reversed(list(zip(depths, parts, strict=True))):
            np.copyto(whole[place], part, where=(depth == nearest) & (covered > 0))
    return crowd
