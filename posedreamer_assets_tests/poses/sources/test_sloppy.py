"""Files as hurried programs write them: odd rates, shapes, spellings and gaps. Each is read, or refused by a named error."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources import PoseFrames, ReadOptions, read_clips
from posedreamer_assets_tests.poses.clips import FRAMES
from posedreamer_assets_tests.poses.sources.npz_kinds import base, clip_arrays
from posedreamer_assets_tests.poses.sources.rig_kinds import KINDS, write_kind
from posedreamer_assets_tests.poses.sources.rigs import lively
from posedreamer_assets_tests.poses.sources.test_fits import arrays_of
from posedreamer_assets_tests.poses.sources.test_npz_kinds import assert_same_bodies

OPTIONS = ReadOptions(0.0, 0, "own", load_body())


def read(path: Path, arrays: dict[str, Any]) -> PoseFrames:
    np.savez(path / "clip.npz", **arrays)
    (clip,) = read_clips(path / "clip.npz", OPTIONS)
    return clip


@pytest.mark.parametrize("axis", ["y", "z", "-x"])
def test_gaps_are_set_aside_and_the_rest_is_upright(tmp_path: Path, axis: str) -> None:
    arrays = clip_arrays(axis)
    gaps = np.arange(FRAMES) % 7 == 0
    arrays["poses"][gaps] = np.nan
    clip = read(tmp_path, arrays)
    assert_same_bodies(clip, base())
    assert {error.reason for error in clip.rejected} == {"nan"}
    assert len(clip.rejected) == gaps.sum()


@pytest.mark.parametrize(
    ("written", "fps"),
    [
        ("29,97", 29.97),
        (b"25", 25),
        ("30000/1001", 30000 / 1001),
        ("1/60", 60),
        ("1.2e2", 120),
        (1 / 50, 50),
        ([30, 30], 30),
        (["24 fps"], 24),
    ],
)
def test_rates_of_many_spellings(tmp_path: Path, written: object, fps: float) -> None:
    assert read(tmp_path, clip_arrays() | {"mocap_frame_rate": np.array(written)}).fps == pytest.approx(fps)


@pytest.mark.parametrize("written", ["", "unknown", 0, "0", np.nan, "1/0"])
def test_what_is_no_rate_is_assumed_with_a_note(tmp_path: Path, written: object) -> None:
    clip = read(tmp_path, clip_arrays() | {"mocap_frame_rate": np.array(written)})
    assert clip.fps == 30
    assert any("is no frame rate: 30 frames per second are assumed" in note for note in clip.notes)


@pytest.mark.parametrize(
    ("written", "reason"), [(-30, "absurd_value"), ("-30", "absurd_value"), (1e9, "absurd_value"), ([30, 60], "shape")]
)
def test_rates_that_cannot_be_are_refused(tmp_path: Path, written: object, reason: str) -> None:
    with pytest.raises(PoseFileError) as caught:
        read(tmp_path, clip_arrays() | {"mocap_frame_rate": np.array(written)})
    assert caught.value.reason == reason


@pytest.mark.parametrize("change", [str.upper, str.capitalize], ids=["upper", "capital"])
def test_names_of_arrays_may_be_in_capitals(tmp_path: Path, change: Any) -> None:
    assert_same_bodies(read(tmp_path, {change(name): value for name, value in clip_arrays().items()}), base())
    fits = read(tmp_path, {change(name): value for name, value in arrays_of(3).items()})
    assert fits.cameras is not None
    assert np.allclose(fits.cameras.focal_px, arrays_of(3)["focal_px"])


@pytest.mark.parametrize("written", ["Z", "+z", "z-up", "Z_UP", "zup", b"z"])
def test_the_axis_may_be_stated_in_many_words(tmp_path: Path, written: object) -> None:
    clip = read(tmp_path, clip_arrays() | {"up_axis": np.array(written)})
    assert clip.up_axis == "z" and clip.up_axis_sure == 1
    assert_same_bodies(clip, base())


@pytest.mark.parametrize(
    "shape", [(10,), (16,), (100,), (300,), (1, 10), (FRAMES, 10), (FRAMES, 1, 10), (FRAMES, 300), (0,)]
)
def test_betas_of_many_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert_same_bodies(read(tmp_path, clip_arrays() | {"betas": np.zeros(shape)}), base())


@pytest.mark.parametrize("written", [b"male", "Male", ["male"], [b"female"], "MALE ", 1, "", None])
def test_gender_in_many_spellings(tmp_path: Path, written: object) -> None:
    arrays = clip_arrays() | {"gender": np.array(written), "betas": np.full(16, 0.5), "surface_model_type": "smplx"}
    clip = read(tmp_path, arrays)
    assert_same_bodies(clip, base())
    assert any("the mean shape is used" in note for note in clip.notes)


def test_terms_that_are_no_text_do_not_refuse_a_file(tmp_path: Path) -> None:
    assert read(tmp_path, arrays_of(2) | {"licence": np.array(3)}).licence == "own"


@pytest.mark.parametrize(
    ("name", "content", "reason", "told"),
    [
        ("a.npz", gzip.compress(b"PK", mtime=0), "unknown_layout", "gunzip"),
        ("a.bvh", gzip.compress(b"HIERARCHY", mtime=0), "unknown_layout", "gunzip"),
        ("a.npz", b"PK\x03\x04", "truncated", ""),
        ("a.npz", b"", "empty", ""),
        ("a.bvh", b"PK\x03\x04" + b"." * 60, "unknown_layout", "unzip"),
        ("a.bvh", b"\0" * 500, "empty", ""),
    ],
    ids=["npz-gzip", "bvh-gzip", "npz-cut", "npz-empty", "bvh-zip", "bvh-zeros"],
)
def test_what_is_no_pose_file_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, reason: str, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PoseFileError) as caught:
        read_clips(tmp_path / name, OPTIONS)
    assert caught.value.reason == reason
    assert told in caught.value.detail


def test_a_structured_array_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(PoseFileError) as caught:
        read(tmp_path, {"poses": np.zeros(3, [("a", "f4")])})
    assert caught.value.reason == "dtype"


def test_nothing_but_a_lone_frame_of_mocap(tmp_path: Path) -> None:
    path = write_kind(tmp_path / "a.bvh", KINDS["motive"], lively(seed=6, count=1))
    (clip,) = read_clips(path, OPTIONS)
    assert len(clip) == 1


def _texts(text: str) -> dict[str, str]:
    head, rows = text.split("Frame Time: 0.0333333\n")
    return {
        "joined words": text.replace("Frame Time", "FrameTime").replace("End Site", "EndSite"),
        "comments": f"# made by hand\n{head}# a rate\nFrame Time: 0.0333333\n# rows\n{rows}// the end\n",
        "trailing zeros": text + "\0" * 300,
        "no frame time": text.replace("Frame Time: 0.0333333", "Frame Time:"),
        "a frame time that is no number": text.replace("Frame Time: 0.0333333", "Frame Time: nan"),
        "tabs, marks and Windows": "\ufeff" + text.replace(" ", "\t").replace("\n", "\r\n"),
        "doubled spaces": text.replace(" ", "  ").replace("\n", "  \n  "),
        "capitals": text.upper(),
        "lower case": text.lower(),
    }


@pytest.mark.parametrize("spelling", list(_texts("Frame Time: 0.0333333\n")))
def test_texts_of_many_spellings(tmp_path: Path, spelling: str) -> None:
    path = write_kind(tmp_path / "a.bvh", KINDS["low limbs"], lively(seed=7))
    (expected,) = read_clips(path, OPTIONS)
    path.write_bytes(_texts(path.read_text())[spelling].encode())
    (found,) = read_clips(path, OPTIONS)
    assert np.array_equal(found.params.body_pose, expected.params.body_pose)
    assert found.fps == pytest.approx(30, abs=0.01)
    assert ("frame time" not in spelling) or any("30 frames per second are assumed" in note for note in found.notes)
