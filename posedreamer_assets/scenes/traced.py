"""People as Mitsuba 3 traces them, which is an extra of this project: another renderer than the one of the scenes.

What is labelled comes from the rasteriser; a test holds the cameras and people of both against each other.
"""

import importlib.util
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import distance_transform_edt

from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.errors import RenderError
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.composite import on_ground
from posedreamer_assets.scenes.picture import Surfaces

SAMPLES = 48  # light paths of a pixel
_VARIANT = "scalar_rgb"  # needs neither LLVM nor CUDA
_DEPTH = 4
_NEAR_M, _FAR_M, _GROUND_M = 0.05, 1000.0, 500.0
_LEAST_SINE = 1e-3  # of a ray that is taken to meet the ground


def require_mitsuba() -> str:
    """The name and version of Mitsuba.

    Raises:
        RenderError: it is not installed.
    """
    if importlib.util.find_spec("mitsuba") is None:
        raise RenderError("photos.stand_in traced needs Mitsuba: pip install 'mitsuba>=3.9,<4', the extra `traced`")
    from importlib.metadata import version

    return f"Mitsuba {version('mitsuba')}"


def traced_light(
    people: Surfaces,
    faces: Int[np.ndarray, "f 3"],
    camera: Cameras,
    light: Light,
    ground: Float[np.ndarray, "3"],
    share: Float[np.ndarray, "h w"],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "h w 4"]:
    """Light of people and their shadows, for `composite.over`.

    A picture of people on a ground of one colour is traced. Against what that ground sends back unshaded it says how much of
    the light is lost at each pixel of it; beneath outlines, as much as at the nearest pixel that shows no person.

    Args:
        people: dressed.
        faces: of each person.
        camera: one.
        light: direction in the world's frame.
        ground: linear colour of the ground at y = 0.
        share: of each pixel that shows people.
        samples: light paths of each pixel.
        seed: of the paths.

    Raises:
        RenderError: Mitsuba is not installed.
    """
    seen = _trace(people, faces, camera, light, ground, samples, seed)
    on_it = _meets_ground(camera)
    unshaded = np.where(on_it[..., None], ground * on_ground(light), light.ambient)
    left = np.where(on_it, np.clip((seen / np.maximum(unshaded, 1e-6)).mean(axis=-1), 0, 1), 1.0)
    nearest = distance_transform_edt(share > 0, return_distances=False, return_indices=True)
    assert nearest is not None, "indices were asked for"
    shown = (1 - share) * left[tuple(nearest)]  # of what is behind
    colour = np.where(share[..., None] > 0, np.maximum(seen - shown[..., None] * unshaded, 0), 0)
    return np.concatenate([colour, 1 - shown[..., None]], axis=-1).astype(np.float32)


def _trace(
    people: Surfaces,
    faces: np.ndarray,
    camera: Cameras,
    light: Light,
    ground: np.ndarray,
    samples: int,
    seed: int,
) -> Float[np.ndarray, "h w 3"]:
    require_mitsuba()
    import mitsuba as mi  # pyright: ignore[reportMissingImports]  # an extra

    mi.set_variant(_VARIANT)
    flat = mi.ScalarTransform4f().rotate([1, 0, 0], -90).scale(_GROUND_M)
    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": _DEPTH},
            "people": _mesh(mi, people, faces),
            "ground": {"type": "rectangle", "to_world": flat, "bsdf": _rough(ground.tolist())},
            "sun": {"type": "directional", "direction": light.direction.tolist(), "irradiance": _grey(light.intensity)},
            "sky": {"type": "constant", "radiance": _grey(light.ambient)},
            "sensor": _sensor(mi, camera),
        }
    )
    return np.array(mi.render(scene, spp=samples, seed=seed % 2**31), float)


def _mesh(mi: Any, people: Surfaces, faces: np.ndarray) -> Any:
    count, each = people.vertices.shape[:2]
    options = mi.Properties()
    options["bsdf"] = mi.load_dict(
        {"type": "diffuse", "reflectance": {"type": "mesh_attribute", "name": "vertex_color"}}
    )
    mesh = mi.Mesh("people", count * each, count * len(faces), options, has_vertex_normals=True)
    own = mi.traverse(mesh)
    own["vertex_positions"] = people.vertices.astype(np.float32).reshape(-1)
    own["vertex_normals"] = people.normals.astype(np.float32).reshape(-1)
    own["faces"] = (faces[None] + each * np.arange(count)[:, None, None]).astype(np.uint32).reshape(-1)
    own.update()
    mesh.add_attribute("vertex_color", 3, people.colours.astype(np.float32).reshape(-1))
    return mesh


def _sensor(mi: Any, camera: Cameras) -> dict[str, Any]:
    """Mitsuba's camera looks along +z with x to the left and y up; its offset moves the axis by shares of each side."""
    width, height = camera.width, camera.height
    rotation = camera.rotation[0].astype(float)
    pose = np.eye(4)
    pose[:3, :3] = rotation.T @ np.diag([-1.0, -1.0, 1.0])
    pose[:3, 3] = -rotation.T @ camera.translation[0].astype(float)
    across, down = (float(v) for v in camera.principal_px[0])
    return {
        "type": "perspective",
        "fov_axis": "x",
        "fov": 2 * float(np.degrees(np.arctan(width / 2 / float(camera.focal_px[0])))),
        "principal_point_offset_x": 0.5 - across / width,
        "principal_point_offset_y": 0.5 - down / height,
        "near_clip": _NEAR_M,
        "far_clip": _FAR_M,
        "to_world": mi.ScalarTransform4f(pose),
        # A pixel shows what lies within it, and nothing of its neighbours.
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "pixel_format": "rgb",
            "rfilter": {"type": "box"},
        },
    }


def _meets_ground(camera: Cameras) -> np.ndarray:
    """Whether the middle of each pixel (h, w) shows the ground where nobody stands before it."""
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    pixels = np.stack([columns.reshape(-1), rows.reshape(-1)], axis=1)[None]
    eye = -camera.rotation[0].T @ camera.translation[0]
    rays = camera.unproject(pixels, np.ones((1, camera.width * camera.height)))[0] - eye
    down = -rays[:, 1] / np.linalg.norm(rays, axis=1)
    return (down > _LEAST_SINE).reshape(camera.height, camera.width)


def _rough(colour: list[float]) -> dict[str, Any]:
    return {"type": "diffuse", "reflectance": {"type": "rgb", "value": colour}}


def _grey(value: float) -> dict[str, Any]:
    return {"type": "rgb", "value": float(value)}
