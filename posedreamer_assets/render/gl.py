"""The one module that knows OpenGL: triangles in, pixels out. One long-lived context per process.

pyrender opens the context (EGL, OSMesa or a window system's); the drawing is done here, because its scene graph uploads
the mesh, links programs and reads whole buffers anew for every picture. Callers use OpenCV's camera frame; the flip to
OpenGL's happens in `_projection` and nowhere else.
"""

import ctypes
import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from posedreamer_assets.errors import RenderError

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")

DEBIAN_PACKAGES = (
    "libegl1 libgl1 libgl1-mesa-dri libxrender1"  # Xrender, because pyrender imports a viewer that wants it
)
_NEAR_M, _FAR_M = 0.05, 100.0
_SAMPLES = 4  # of each pixel
_MARGIN_PX = 2
_KEPT_TARGETS = 2  # maps and scenes have sizes of their own and are drawn in turn

# Values are interpolated over a triangle; a label is that of one corner, so that labels never mix.
_VERTEX = """#version 330 core
layout(location = 0) in vec3 position;
layout(location = 1) in vec4 value_and_label;
layout(location = 2) in vec3 normal;
uniform mat4 projection;
out vec3 value;
out vec3 smooth_normal;
flat out float label;
void main() {
    gl_Position = projection * vec4(position, 1.0);
    value = value_and_label.rgb;
    label = value_and_label.a;
    smooth_normal = normal;
}"""
_FRAGMENT = """#version 330 core
in vec3 value;
in vec3 smooth_normal;
flat in float label;
layout(location = 0) out vec4 first;
layout(location = 1) out vec4 second;
void main() {
    first = vec4(value, label);
    second = vec4(smooth_normal, 1.0);
}"""


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


@dataclass(frozen=True)
class Drawn:
    """What one draw gave: pixels of the rectangle that the mesh may touch; all others are background (zero)."""

    x: int
    y: int
    value: UInt8[np.ndarray, "h w 3"]
    label: UInt8[np.ndarray, "h w"]
    normal: UInt8[np.ndarray, "h w 3"] | None
    depth_m: Float[np.ndarray, "h w"]  # 0 where nothing is

    def paste(self, picture: np.ndarray, part: np.ndarray) -> None:
        """Write a part into its place in a whole picture."""
        height, width = part.shape[:2]
        place = picture[self.y : self.y + height, self.x : self.x + width]
        if part.ndim == 2:
            place[...] = part
            return
        for channel in range(part.shape[2]):  # NumPy takes five times as long for three bytes of each four at once
            place[..., channel] = part[..., channel]


def _load_triton() -> None:
    """Load the library of triton, where it is installed, before Mesa loads LLVM.

    torch for CUDA brings triton, and imports it with the first diffusion model. It holds an LLVM of its own; loaded after
    Mesa's it takes the process down (seen with triton 3.7 and Mesa 22.3), loaded before, both work.
    """
    found = importlib.util.find_spec("triton")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for library in Path(folder).glob("_C/libtriton*.so"):
            with suppress(OSError):  # torch tells of it, where it is needed
                ctypes.CDLL(str(library))


class Renderer:
    """Draws one mesh at a time into off-screen buffers that are made once and again only when the size changes."""

    def __init__(self) -> None:
        _load_triton()
        try:
            import pyrender

            self._context: Any = pyrender.OffscreenRenderer(64, 64)
            self._context._platform.make_current()
            from OpenGL import GL

            self._gl: Any = GL
            self._program = _linked(GL)
            self._vertex_array = GL.glGenVertexArrays(1)
            self._buffers = GL.glGenBuffers(4)  # positions, values and labels, normals; indices
            self._faces: np.ndarray | None = None
            self._targets: dict[tuple[int, int], _Target] = {}  # by width and height
        except Exception as error:
            raise RenderError(
                f"cannot open an off-screen OpenGL context ({type(error).__name__}: {error}); on Debian or Ubuntu: "
                f"apt-get install {DEBIAN_PACKAGES}"
            ) from error

    def draw(
        self,
        vertices_cam: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        values: Float[np.ndarray, "v 3"],
        view: View,
        *,
        labels: Float[np.ndarray, "v"] | None = None,
        normals: Float[np.ndarray, "v 3"] | None = None,
        smooth: bool = False,
    ) -> Drawn:
        """One pass over the triangles: unlit vertex values, labels and normals, all in [0, 1], as 8 bit, and depth.

        Args:
            vertices_cam: camera frame, metres.
            faces: triangles; uploaded again only when it is another array.
            values: interpolated over each triangle.
            view: intrinsics.
            labels: each triangle has that of its last vertex; 1 without them.
            normals: interpolated like values, without renormalising.
            smooth: for pictures: average several samples of each pixel (over black, where not all of them show the mesh)
                and draw both sides of triangles. Data takes a pixel's centre and the sides that face the camera.
        """
        gl = self._gl
        self._context._platform.make_current()
        target = self._target(view.width, view.height)
        x, y, width, height = _rectangle(vertices_cam, view)
        box = (x, view.height - y - height, width, height)
        target.bind(box, pair=normals is not None, smooth=smooth)
        gl.glUseProgram(self._program)
        matrix = _projection(view).astype(np.float32)
        gl.glUniformMatrix4fv(gl.glGetUniformLocation(self._program, "projection"), 1, gl.GL_TRUE, matrix)
        gl.glBindVertexArray(self._vertex_array)
        alpha = np.ones(len(values)) if labels is None else labels
        self._upload(0, vertices_cam)
        self._upload(1, np.concatenate([values, alpha[:, None]], axis=1))
        self._upload(2, normals)
        self._upload_faces(faces)
        gl.glDrawElements(gl.GL_TRIANGLES, faces.size, gl.GL_UNSIGNED_INT, None)
        first, second, depth = target.read(*box)
        return Drawn(
            x,
            y,
            value=first[..., :3],
            label=first[..., 3],
            normal=None if second is None else second[..., :3],
            depth_m=_metres(depth),
        )

    def draw_data(
        self,
        vertices_cam: Float[np.ndarray, "v 3"],
        faces: Int[np.ndarray, "f 3"],
        values: Float[np.ndarray, "v 3"],
        view: View,
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        """Unlit vertex values in [0, 1] as 8 bit, and depth in metres (0 where nothing is). No anti-aliasing."""
        drawn = self.draw(vertices_cam, faces, values, view)
        picture, depth = (
            np.zeros((view.height, view.width, 3), np.uint8),
            np.zeros((view.height, view.width), np.float32),
        )
        drawn.paste(picture, drawn.value)
        drawn.paste(depth, drawn.depth_m)
        return picture, depth

    def _target(self, width: int, height: int) -> "_Target":
        if (width, height) not in self._targets:
            if len(self._targets) == _KEPT_TARGETS:
                self._targets.pop(next(iter(self._targets))).delete()
            self._targets[(width, height)] = _Target(self._gl, width, height)
        return self._targets[(width, height)]

    def _upload(self, location: int, values: np.ndarray | None) -> None:
        gl = self._gl
        if values is None:
            gl.glDisableVertexAttribArray(location)
            return
        packed = np.ascontiguousarray(values, np.float32)
        gl.glBindBuffer(gl.GL_ARRAY_BUFFER, self._buffers[location])
        gl.glBufferData(gl.GL_ARRAY_BUFFER, packed.nbytes, packed, gl.GL_STREAM_DRAW)
        gl.glEnableVertexAttribArray(location)
        gl.glVertexAttribPointer(location, packed.shape[1], gl.GL_FLOAT, gl.GL_FALSE, 0, None)

    def _upload_faces(self, faces: np.ndarray) -> None:
        gl = self._gl
        if faces is self._faces:
            return
        packed = np.ascontiguousarray(faces, np.uint32)
        gl.glBindBuffer(gl.GL_ELEMENT_ARRAY_BUFFER, self._buffers[3])
        gl.glBufferData(gl.GL_ELEMENT_ARRAY_BUFFER, packed.nbytes, packed, gl.GL_STATIC_DRAW)
        self._faces = faces


class _Target:
    """Two colour buffers and depth of one size. Data is drawn into them; pictures into a second set, with several samples of a
    pixel, whose averages the first one takes."""

    def __init__(self, gl: Any, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._gl, self._pair, self._smooth = gl, False, False
        self._whole, whole = self._framebuffer(0)
        self._samples, samples = self._framebuffer(_SAMPLES)
        self._buffers = whole + samples

    def bind(self, box: tuple[int, int, int, int], *, pair: bool, smooth: bool) -> None:
        """Make a rectangle of it what is drawn into, cleared; `pair`: into both colour buffers."""
        gl, self._pair, self._smooth = self._gl, pair, smooth
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self._samples if smooth else self._whole)
        attachments = [gl.GL_COLOR_ATTACHMENT0, gl.GL_COLOR_ATTACHMENT1] if pair else [gl.GL_COLOR_ATTACHMENT0]
        gl.glDrawBuffers(len(attachments), attachments)
        gl.glViewport(0, 0, self.width, self.height)
        switches = (
            (gl.GL_BLEND, False),
            (gl.GL_SCISSOR_TEST, True),
            (gl.GL_DEPTH_TEST, True),
            (gl.GL_MULTISAMPLE, smooth),
            (gl.GL_CULL_FACE, True),
        )
        for switch, on in switches:
            (gl.glEnable if on else gl.glDisable)(switch)
        gl.glScissor(*box)
        gl.glDepthFunc(gl.GL_LESS)
        gl.glClearColor(0.0, 0.0, 0.0, 0.0)
        gl.glClear(gl.GL_COLOR_BUFFER_BIT | gl.GL_DEPTH_BUFFER_BIT)

    def read(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """A rectangle of both colour buffers (RGBA) and of depth in [0, 1], top row first; `y` counts from the bottom."""
        gl, box = self._gl, (x, y, width, height)
        attachments = [gl.GL_COLOR_ATTACHMENT0, gl.GL_COLOR_ATTACHMENT1][: 1 + self._pair]
        if self._smooth:
            self._average(attachments, box)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._whole)
        depth = np.empty((height, width), np.float32)
        gl.glReadPixels(*box, gl.GL_DEPTH_COMPONENT, gl.GL_FLOAT, depth)
        first, *second = (self._colour(attachment, box) for attachment in attachments)
        return first, second[0] if second else None, depth[::-1]

    def _average(self, attachments: list[Any], box: tuple[int, int, int, int]) -> None:
        """Average the samples of a rectangle of these colour buffers; of depth one sample is taken."""
        gl, (x, y, width, height) = self._gl, box
        corners = (x, y, x + width, y + height)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._samples)
        gl.glBindFramebuffer(gl.GL_DRAW_FRAMEBUFFER, self._whole)
        for number, attachment in enumerate(attachments):
            gl.glReadBuffer(attachment)
            gl.glDrawBuffers(number + 1, [*[gl.GL_NONE] * number, attachment])
            parts = gl.GL_COLOR_BUFFER_BIT if number else gl.GL_COLOR_BUFFER_BIT | gl.GL_DEPTH_BUFFER_BIT
            gl.glBlitFramebuffer(*corners, *corners, parts, gl.GL_NEAREST)

    def _colour(self, attachment: Any, box: tuple[int, int, int, int]) -> np.ndarray:
        """RGBA of a rectangle of one colour buffer."""
        gl, (_, _, width, height) = self._gl, box
        pixels = np.empty((height, width, 4), np.uint8)
        gl.glReadBuffer(attachment)
        gl.glReadPixels(*box, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, pixels)
        return pixels[::-1]

    def delete(self) -> None:
        """Free what it holds."""
        gl = self._gl
        gl.glDeleteFramebuffers(2, [self._whole, self._samples])
        gl.glDeleteRenderbuffers(len(self._buffers), self._buffers)

    def _framebuffer(self, samples: int) -> tuple[int, list[int]]:
        gl = self._gl
        framebuffer = int(gl.glGenFramebuffers(1))
        buffers = [int(name) for name in gl.glGenRenderbuffers(3)]
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, framebuffer)
        kinds = (
            (gl.GL_COLOR_ATTACHMENT0, gl.GL_RGBA8),
            (gl.GL_COLOR_ATTACHMENT1, gl.GL_RGBA8),
            (gl.GL_DEPTH_ATTACHMENT, gl.GL_DEPTH_COMPONENT24),
        )
        for buffer, (attachment, kind) in zip(buffers, kinds, strict=True):
            gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, buffer)
            if samples > 1:
                gl.glRenderbufferStorageMultisample(gl.GL_RENDERBUFFER, samples, kind, self.width, self.height)
            else:
                gl.glRenderbufferStorage(gl.GL_RENDERBUFFER, kind, self.width, self.height)
            gl.glFramebufferRenderbuffer(gl.GL_FRAMEBUFFER, attachment, gl.GL_RENDERBUFFER, buffer)
        return framebuffer, buffers


@lru_cache(maxsize=1)
def renderer() -> Renderer:
    """The renderer of this process.

    Raises:
        RenderError: no off-screen OpenGL on this machine.
    """
    return Renderer()


def _linked(gl: Any) -> int:
    from OpenGL.GL import shaders

    parts = [
        shaders.compileShader(_VERTEX, gl.GL_VERTEX_SHADER),
        shaders.compileShader(_FRAGMENT, gl.GL_FRAGMENT_SHADER),
    ]
    return shaders.compileProgram(*parts, validate=False)


def _projection(view: View) -> Float[np.ndarray, "4 4"]:
    """OpenCV's camera frame (y down, z forward) to OpenGL's clip space (y up, z forward after division)."""
    (cx, cy), f = view.principal_px, view.focal_px
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = 2 * f / view.width, 2 * cx / view.width - 1
    matrix[1, 1], matrix[1, 2] = -2 * f / view.height, 1 - 2 * cy / view.height
    matrix[2, 2] = (_FAR_M + _NEAR_M) / (_FAR_M - _NEAR_M)
    matrix[2, 3] = 2 * _FAR_M * _NEAR_M / (_NEAR_M - _FAR_M)
    matrix[3, 2] = 1.0
    return matrix


def _rectangle(vertices_cam: np.ndarray, view: View) -> tuple[int, int, int, int]:
    """Left, top, width and height of pixels that the mesh may touch; the frame where a vertex is not before the camera."""
    x, y, z = vertices_cam.T
    frame = np.array([view.width, view.height])
    if len(z) == 0 or not z.min() > _NEAR_M:
        return 0, 0, view.width, view.height
    across, down = x / z, y / z
    low = np.array([across.min(), down.min()]) * view.focal_px + view.principal_px
    high = np.array([across.max(), down.max()]) * view.focal_px + view.principal_px
    first = np.clip(np.floor(low) - _MARGIN_PX, 0, frame - 1).astype(int)
    last = np.clip(np.ceil(high) + _MARGIN_PX, first + 1, frame).astype(int)
    return int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1])


def _metres(depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Distance along z of a depth buffer's values; 0 at the far plane, where nothing was drawn."""
    z = 2.0 * depth - 1.0
    metres = (2.0 * _NEAR_M * _FAR_M) / (_FAR_M + _NEAR_M - z * (_FAR_M - _NEAR_M))
    metres[depth == 1.0] = 0.0
    return metres
