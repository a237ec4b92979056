"""Rendered scenes: a clothed, lit person on a background; the pocket models' teacher and FID's reference."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from posedreamer_assets import progress
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import ScenesConfig
from posedreamer_assets.render.appearance import Appearance, cloth_offsets, vertex_colours
from posedreamer_assets.render.backgrounds import background_of
from posedreamer_assets.render.control import vertex_normals, view_of
from posedreamer_assets.render.gl import Drawn, renderer
from posedreamer_assets.render.shading import Light, lit
from posedreamer_assets.seeds import sample_rng

_SHADOW = 0.45  # of the light is lost in the middle of a shadow
_SHADOW_REACH_PX = 12  # how far growing and blurring carry a shadow, amply


def render_scenes(
    body: BodyModel,
    params: BodyParams,
    cameras: Cameras,
    appearances: Sequence[Appearance],
    sample_ids: Sequence[str],
    run_seed: int,
    cfg: ScenesConfig,
) -> UInt8[np.ndarray, "n h w 3"]:
    """One picture for each sample.

    Raises:
        RenderError: no OpenGL on this machine.
        ConfigError: the folder of backgrounds holds no images.
    """
    vertices = body.forward(params).vertices
    pictures = [
        _render_one(body, vertices[i], cameras, i, appearances[i], sample_rng(run_seed, sample_ids[i], "scene"), cfg)
        for i in progress.track(range(len(params)))
    ]
    return np.stack(pictures)


def _render_one(
    body: BodyModel,
    vertices: np.ndarray,
    cameras: Cameras,
    index: int,
    appearance: Appearance,
    rng: np.random.Generator,
    cfg: ScenesConfig,
) -> np.ndarray:
    view = view_of(cameras, index).scaled(cfg.supersample)
    camera = cameras.take([index])
    colours = vertex_colours(body, appearance, rng)
    normals = vertex_normals(body, vertices)
    dressed = vertices + normals * cloth_offsets(body, appearance, rng)[:, None]
    direction = np.array([rng.uniform(-0.9, 0.9), rng.uniform(0.25, 1.0), rng.uniform(0.3, 1.0)])
    light = Light(direction, intensity=float(rng.uniform(1.8, 3.2)), ambient=float(rng.uniform(0.3, 0.45)))
    to_camera = camera.rotation[0]
    points = camera.to_camera(dressed[None])[0]
    drawn = renderer().draw(points, body.faces, lit(points, normals @ to_camera.T, colours, light), view, smooth=True)
    picture = background_of(appearance.scene, camera, rng, cfg.backgrounds, cfg.supersample)
    _darken(picture, *_shadow(vertices, camera, direction @ to_camera))
    _lay_over(picture, drawn, cfg.supersample)
    return picture


def _lay_over(picture: UInt8[np.ndarray, "h w 3"], drawn: Drawn, scale: int) -> None:
    """Lay a body, drawn `scale` times as large, over a picture, in place: edges mix in the share that it covers."""
    height, width = drawn.depth_m.shape
    left, top = drawn.x // scale, drawn.y // scale
    right, low = -(-(drawn.x + width) // scale), -(-(drawn.y + height) // scale)
    large = np.zeros(((low - top) * scale, (right - left) * scale, 4), np.uint8)
    part = large[drawn.y - top * scale :, drawn.x - left * scale :][:height, :width]
    np.multiply(drawn.depth_m > 0, 255, out=part[..., 3], casting="unsafe")
    np.copyto(part[..., :3], drawn.value, where=part[..., 3:] > 0)
    body = np.asarray(Image.fromarray(large).resize((right - left, low - top), Image.Resampling.BOX))
    behind = picture[top:low, left:right]
    # Resizing averages the colours of what is covered alone.
    covered = body[..., 3:] / np.float32(255)
    behind[:] = np.rint(behind * (1 - covered) + body[..., :3] * covered)


def _shadow(
    vertices: Float[np.ndarray, "v 3"], camera: Cameras, light_world: Float[np.ndarray, "3"]
) -> tuple[slice, slice, Float[np.ndarray, "h w"]]:
    """A soft shadow on the ground: vertices moved along the light to y = 0 and splatted.

    Returns:
        Rows and columns that it touches, and its strength there, in [0, 1].
    """
    slope = light_world / min(light_world[1], -0.4)
    flat = vertices - vertices[:, 1:2] * slope
    flat[:, 1] = 0.0
    size = (camera.width, camera.height)
    pixels = np.nan_to_num(camera.project(flat[None])[0], nan=-1.0)
    column, row = pixels[((pixels >= 0) & (pixels < size)).all(1)].astype(int).T
    if len(row) == 0:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32)
    rows = slice(max(0, row.min() - _SHADOW_REACH_PX), min(camera.height, row.max() + 1 + _SHADOW_REACH_PX))
    columns = slice(max(0, column.min() - _SHADOW_REACH_PX), min(camera.width, column.max() + 1 + _SHADOW_REACH_PX))
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    mask[row - rows.start, column - columns.start] = 255
    soft = Image.fromarray(mask).filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(2.0))
    return rows, columns, np.asarray(soft, np.float32) / 255


def _darken(picture: UInt8[np.ndarray, "h w 3"], rows: slice, columns: slice, strength: np.ndarray) -> None:
    """Lay a shadow over a part of a picture, in place."""
    part = picture[rows, columns]
    part[:] = part * (1 - _SHADOW * strength[..., None])
