"""The one module that imports pyrender: triangles in, pixels out. One long-lived renderer per process.

Callers use OpenCV's camera frame; the flip to OpenGL's happens in `_to_opengl` and nowhere else.
"""

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from posedreamer_assets.errors import RenderError

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")

_SHADERS = Path(__file__).parent / "shaders"
_NEAR_M, _FAR_M = 0.05, 100.0


@dataclass(frozen=True)
class Light:
    """A directional light: direction that it shines to (camera frame) and strengths, in pyrender's units."""

    direction: Float[np.ndarray, "3"]
    intensity: float
    ambient: float


@dataclass(frozen=True)
class View:
    """Intrinsics of one picture, pixels."""

    focal_px: float
    principal_px: tuple[float, float]
    width: int
    height: int

    def scaled(self, factor: int) -> "View":
        """The same view at a larger size."""
        cx, cy = self.principal_px
        return View(self.focal_px * factor, (cx * factor, cy * factor), self.width * factor, self.height * factor)


class Renderer:
    """Draws one mesh at a time into an off-screen buffer that is made once and resized when needed."""

    def __init__(self) -> None:
        try:
            import pyrender
            from pyrender.shader_program import ShaderProgramCache

            self._pyrender: Any = pyrender
            self._offscreen: Any = pyrender.OffscreenRenderer(64, 64)
        except Exception as error:
            raise RenderError(
                f"cannot open an off-screen OpenGL context ({type(error).__name__}: {error}); on Debian or Ubuntu: "
                "apt-get install libegl1 libgl1-mesa-dri"
            ) from error
        self._lit_programs = self._offscreen._renderer._program_cache
        self._data_programs = ShaderProgramCache(shader_dir=str(_SHADERS))

    def draw_data(
        self,
        vertices_cam: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        values: Float[np.ndarray, "v 3"],
        view: View,
        interpolate: bool = True,
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        """Unlit vertex values in [0, 1] as 8 bit, and depth in metres (0 where nothing is). No anti-aliasing.

        `interpolate=False` gives each triangle the value of its last vertex.
        """
        alpha = np.full((len(values), 1), 1.0 if interpolate else 0.0)
        node, scene = self._scene(vertices_cam, faces, np.concatenate([values, alpha], axis=1), None, view)
        self._offscreen._renderer._program_cache = self._data_programs
        return self._render(scene, view, self._pyrender.RenderFlags.SEG, {node: (1.0, 1.0, 1.0)})

    def draw_lit(
        self,
        vertices_cam: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        normals_cam: Float[np.ndarray, "v 3"],
        colours: Float[np.ndarray, "v 3"],
        light: Light,
        view: View,
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        """A shaded picture on black and depth in metres (0 where nothing is)."""
        rgba = np.concatenate([colours, np.ones((len(colours), 1))], axis=1)
        _, scene = self._scene(vertices_cam, faces, rgba, normals_cam, view)
        scene.ambient_light = np.full(3, light.ambient)
        scene.add(self._pyrender.DirectionalLight(np.ones(3), light.intensity), pose=_looking_along(light.direction))
        self._offscreen._renderer._program_cache = self._lit_programs
        return self._render(scene, view, self._pyrender.RenderFlags.NONE, None)

    def _scene(
        self, vertices_cam: np.ndarray, faces: np.ndarray, rgba: np.ndarray, normals: np.ndarray | None, view: View
    ) -> tuple[Any, Any]:
        pr = self._pyrender
        material = pr.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=0.9, doubleSided=True)
        primitive = pr.Primitive(
            positions=_to_opengl(vertices_cam),
            normals=None if normals is None else _to_opengl(normals),
            indices=faces,
            color_0=rgba.astype(np.float32),
            material=material,
        )
        scene = pr.Scene(bg_color=(0, 0, 0, 0), ambient_light=np.ones(3))
        node = scene.add(pr.Mesh([primitive]))
        (cx, cy), f = view.principal_px, view.focal_px
        scene.add(pr.IntrinsicsCamera(f, f, cx, cy, znear=_NEAR_M, zfar=_FAR_M))
        return node, scene

    def _render(
        self, scene: Any, view: View, flags: Any, nodes: dict[Any, Any] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if (self._offscreen.viewport_width, self._offscreen.viewport_height) != (view.width, view.height):
            self._offscreen.viewport_width = view.width
            self._offscreen.viewport_height = view.height
        colour, depth = self._offscreen.render(scene, flags=flags, seg_node_map=nodes)
        return np.ascontiguousarray(colour[..., :3]), np.ascontiguousarray(depth)


@lru_cache(maxsize=1)
def renderer() -> Renderer:
    """The renderer of this process.

    Raises:
        RenderError: no off-screen OpenGL on this machine.
    """
    return Renderer()


def _to_opengl(vectors: np.ndarray) -> np.ndarray:
    """OpenCV's camera frame (y down, z forward) to OpenGL's (y up, z backward)."""
    return (vectors * np.array([1.0, -1.0, -1.0])).astype(np.float32)


def _looking_along(direction_cam: np.ndarray) -> np.ndarray:
    """A pose whose -z axis is the direction, in OpenGL's frame."""
    backward = -_to_opengl(direction_cam).astype(float)
    backward /= np.linalg.norm(backward)
    side = np.cross([0.0, 1.0, 0.0] if abs(backward[1]) < 0.9 else [1.0, 0.0, 0.0], backward)
    side /= np.linalg.norm(side)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([side, np.cross(backward, side), backward], axis=1)
    return pose
