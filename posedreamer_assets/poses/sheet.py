"""Contact sheets of pose files: some poses of each clip, the body beside the source's own skeleton."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from posedreamer_assets.body.joints import JOINT_INDEX, JOINT_NAMES
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.sources import PoseFrames, Sketch
from posedreamer_assets.poses.sources.frames import spread_rows
from posedreamer_assets.render.control import vertex_normals
from posedreamer_assets.render.drawing import LEFT_RGB, MUTED_RGB, PAPER_RGB, RIGHT_RGB, contact_sheet
from posedreamer_assets.render.gl import View, renderer
from posedreamer_assets.render.shading import Light, lit

FRAMES = 5  # of each clip
ROWS = 20  # of a page, one for each clip
_CELL = 112  # pixels
_FINE = 2  # times as large while drawn
_HEIGHT_M = 2.3  # that a cell shows
_AWAY_M = 8.0
_FROM_FRONT_DEG, _DOWN_DEG = 35.0, 8.0
_MIDDLE_M = 1.0  # height that the camera looks at
_GROUND_RGB = (206, 204, 196)
_BONE_RGB = (96, 98, 104)
_BODY_RGB = (200, 198, 192)
_LIGHT = Light(np.array([-0.4, 0.5, 1.0]), intensity=2.6, ambient=0.4)


@dataclass
class Sheets:
    """Pages of clips, each written when it is full; `close` writes the last.

    Attributes:
        folder: of the pages, made when the first is written.
        body: that the poses are for.
        pages: written so far.
    """

    folder: Path
    body: BodyModel
    pages: list[Path] = field(default_factory=list)
    _rows: list[list[np.ndarray]] = field(default_factory=list)
    _titles: list[str] = field(default_factory=list)

    def add(self, title: str, clip: PoseFrames) -> None:
        """Draw the poses of which the clip has sketches.

        Raises:
            RenderError: no OpenGL on this machine.
            OSError: the page cannot be written.
        """
        if row := pictures(self.body, clip):
            self._rows.append(row)
            self._titles.append(title)
        if len(self._rows) == ROWS:
            self.close()

    def close(self) -> None:
        """Write what is on no page yet."""
        if not self._rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"poses-{len(self.pages) + 1:03d}.png"
        page = contact_sheet(self._rows, captions=self._titles, cell_px=_CELL)
        Image.fromarray(page).save(path)
        self.pages.append(path)
        self._rows, self._titles = [], []


def pictures(body: BodyModel, clip: PoseFrames) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Body and source skeleton in turns, for each sketch of a clip; left limbs are blue, right ones orange."""
    if not clip.sketches:
        return []
    posed = body.forward(BodyParams.concat([sketch.params for sketch in clip.sketches]))
    cells: list[np.ndarray] = []
    for sketch, vertices, joints in zip(clip.sketches, posed.vertices, posed.joints, strict=True):
        camera = _Camera.before(joints)
        cells += [_body(body, vertices, camera), _skeleton(sketch, joints[0], camera)]
    return cells


@dataclass(frozen=True)
class _Camera:
    rotation: Float[np.ndarray, "3 3"]  # world to camera, OpenCV
    target: Float[np.ndarray, "3"]

    @classmethod
    def before(cls, joints: Float[np.ndarray, "j 3"]) -> "_Camera":
        """A camera that sees a body from the front and a little from its left."""
        left = joints[JOINT_INDEX["left_hip"]] - joints[JOINT_INDEX["right_hip"]]
        heading = np.arctan2(-left[2], left[0]) if np.hypot(left[0], left[2]) > 0.03 else 0.0
        yaw, pitch = heading + np.deg2rad(_FROM_FRONT_DEG), np.deg2rad(_DOWN_DEG)
        back = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        target = np.array([joints[0, 0], max(_MIDDLE_M, joints[0, 1]), joints[0, 2]])
        return cls(np.stack([right, -np.cross(back, right), -back]), target)

    def points_cam(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return (points - self.target) @ self.rotation.T + np.array([0.0, 0.0, _AWAY_M])

    def pixels(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        seen = self.points_cam(points)
        return _VIEW.focal_px * seen[:, :2] / np.maximum(seen[:, 2:], 0.1) + np.array(_VIEW.principal_px)


_SIDE = _CELL * _FINE
_VIEW = View(_SIDE * _AWAY_M / _HEIGHT_M, (_SIDE / 2, _SIDE / 2), _SIDE, _SIDE)


def _paper(camera: _Camera) -> Image.Image:
    """An empty cell with the ground below what the camera looks at."""
    paper = Image.new("RGB", (_SIDE, _SIDE), PAPER_RGB)
    ground = float(camera.pixels(camera.target[None] * [1.0, 0.0, 1.0])[0, 1])
    ImageDraw.Draw(paper).line(((0, ground), (_SIDE, ground)), fill=_GROUND_RGB, width=2 * _FINE)
    return paper


def _body(body: BodyModel, vertices: Float[np.ndarray, "v 3"], camera: _Camera) -> UInt8[np.ndarray, "h w 3"]:
    picture = np.array(_paper(camera))
    points = camera.points_cam(vertices)
    colours = lit(points, vertex_normals(body, points), _tints(body), _LIGHT)
    drawn = renderer().draw(points, body.faces, colours, _VIEW)
    place = picture[drawn.y : drawn.y + drawn.value.shape[0], drawn.x : drawn.x + drawn.value.shape[1]]
    place[drawn.depth_m > 0] = drawn.value[drawn.depth_m > 0]
    return _small(Image.fromarray(picture))


@lru_cache(maxsize=2)
def _tints(body: BodyModel) -> Float[np.ndarray, "v 3"]:
    """Linear colours that tell left limbs from right ones."""
    of_joint = []
    for name in JOINT_NAMES:
        rgb = LEFT_RGB if name.startswith("left") else RIGHT_RGB if name.startswith("right") else _BODY_RGB
        of_joint.append((0.5 * np.array(rgb) + 0.5 * np.array(_BODY_RGB)) / 255)
    return np.array(of_joint)[body.dominant_joint] ** 2.2


def _skeleton(sketch: Sketch, pelvis: Float[np.ndarray, "3"], camera: _Camera) -> UInt8[np.ndarray, "h w 3"]:
    """A source's skeleton, its pelvis, which is its first joint, where the body has its own."""
    paper = _paper(camera)
    pen = ImageDraw.Draw(paper)
    places = camera.pixels(np.nan_to_num(sketch.joints_m - sketch.joints_m[0] + pelvis))
    points = [(float(x), float(y)) for x, y in np.clip(places, -_SIDE, 2 * _SIDE)]
    for parent, joint in sketch.bones.tolist():
        side = sketch.sides[joint] or sketch.sides[parent]
        colour = LEFT_RGB if side == "left" else RIGHT_RGB if side == "right" else _BONE_RGB
        pen.line((points[parent], points[joint]), fill=colour, width=2 * _FINE)
    for x, y in points:
        pen.ellipse((x - _FINE, y - _FINE, x + _FINE, y + _FINE), fill=MUTED_RGB)
    return _small(paper)


def _small(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(picture.resize((_CELL, _CELL), Image.Resampling.BOX))


def as_titled(path: str, clip: PoseFrames) -> str:
    """A caption: where the clip comes from and what it was taken for."""
    axis = f"{clip.up_axis} up" if clip.up_axis else "a camera's axes"
    sure = "" if clip.up_axis_sure is None else f" ({clip.up_axis_sure:.0%} sure)"
    name = "" if clip.family == PurePosixPath(path).stem else f" {clip.family},"
    return f"{path}:{name} {clip.kind}, {clip.count} frames, {axis}{sure}"


def taken(paths: Sequence[str], most: int) -> set[str]:
    """At most so many of some files, spread evenly."""
    return {paths[int(row)] for row in spread_rows(len(paths), most)}
