"""Rendered scenes: a clothed, lit person on a background; the pocket models' teacher and FID's reference."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from posedreamer_assets import progress
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import ScenesConfig
from posedreamer_assets.render.appearance import Appearance, cloth_offsets, vertex_colours
from posedreamer_assets.render.backgrounds import horizon_row, photo_background, procedural_background
from posedreamer_assets.render.control import vertex_normals, view_of
from posedreamer_assets.render.gl import renderer
from posedreamer_assets.render.shading import Light, lit
from posedreamer_assets.seeds import sample_rng

_SHADOW = 0.45  # of the light is lost in the middle of a shadow
_SHADOW_REACH = 12  # pixels of the finished picture that growing and blurring carry a shadow, amply


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
    picture = _background(appearance, camera, view.width, view.height, rng, cfg)
    _darken(picture, *_shadow(vertices, camera, cfg.supersample, direction @ to_camera, view.width, view.height))
    height, width = drawn.depth_m.shape
    place = picture[drawn.y : drawn.y + height, drawn.x : drawn.x + width]
    np.copyto(place, drawn.value, where=(drawn.depth_m > 0)[..., None])
    large = Image.fromarray(picture)
    return np.asarray(large.resize((cameras.width, cameras.height), Image.Resampling.BOX))


def _background(
    appearance: Appearance, camera: Cameras, width: int, height: int, rng: np.random.Generator, cfg: ScenesConfig
) -> np.ndarray:
    if cfg.backgrounds:
        return photo_background(cfg.backgrounds, rng, width, height)
    pitch, roll = float(camera.pitch_deg[0]), float(camera.roll_deg[0])
    horizon = horizon_row(pitch, float(camera.focal_px[0]) * cfg.supersample, height)
    return procedural_background(appearance.scene, rng, width, height, horizon, roll)


def _shadow(
    vertices: np.ndarray, camera: Cameras, scale: int, light_world: np.ndarray, width: int, height: int
) -> tuple[slice, slice, np.ndarray]:
    """A soft shadow on the ground: vertices moved along the light to y = 0 and splatted.

    Returns:
        Rows and columns that it touches, and its strength there, in [0, 1].
    """
    slope = light_world / min(light_world[1], -0.4)
    flat = vertices - vertices[:, 1:2] * slope
    flat[:, 1] = 0.0
    pixels = np.nan_to_num(camera.project(flat[None])[0] * scale, nan=-1.0)
    inside = ((pixels >= 0) & (pixels < (width, height))).all(1)
    column, row = pixels[inside].astype(int).T
    if len(row) == 0:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32)
    reach = _SHADOW_REACH * scale
    rows = slice(max(0, row.min() - reach), min(height, row.max() + 1 + reach))
    columns = slice(max(0, column.min() - reach), min(width, column.max() + 1 + reach))
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    mask[row - rows.start, column - columns.start] = 255
    soft = Image.fromarray(_grown(mask)).filter(ImageFilter.GaussianBlur(2.0 * scale))
    return rows, columns, np.asarray(soft, np.float32) / 255


def _grown(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The largest value within two rows and columns of each pixel: five rows, then five columns."""
    for axis in (0, 1):
        padded = np.pad(mask, [(2, 2) if a == axis else (0, 0) for a in (0, 1)])
        shifted = [padded[k : k + len(mask)] if axis == 0 else padded[:, k : k + mask.shape[1]] for k in range(5)]
        mask = np.maximum.reduce(shifted)
    return mask


def _darken(picture: UInt8[np.ndarray, "h w 3"], rows: slice, columns: slice, strength: np.ndarray) -> None:
    """Lay a shadow over a part of a picture, in place."""
    part = picture[rows, columns]
    part[:] = part * (1 - _SHADOW * strength[..., None])
