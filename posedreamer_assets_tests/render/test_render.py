"""Control maps and scenes: the picture and the numbers must tell the same story."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.joints import COCO17, JOINT_INDEX, OUTPUT_JOINT_NAMES
from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import sample_cameras
from posedreamer_assets.config import CameraConfig, ImageConfig, ScenesConfig
from posedreamer_assets.errors import CaptionError
from posedreamer_assets.poses.procedural import procedural_poses
from posedreamer_assets.render.appearance import (
    appearance_from_json,
    appearance_to_json,
    garment_masks,
    sample_appearance,
    vertex_colours,
)
from posedreamer_assets.render.captions import NAMED_COLOURS, make_caption, parse_caption
from posedreamer_assets.render.control import canonical_colours, render_control_maps, vertex_normals, view_of
from posedreamer_assets.render.gl import Drawn, View, renderer
from posedreamer_assets.render.scene import _lay_over, render_scenes
from posedreamer_assets.render.shading import Light, brightness

SIZE = 128
IDS = [f"procedural-0000/{i:06d}" for i in range(6)]


@pytest.fixture(scope="module")
def bodies() -> tuple[BodyParams, Cameras]:
    body = load_body()
    params, _ = procedural_poses(body, IDS, 0)
    surface = body.forward(params).vertices[:, ::20]
    cameras, _ = sample_cameras(surface, IDS, 0, CameraConfig(truncated_share=0.0), ImageConfig(SIZE, SIZE))
    return params, cameras


def frontal(**arrays: np.ndarray) -> tuple[BodyParams, Cameras]:
    params = BodyParams.zeros(1).replace(transl=np.array([[0, 1.0, 0]], np.float32), **arrays)
    camera = Cameras(
        np.diag([1.0, -1.0, -1.0]).astype(np.float32)[None],
        np.array([[0, 0.9, 4.0]], np.float32),
        np.array([200.0], np.float32),
        np.array([[64.0, 64.0]], np.float32),
        SIZE,
        SIZE,
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
    )
    return params, camera


@pytest.mark.parametrize("offset", [(0.0, 0.0), (-0.9, 0.5), (0.9, -0.8)])
def test_projection_and_rendering_agree_to_half_a_pixel(offset: tuple[float, float]) -> None:
    """A small sphere drawn at a known place: the centroid of its pixels is where projection puts its centre."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rings = [
        np.stack([np.cos(angles) * np.sin(t), np.full(24, np.cos(t)), np.sin(angles) * np.sin(t)], 1)
        for t in np.linspace(0.05, 3.09, 16)
    ]
    vertices = np.concatenate(rings) * 0.15
    faces = np.array(
        [
            f
            for r in range(15)
            for k in range(24)
            for f in (
                (r * 24 + k, r * 24 + (k + 1) % 24, (r + 1) * 24 + k),
                ((r + 1) * 24 + k, r * 24 + (k + 1) % 24, (r + 1) * 24 + (k + 1) % 24),
            )
        ]
    )
    centre = np.array([*offset, 4.0])
    view = View(170.0, (61.0, 70.0), SIZE, 112)
    _, depth = renderer().draw_data(vertices + centre, faces, np.ones((len(vertices), 3)), view)
    rows, columns = np.nonzero(depth)
    drawn = np.array([columns.mean(), rows.mean()]) + 0.5
    expected = 170.0 * centre[:2] / centre[2] + (61.0, 70.0)
    # A sphere off the axis appears as an ellipse whose centre lies a little outwards: allow for it.
    assert np.abs(drawn - expected).max() < 0.5


def test_joints_fall_on_the_drawn_body(bodies: tuple[BodyParams, Cameras]) -> None:
    params, cameras = bodies
    maps = render_control_maps(load_body(), params, cameras)
    inside = maps.joints_2d[:, :22].astype(int)
    hits = maps.silhouette[
        np.arange(len(params))[:, None], inside[..., 1].clip(0, SIZE - 1), inside[..., 0].clip(0, SIZE - 1)
    ]
    assert (hits > 0).mean() > 0.97


def test_silhouette_edges_match_projected_vertices(bodies: tuple[BodyParams, Cameras]) -> None:
    params, cameras = bodies
    maps = render_control_maps(load_body(), params, cameras)
    pixels = cameras.project(load_body().forward(params).vertices)
    for i in range(len(params)):
        low, high = pixels[i].min(0), pixels[i].max(0)
        x, y, w, h = maps.bbox[i]
        np.testing.assert_allclose([x, y, x + w, y + h], [*low, *high], atol=1.5)


def test_depth_is_metric_and_in_front_of_the_joints() -> None:
    params, camera = frontal()
    maps = render_control_maps(load_body(), params, camera)
    pelvis = maps.joints_2d[0, 0].astype(int)
    surface = maps.depth_mm[0, pelvis[1], pelvis[0]] / 1000
    assert 0.02 < maps.joints_cam_m[0, 0, 2] - surface < 0.2
    assert (maps.depth_mm[0][maps.silhouette[0] == 0] == 0).all()


def test_left_and_right_front_and_back_have_different_colours() -> None:
    colours = canonical_colours(load_body())
    joints = load_body().joints(BodyParams.zeros(1))[0]
    vertices = load_body().v_template

    def colour_near(name: str, towards: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
        point = joints[OUTPUT_JOINT_NAMES.index(name)] + np.array(towards)
        return colours[np.linalg.norm(vertices - point, axis=1).argmin()]

    assert np.abs(colour_near("left_wrist") - colour_near("right_wrist")).max() > 0.3
    assert np.abs(colour_near("left_knee") - colour_near("right_knee")).max() > 0.1
    assert np.abs(colour_near("spine2", (0, 0, 0.3)) - colour_near("spine2", (0, 0, -0.3))).max() > 0.15
    assert colours.min() >= 0.1 - 1e-6 and colours.max() <= 1.0


def test_control_colours_do_not_depend_on_the_pose() -> None:
    """A body turned around shows its back: the nose's colour disappears, and returns when it faces us again."""
    body = load_body()
    nose = (canonical_colours(body)[9120] * 255).round()

    def shows_nose(yaw: float) -> bool:
        params, camera = frontal(global_orient=np.array([[0, yaw, 0]], np.float32))
        control = render_control_maps(body, params, camera).control[0].astype(float)
        return bool((np.abs(control - nose).max(-1) <= 14).any())

    assert shows_nose(0.0) and shows_nose(0.4) and not shows_nose(np.pi)


def test_hidden_joints_are_marked() -> None:
    params, camera = frontal()
    maps = render_control_maps(load_body(), params, camera)
    assert maps.keypoints_visible[0].all()
    back = render_control_maps(load_body(), *frontal(global_orient=np.array([[0, np.pi, 0]], np.float32)))
    assert not back.keypoints_visible[0, COCO17.index("nose")]
    assert back.keypoints_visible[0, COCO17.index("left_shoulder")]
    assert (
        back.keypoints_2d[0, COCO17.index("left_shoulder"), 0]
        < 64
        < back.keypoints_2d[0, COCO17.index("right_shoulder"), 0]
    )


def test_joints_out_of_frame_are_marked() -> None:
    params, camera = frontal()
    near = Cameras(
        camera.rotation,
        np.array([[0, 0.9, 1.2]], np.float32),
        camera.focal_px,
        camera.principal_px,
        SIZE,
        SIZE,
        camera.pitch_deg,
        camera.roll_deg,
    )
    maps = render_control_maps(load_body(), params, near)
    assert not maps.keypoints_in_frame[0, COCO17.index("left_ankle")]
    assert not maps.keypoints_visible[0, COCO17.index("left_ankle")]


def test_parts_are_joint_labels_that_never_mix() -> None:
    maps = render_control_maps(load_body(), *frontal())
    parts = maps.parts[0]
    assert ((parts > 0) == (maps.silhouette[0] > 0)).all()
    assert set(np.unique(parts)) <= {0, *(np.unique(load_body().dominant_joint) + 1)}
    wrist = maps.joints_2d[0, JOINT_INDEX["left_elbow"]].astype(int)
    assert parts[wrist[1], wrist[0]] - 1 in (JOINT_INDEX["left_elbow"], JOINT_INDEX["left_shoulder"])


def test_normals_face_the_camera() -> None:
    maps = render_control_maps(load_body(), *frontal())
    normals = maps.normals[0][maps.silhouette[0] > 0].astype(float) / 255 * 2 - 1
    assert (normals[:, 2] < 0.15).mean() > 0.97
    vertices = load_body().v_template
    ours = vertex_normals(load_body(), vertices)
    trimesh = pytest.importorskip("trimesh")
    expected = trimesh.Trimesh(vertices, load_body().faces, process=False).vertex_normals
    assert ((ours * expected).sum(1) > 0.9).mean() > 0.98


def test_maps_do_not_depend_on_the_batch(bodies: tuple[BodyParams, Cameras]) -> None:
    params, cameras = bodies
    together = render_control_maps(load_body(), params, cameras)
    alone = render_control_maps(load_body(), params.take([3]), cameras.take([3]))
    np.testing.assert_array_equal(alone.control[0], together.control[3])
    np.testing.assert_array_equal(alone.depth_mm[0], together.depth_mm[3])


def test_scenes_do_not_depend_on_the_batch_and_follow_the_seed(bodies: tuple[BodyParams, Cameras]) -> None:
    params, cameras = bodies
    looks = [sample_appearance(np.random.default_rng(i), "standing") for i in range(6)]

    def draw(rows: list[int], seed: int) -> np.ndarray:
        return render_scenes(
            load_body(),
            params.take(rows),
            cameras.take(rows),
            [looks[r] for r in rows],
            [IDS[r] for r in rows],
            seed,
            ScenesConfig(),
        )

    first = draw([0, 1, 2], 0)
    np.testing.assert_array_equal(draw([2, 1], 0)[1], first[1])
    assert (draw([1], 5)[0] != first[1]).any()


def test_garments_have_the_colour_that_the_caption_names() -> None:
    body = load_body()
    for name in ("red", "green", "blue", "white", "black"):
        look = sample_appearance(np.random.default_rng(1), "standing")
        look = type(look)(**{**look.__dict__, "top_colour": name, "pattern": "plain"})
        colours = vertex_colours(body, look, np.random.default_rng(2))
        top = colours[garment_masks(body, look)["top"]].mean(0) * 255
        nearest = min(NAMED_COLOURS, key=lambda c: np.abs(top - NAMED_COLOURS[c]).sum())
        assert nearest == name


def test_shirts_cover_more_than_tank_tops_and_left_equals_right() -> None:
    body = load_body()
    look = sample_appearance(np.random.default_rng(0), "standing")
    covered = {
        t: garment_masks(body, type(look)(**{**look.__dict__, "top": t}))["top"]
        for t in ("tank-top", "t-shirt", "shirt")
    }
    assert covered["tank-top"].sum() < covered["t-shirt"].sum() < covered["shirt"].sum()
    shirt, x = covered["shirt"], body.v_template[:, 0]
    assert abs((shirt & (x > 0.02)).sum() - (shirt & (x < -0.02)).sum()) < 0.05 * shirt.sum()


def test_drawing_beside_another_size_changes_nothing() -> None:
    """Buffers are kept from draw to draw: nothing of another mesh, size or kind of draw is left in them."""
    body, (params, camera) = load_body(), frontal()
    vertices = camera.to_camera(body.forward(params).vertices)[0]
    view, colours = view_of(camera, 0), canonical_colours(body)
    first = renderer().draw_data(vertices, body.faces, colours, view)
    for factor in (2, 3, 4):
        renderer().draw(vertices, body.faces[:5000], colours, view.scaled(factor), normals=colours, smooth=True)
    again = renderer().draw_data(vertices, body.faces, colours, view)
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before, after)


def test_only_the_rectangle_of_the_mesh_is_read_and_nothing_lies_outside_it() -> None:
    """A mesh half out of the frame, and one near the camera: as many pixels as reading the whole frame shows."""
    body = load_body()
    for transl in ((0.9, 1.0, 0.0), (0.0, 1.0, 3.0)):
        params, camera = frontal()
        vertices = camera.to_camera(body.forward(params.replace(transl=np.array([transl], np.float32))).vertices)[0]
        drawn = renderer().draw(vertices, body.faces, np.ones_like(vertices), view_of(camera, 0))
        far = np.concatenate([vertices, [[0, 0, -1.0]]])  # a vertex of no triangle, behind the camera: all is read
        whole, _ = renderer().draw_data(far, body.faces, np.ones_like(far), view_of(camera, 0))
        assert whole.any()
        assert drawn.value.any(-1).sum() == whole.any(-1).sum()


def test_light_on_vertices_equals_the_formula_written_out() -> None:
    """glTF's metallic-roughness material for one vertex at a time, in plain floats."""
    rng = np.random.default_rng(0)
    points, normals = rng.normal(size=(20, 3)) + np.array([0, 0, 4]), rng.normal(size=(20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    light = Light(np.array([0.3, 0.8, 0.5]), intensity=2.5, ambient=0.4)
    found = brightness(points, normals, light)
    for point, n, value in zip(points, normals, found, strict=True):
        v = -point / np.linalg.norm(point)
        towards = -light.direction / np.linalg.norm(light.direction)
        h = (v + towards) / np.linalg.norm(v + towards)
        nl, nv = min(max(float(n @ towards), 0.001), 1.0), min(max(abs(float(n @ v)), 0.001), 1.0)
        nh, vh = max(float(n @ h), 0.0), max(float(v @ h), 0.0)
        f, k = 0.04 + 0.96 * (1 - vh) ** 5, 1.9**2 / 8
        g = nl / (nl * (1 - k) + k) * nv / (nv * (1 - k) + k)
        d = 0.9**4 / (np.pi * (nh**2 * (0.9**4 - 1) + 1) ** 2)
        expected = 2.5 * nl * ((1 - f) * 0.96 / np.pi + f * g * d / (4 * nl * nv + 0.001)) + 0.4
        assert value == pytest.approx(expected, rel=1e-4)


def test_a_body_laid_over_a_picture_mixes_in_the_share_that_it_covers() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    depth = np.zeros((3, 3), np.float32)
    depth[0, 0] = depth[1:, 1:] = 2.0  # starts at (1, 1) of the large picture
    drawn = Drawn(1, 1, np.full((3, 3, 3), 200, np.uint8), np.zeros((3, 3), np.uint8), None, depth)
    _lay_over(picture, drawn, 2)
    expected = np.full((4, 4), 100)
    expected[0, 0], expected[1, 1] = 125, 200  # a quarter covered, and all of it
    np.testing.assert_array_equal(picture[..., 0], expected)


def test_captions_survive_the_round_trip() -> None:
    look = sample_appearance(np.random.default_rng(7), "throwing a ball")
    assert parse_caption(make_caption(look)) == look
    assert appearance_from_json(appearance_to_json(look)) == look
    with pytest.raises(CaptionError, match="a dog"):
        parse_caption("a dog")


def test_view_takes_the_camera_of_its_row(bodies: tuple[BodyParams, Cameras]) -> None:
    _, cameras = bodies
    assert view_of(cameras, 2).focal_px == pytest.approx(float(cameras.focal_px[2]))
    assert view_of(cameras, 2).scaled(2).width == 2 * SIZE


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch for CPUs alone brings no triton")
def test_triton_can_be_imported_after_the_first_picture() -> None:
    lines = "from posedreamer_assets.render.gl import renderer; renderer(); import triton"
    subprocess.run([sys.executable, "-c", lines], check=True, env={**os.environ, "PYOPENGL_PLATFORM": "egl"})


def test_the_library_of_triton_is_loaded_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posedreamer_assets.render import gl

    library = tmp_path / "triton" / "_C" / "libtriton.so"
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "triton" / "__init__.py").write_text("raise AssertionError('its Python is not needed yet')")
    loaded: list[str] = []
    monkeypatch.delitem(sys.modules, "triton", raising=False)  # an installed one that torch has imported
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gl.ctypes, "CDLL", loaded.append)
    gl._load_triton()
    assert loaded == [str(library)]
