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
from posedreamer_assets.render.gl import Light, renderer
from posedreamer_assets.seeds import sample_rng


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
    picture, depth = renderer().draw_lit(
        camera.to_camera(dressed[None])[0], body.faces, normals @ to_camera.T, colours, light, view
    )
    background = _background(appearance, camera, view.width, view.height, rng, cfg)
    ground = _shadow(vertices, camera, cfg.supersample, direction @ to_camera, view.width, view.height)
    behind = background * (1 - 0.45 * ground[..., None])
    mask = (depth > 0)[..., None]
    large = Image.fromarray(np.clip(np.where(mask, picture, behind), 0, 255).astype(np.uint8))
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
) -> np.ndarray:
    """A soft shadow on the ground, in [0, 1]: vertices moved along the light to y = 0 and splatted."""
    slope = light_world / min(light_world[1], -0.4)
    flat = vertices - vertices[:, 1:2] * slope
    flat[:, 1] = 0.0
    pixels = np.nan_to_num(camera.project(flat[None])[0] * scale, nan=-1.0)
    inside = ((pixels >= 0) & (pixels < (width, height))).all(1)
    mask = np.zeros((height, width), np.uint8)
    column, row = pixels[inside].astype(int).T
    mask[row, column] = 255
    grown = Image.fromarray(mask).filter(ImageFilter.MaxFilter(5))
    return np.asarray(grown.filter(ImageFilter.GaussianBlur(2.0 * scale)), np.float32) / 255
