"""Cycles beside the rasteriser: the same camera, the same people; and a process that may fail without taking others along.

What needs Blender runs where POSEDREAMER_CYCLES_PYTHON names a Python that has `bpy`; its process is tried with a stand-in.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.rotations import rotation_x
from posedreamer_assets.cameras.crowds import ground_camera
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cli import doctor
from posedreamer_assets.config import CrowdsConfig, Profile, load_profile
from posedreamer_assets.errors import ConfigError, RenderError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.refusals import refuse_unmakeable, require_renderer
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.render.shading import Light
from posedreamer_assets.runtime.freshness import Snapshot, setting
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.scenes import blender
from posedreamer_assets.scenes.blender_worker import SENSOR_MM, camera_of
from posedreamer_assets.scenes.composite import ground_colour, over
from posedreamer_assets.scenes.draw import scale_of
from posedreamer_assets.scenes.layout import ids_of, stand
from posedreamer_assets.scenes.people import draw_cast
from posedreamer_assets.scenes.picture import Surfaces, picture_of, surfaces_of
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.images import decode
from posedreamer_assets_tests.scenes import fake_blender
from posedreamer_assets_tests.scenes.conftest import KEYS, SMALL, STUDY, Study

LIGHT = Light(np.array([0.3, -0.8, -0.5]), 2.5, 0.4)
GROUND = np.array([0.3, 0.3, 0.3])
CYCLES = {"crowds.renderer": "cycles"}
# As a picture cut out of a larger one has it: the axis is not in its middle.
OFF_CENTRE = replace(
    ground_camera(pitch_rad=0.25, height_m=1.9, focal_px=170.0, width=160, height=120),
    principal_px=np.array([[67.5, 71.25]], np.float32),
)


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("POSEDREAMER_CYCLES_PYTHON")
    if not found:
        pytest.skip("POSEDREAMER_CYCLES_PYTHON names no Python that has bpy (docs/scenes.md)")
    return found


@pytest.fixture
def fake(tmp_path: Path) -> str:
    return fake_blender.install(tmp_path)


def markers(points: np.ndarray, size_m: float) -> tuple[Surfaces, np.ndarray]:
    """A cube at each point, and its triangles, seen from outside."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))], np.int32)
    vertices = (points[:, None] + size_m / 2 * corners).astype(np.float32)
    normals = np.broadcast_to(corners / np.sqrt(np.float32(3)), vertices.shape)
    return Surfaces(vertices, normals.copy(), np.full_like(vertices, 0.5)), faces


def write_markers(folder: Path, name: str, faces: np.ndarray | None = None, **more: int) -> None:
    people, own = markers(np.array([[0.0, 1.0, -4.0]]), 0.5)
    blender.write_job(
        folder,
        name,
        people=people,
        faces=own if faces is None else faces,
        ids=[1],
        camera=ground_camera(pitch_rad=0.2, height_m=1.5, focal_px=32.0, width=32, height=24),
        light=LIGHT,
        ground=GROUND,
        **{"samples": 1, "seed": 0, **more},
    )


# Camera


@pytest.mark.parametrize(("width", "height"), [(160, 120), (120, 160), (128, 128)])
def test_the_camera_projects_as_blenders_manual_says(width: int, height: int) -> None:
    """The view plane of a sensor that is fitted horizontally: as wide as the sensor, shifted by shares of its width."""
    rng = np.random.default_rng(width)
    rotation = rotation_x(0.7) @ np.diag([1.0, -1.0, -1.0])
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    for matrix in (rotation, turn):
        camera = Cameras(
            matrix[None],
            rng.normal(size=(1, 3)),
            np.array([90.0]),
            np.array([[0.3 * width, 0.8 * height]]),
            width,
            height,
            np.zeros(1),
            np.zeros(1),
        )
        before = camera.rotation[0].T @ (np.array([0.4, -0.3, 3.0]) - camera.translation[0])
        points = before + rng.normal(0, 0.5, (1, 20, 3))
        pose, lens_mm, (shift_x, shift_y) = camera_of(
            camera.rotation[0], camera.translation[0], 90.0, camera.principal_px[0], width, height
        )
        seen = (np.linalg.inv(pose) @ np.concatenate([points[0], np.ones((20, 1))], axis=1).T).T[:, :3]
        x, y = (seen[:, k] / -seen[:, 2] * lens_mm / SENSOR_MM for k in (0, 1))
        pixels = np.stack([(x - shift_x + 0.5) * width, height / 2 - (y - shift_y) * width], axis=1)
        assert np.linalg.det(pose) == pytest.approx(1)
        assert pixels == pytest.approx(camera.project(points)[0], abs=1e-9)


# Files


def test_a_job_is_read_back_as_it_was_written_without_a_pickle(body: BodyModel, tmp_path: Path) -> None:
    people, faces = markers(np.array([[0.0, 1.0, -4.0], [1.0, 0.5, -5.0]]), 0.4)
    blender.write_job(
        tmp_path,
        "one",
        people=people,
        faces=faces,
        ids=[3, 254],
        camera=OFF_CENTRE,
        light=LIGHT,
        ground=GROUND,
        samples=7,
        seed=2**63,
        map_scale=2,
    )
    with np.load(tmp_path / "one.job.npz", allow_pickle=False) as job:
        found = {name: job[name] for name in job.files}
    assert all(values.dtype.kind in "fiu" for values in found.values())
    assert np.array_equal(found["vertices"], people.vertices) and np.array_equal(found["colours"], people.colours)
    assert np.array_equal(found["normals"], people.normals) and np.array_equal(found["faces"], faces)
    assert found["ids"].tolist() == [3, 254] and found["size"].tolist() == [160, 120]
    assert np.array_equal(found["rotation"], OFF_CENTRE.rotation[0]) and found["focal_px"] == 170
    assert np.array_equal(found["translation"], OFF_CENTRE.translation[0])
    assert found["principal_px"].tolist() == [67.5, 71.25]
    assert found["light"].tolist() == [0.3, -0.8, -0.5, 2.5, 0.4]
    assert (int(found["samples"]), int(found["seed"]), int(found["map_scale"])) == (7, 2**63, 2)


def test_the_worker_imports_nothing_but_numpy_without_being_asked_to_render() -> None:
    """It runs in a Python that has neither this project nor its libraries."""
    code = f"import runpy, sys; runpy.run_path({str(blender.WORKER)!r}); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in said and not {"posedreamer_assets", "jaxtyping", "scipy", "PIL", "bpy"} & set(said)


# Which Python


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (None, r"crowds\.renderer cycles needs a Python that has Blender: --set crowds\.cycles_python=.*pip install"),
        (sys.executable, r"has no bpy \(ModuleNotFoundError: .*\): python3\.11 -m venv DIR && .*'bpy==4\.5\.\*'"),
        ("/nowhere/python", r"/nowhere/python cannot be run .*pip install"),
    ],
)
def test_a_python_without_blender_is_one_line_with_a_remedy(
    named: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSEDREAMER_CYCLES_PYTHON", raising=False)
    with pytest.raises(RenderError, match=message) as raised:
        blender.python_of(CrowdsConfig(cycles_python=named))
    assert "\n" not in str(raised.value)


def test_the_profile_goes_before_the_environment(fake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEDREAMER_CYCLES_PYTHON", fake)
    assert blender.python_of(CrowdsConfig()) == fake and blender.blender_version(fake) == "0.1"
    with pytest.raises(RenderError, match="nowhere"):
        blender.python_of(CrowdsConfig(cycles_python="/nowhere/python"))


def test_a_run_that_would_fail_later_is_refused_and_doctor_says_why(
    tmp_path: Path, fake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSEDREAMER_CYCLES_PYTHON", raising=False)
    stages = graph(2, (STUDY,))
    plain, asked = load_profile("pocket"), load_profile("pocket", CYCLES)
    require_renderer(plain, stages)
    require_renderer(asked, [stages["ds/scene_layouts"], stages["dm/scene_images"]])
    with pytest.raises(RenderError, match="cycles_python"):
        refuse_unmakeable(asked, stages["ds/scene_images"])
    # Of the doctor's looks this one alone is taken.
    monkeypatch.setattr(doctor, "_guarded", lambda name, look: look() if name == "Blender" else None)

    def findings(profile: Profile) -> list[doctor.Finding]:
        return [one for one in doctor.examine(Home(tmp_path / "home"), profile) if one]

    (finding,) = findings(asked)
    assert not finding.ok and finding.required and "crowds.cycles_python" in finding.detail
    named = load_profile("pocket", {**CYCLES, "crowds.cycles_python": fake})
    require_renderer(named, stages)
    (finding,) = findings(named)
    assert finding.ok and finding.detail == f"0.1 in {fake}"
    assert findings(plain) == []


def test_a_picture_has_a_sample_at_least() -> None:
    with pytest.raises(ConfigError, match=r"crowds\.cycles_samples is 0; expected 1 or more"):
        load_profile("pocket", {"crowds.cycles_samples": 0})


# Its process


def test_a_job_that_fails_or_ends_the_process_or_hangs_leaves_the_others_alone(
    fake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "fails", "b", "dies", "c", "hangs", "d"]
    for name in names:
        write_markers(tmp_path, name)
    done: list[str] = []
    ticks = 0

    def clock() -> float:
        """Goes on while the process hangs alone, whatever else this computer is busy with."""
        nonlocal ticks
        ticks += (tmp_path / "hanging").exists() and ticks < 10
        return float(ticks)

    monkeypatch.setattr(blender.time, "monotonic", clock)
    failed = blender.render_jobs(fake, tmp_path, names, done.append, wait_s=5)
    assert done == ["a", "b", "c", "d"] and all(blender.is_rendered(tmp_path, name) for name in done)
    assert failed == {
        "fails": "ValueError: planted",
        "dies": "Blender was killed by signal 9: last words",
        "hangs": "took longer than 5 s",
    }
    starts = (tmp_path / "starts").read_text().splitlines()
    assert starts == ["a fails b dies c hangs d", "c hangs d", "d"]
    assert not list(tmp_path.glob("[a-d].job.npz"))


def test_another_process_goes_on_after_so_many_scenes_and_old_errors_do_not_count(fake: str, tmp_path: Path) -> None:
    names = [f"{k}" for k in range(5)]
    for name in names:
        write_markers(tmp_path, name)
        (tmp_path / f"{name}.error").write_text("of an attempt before")
    assert blender.render_jobs(fake, tmp_path, names, lambda name: None, scenes_of_worker=2) == {}
    assert (tmp_path / "starts").read_text().splitlines() == ["0 1", "2 3", "4"]


# Mixing


def test_light_is_mixed_as_light_and_what_it_does_not_touch_stays() -> None:
    behind = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    light = np.zeros((16, 16, 4), np.float32)
    assert np.array_equal(over(light, behind), behind)
    light[0, 0] = [0.25, 0.5, 2.0, 1.0]
    light[15, 15] = [0.0, 0.0, 0.0, 0.5]  # a shadow that takes half of the light
    mixed = over(light, behind)
    assert mixed[0, 0].tolist() == [round(255 * 0.25 ** (1 / 2.2)), round(255 * 0.5 ** (1 / 2.2)), 255]
    assert mixed[15, 15].tolist() == [round(255 * 0.5 ** (1 / 2.2))] * 3
    untouched = light.any(axis=-1)
    assert np.array_equal(mixed[~untouched], behind[~untouched])


def test_a_ground_of_that_colour_looks_as_the_picture_does() -> None:
    behind = np.zeros((8, 8, 3), np.uint8)
    behind[6:] = [90, 130, 70]
    colour = ground_colour(behind, LIGHT)
    cosine = 0.8 / np.sqrt(0.09 + 0.64 + 0.25)
    shown = 255 * (colour * (2.5 * cosine / np.pi + 0.4)) ** (1 / 2.2)
    assert shown == pytest.approx([90, 130, 70], abs=0.5)
    assert ground_colour(np.full((8, 8, 3), 255, np.uint8), Light(LIGHT.direction, 0.1, 0.1)).max() < 1


# Stage


def inputs(study: Study, fake: str, unfinished: Path) -> Inputs:
    profile = load_profile("pocket", {**SMALL, **CYCLES, "crowds.cycles_python": fake})
    stage = graph(2, (STUDY,))["ds/scene_images"]
    reader = Listed(Snapshot(profile, study.store))
    return Inputs(stage, profile, reader, Models(profile), KEYS["scene"], unfinished=unfinished)


def test_cycles_gives_the_colours_and_the_rasteriser_the_maps(study: Study, fake: str, tmp_path: Path) -> None:
    made: Made = graph(2, (STUDY,))["ds/scene_images"].make(inputs(study, fake, tmp_path / "left"))
    assert made.figures == {"renderer": "Blender 0.1"} and made.rows is not None
    kept = study.rows("ds/scene_images")
    for name in made.rows.column_names:
        assert (name == "image") != made.rows.column(name).equals(
            kept.column(name).cast(made.rows.schema.field(name).type)
        ), name
    grey = round(255 * fake_blender.GREY ** (1 / 2.2))
    assert all((decode(image) == grey).all() for image in made.rows.column("image").to_pylist())


def test_scenes_that_were_rendered_are_kept_when_another_fails(study: Study, fake: str, tmp_path: Path) -> None:
    stage, left = graph(2, (STUDY,))["ds/scene_images"], tmp_path / "left"
    left.mkdir()
    (left / "000001.fails").touch()
    with pytest.raises(RenderError, match=r"^scenes-0000/000001: ValueError: planted \(1 of 4 scenes failed"):
        stage.make(inputs(study, fake, left))
    (left / "000001.fails").unlink()
    made = stage.make(inputs(study, fake, left)).rows
    assert made is not None and made.num_rows == 4
    assert (left / "starts").read_text().splitlines() == ["000000 000001 000002 000003", "000001"]


# Digests


def digest(tmp_path: Path, name: str, **settings: object) -> str:
    profile = load_profile("pocket", {f"{STUDY}.enabled": True, **settings})
    snapshot = Snapshot(profile, LanceStore(str(tmp_path)))
    stage = snapshot.graph[name]
    return snapshot.input_digest(stage, KEYS["scene" if stage.groups == ("scene",) else "photo"])


def test_the_renderer_makes_pictures_of_scenes_again_and_nothing_else(tmp_path: Path) -> None:
    for name in ("ds/scene_layouts", "dm/scene_layouts", "dm/scene_images", "photos/annotated_photos"):
        wanted = digest(tmp_path, name)
        assert digest(tmp_path, name, **CYCLES, **{"crowds.cycles_samples": 3}) == wanted, name
    images = "ds/scene_images"
    plain, cycles = digest(tmp_path, images), digest(tmp_path, images, **CYCLES)
    assert cycles != plain
    assert digest(tmp_path, images, **CYCLES, **{"crowds.cycles_samples": 3}) not in (plain, cycles)
    assert digest(tmp_path, images, **{"crowds.cycles_samples": 3}) == plain
    assert digest(tmp_path, images, **{"crowds.cycles_python": "/some/python"}) == plain
    assert digest(tmp_path, images, **CYCLES, **{"crowds.cycles_python": "/some/python"}) == cycles


def test_layouts_depend_on_the_settings_that_they_did_before_there_was_another_renderer() -> None:
    assert set(setting(Profile(), "crowds")) == {
        *("people_mean", "pitch_min_deg", "pitch_max_deg", "size", "max_tries", "batch_size", "families")
    }


# With Blender


@pytest.mark.slow
def test_known_points_are_where_the_camera_says(python: str, tmp_path: Path) -> None:
    """Small cubes, each alone in its pixels; held against the projection in closed form."""
    columns, rows = np.meshgrid(np.linspace(12.0, 148.0, 5), np.linspace(12.0, 108.0, 4))
    pixels = np.stack([columns.reshape(-1), rows.reshape(-1)], axis=1)
    depths = np.linspace(3.0, 8.0, 20)
    points = OFF_CENTRE.unproject(pixels[None], depths[None])[0]
    people, faces = markers(points, 0.15)
    blender.write_job(
        tmp_path,
        "points",
        people=people,
        faces=faces,
        ids=list(range(1, 21)),
        camera=OFF_CENTRE,
        light=LIGHT,
        ground=GROUND,
        samples=1,
        seed=0,
        map_scale=4,
    )
    assert blender.render_jobs(python, tmp_path, ["points"], lambda name: None) == {}
    who, depth_m = blender.maps_of(tmp_path, "points")
    assert who.shape == (480, 640)
    for k in range(20):
        found = np.argwhere(who == k + 1)[:, ::-1].mean(axis=0) / 4 + 0.125
        assert found == pytest.approx(pixels[k], abs=0.3), k
        assert np.median(depth_m[who == k + 1]) == pytest.approx(depths[k], abs=0.14), k


@pytest.mark.slow
def test_cycles_and_the_rasteriser_see_the_same_people_at_the_same_distance(
    python: str, body: BodyModel, tmp_path: Path
) -> None:
    cast = draw_cast(body, ids_of("scenes-0000/000000", 3), 5, "in a park", families=("stand",))
    places = iter([np.array([x, 0.0, z]) for x, z in ((-0.5, -3.2), (0.25, -3.9), (0.6, -3.1))])
    layout = stand(body, cast, OFF_CENTRE, LIGHT, lambda: next(places), 1)
    ids = [1, 2, 3]
    behind = np.full((120, 160, 3), 150, np.uint8)
    picture, crowd = picture_of(body, layout.params, layout.looks, layout.seeds, ids, OFF_CENTRE, LIGHT, behind)
    for name in ("once", "again"):
        blender.write_job(
            tmp_path,
            name,
            people=surfaces_of(body, layout.params, layout.looks, layout.seeds),
            faces=body.faces,
            ids=ids,
            camera=OFF_CENTRE,
            light=LIGHT,
            ground=ground_colour(behind, LIGHT),
            samples=16,
            seed=3,
            map_scale=scale_of(OFF_CENTRE),
        )
    assert blender.render_jobs(python, tmp_path, ["once", "again"], lambda name: None) == {}
    # As the rasteriser has it: a pixel belongs to the nearest that any of its four smaller ones shows.
    small_who, small_m = (
        values.reshape(120, 2, 160, 2).transpose(0, 2, 1, 3).reshape(120, 160, 4)
        for values in blender.maps_of(tmp_path, "once")
    )
    distance = np.where(small_who > 0, small_m, np.inf)
    who = np.take_along_axis(small_who, distance.argmin(axis=-1)[..., None], axis=-1)[..., 0]
    for k in ids:
        both, either = ((who == k) & (crowd.instances == k)).sum(), ((who == k) | (crowd.instances == k)).sum()
        assert both > 300 and both / either >= 0.98, (k, both, either)
    shown = (who > 0) & (who == crowd.instances)
    assert np.abs(1000 * distance.min(axis=-1)[shown] - crowd.depth_mm[shown]).max() < 3
    light = blender.light_of(tmp_path, "once")
    assert np.array_equal(light, blender.light_of(tmp_path, "again"))
    inner = uniform_filter((crowd.share == 1).astype(float), 3) > 0.999  # no outline in sight
    assert inner.sum() > 1000 and (light[inner, 3] > 0.999).mean() > 0.99
    # The same colours: less light where people shade each other and themselves, some more from the ground.
    rendered = over(light, behind)
    inside = crowd.share == 1
    assert rendered[inside].mean(axis=0) == pytest.approx(picture[inside].mean(axis=0), rel=0.12)
    darker = (crowd.instances == 0) & (rendered.mean(axis=-1) < 140)
    also = (crowd.instances == 0) & (picture.mean(axis=-1) < 140)
    assert also.sum() > 200 and (darker & also).sum() / (darker | also).sum() > 0.5


@pytest.mark.slow
def test_a_broken_job_is_one_error_and_blender_is_started_again(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["first", "broken", "empty", "last"]
    for name in names:
        write_markers(tmp_path, name, np.array([[0, 1, 99]], np.int32) if name == "broken" else None)
    (tmp_path / "empty.job.npz").write_bytes(b"")
    started: list[list[str]] = []

    def start(folder: str, *rest: object, **more: object) -> object:
        started.append(list(rest[1]))  # type: ignore[call-overload]
        return begin(folder, *rest, **more)  # type: ignore[arg-type]

    begin = blender._started
    monkeypatch.setattr(blender, "_started", start)
    failed = blender.render_jobs(python, tmp_path, names, lambda name: None, scenes_of_worker=2)
    assert set(failed) == {"broken", "empty"} and failed["broken"].startswith("ValueError: the mesh of person 1")
    assert all("\n" not in why for why in failed.values())
    assert started == [["first", "broken"], ["empty", "last"]]
    assert blender.is_rendered(tmp_path, "first") and blender.is_rendered(tmp_path, "last")
