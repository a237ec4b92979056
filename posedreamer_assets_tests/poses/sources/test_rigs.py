"""Every kind of rig against forward kinematics from the file's own text."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.floor import lowest_points_m, sole_pitch_deg
from posedreamer_assets.poses.sources import read_folder
from posedreamer_assets.poses.sources.bvh import read_bvh
from posedreamer_assets.poses.sources.frames import PoseFrames, posed_joints
from posedreamer_assets.poses.upright import AXES, to_y_up
from posedreamer_assets_tests.poses.sources.bvh_oracle import positions
from posedreamer_assets_tests.poses.sources.rig_kinds import (
    FINGER_NAMES,
    FINGERS,
    KINDS,
    Kind,
    with_fingers,
    write_kind,
)
from posedreamer_assets_tests.poses.sources.rigs import LIMBS, lively, still, turned


def read(path: Path, up_axis: str | None = None) -> list[PoseFrames]:
    return read_bvh(path, stride_s=0.0, seed=0, licence="own", body=load_body(), up_axis=up_axis)


def rows_of(frames: PoseFrames) -> np.ndarray:
    return np.array([int(name.rsplit("#", 1)[1]) for name in frames.names])


def worst_limb_deg(path: Path, kind: Kind, frames: PoseFrames, to_y: np.ndarray | None = None) -> float:
    found, told = posed_joints(load_body(), frames.params).astype(float), positions(path)
    worst = 0.0
    for side in ("left", "right"):
        for part, end in LIMBS.items():
            start, stop = kind.name(f"{side}_{part}"), kind.name(f"{side}_{end}")
            stop = stop if stop in told else f"{start}_end"
            theirs = (told[stop] - told[start])[rows_of(frames)] @ (np.eye(3) if to_y is None else to_y).T
            ours = found[:, JOINT_INDEX[f"{side}_{end}"]] - found[:, JOINT_INDEX[f"{side}_{part}"]]
            cosine = (theirs * ours).sum(1) / np.linalg.norm(theirs, axis=1) / np.linalg.norm(ours, axis=1)
            worst = max(worst, float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))).max()))
    return worst


@pytest.mark.parametrize("name", KINDS)
def test_limbs_of_every_kind_of_rig_are_exact(tmp_path: Path, name: str) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS[name], lively(seed=21))
    (frames,) = read(path)
    assert len(frames) == 12
    assert worst_limb_deg(path, KINDS[name], frames) < 1.0


@pytest.mark.parametrize("axis", ["y", "z", "x", "-y"])
def test_the_axis_that_points_up_is_found(tmp_path: Path, axis: str) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], lively(seed=22), to_y_up(axis).T)
    (frames,) = read(path)
    assert frames.notes[0].startswith(f"{axis} up")
    assert worst_limb_deg(path, KINDS["motive"], frames, to_y_up(axis)) < 1.0


@pytest.mark.parametrize(
    "name", [name for name in KINDS if name != "feet as end sites"]
)  # which tell nothing of ankles
def test_planted_soles_are_level(tmp_path: Path, name: str) -> None:
    motion = still(12)
    for side in ("left", "right"):  # squats: the shin leans, the sole stays on the floor
        angles = np.linspace(0, 30, 12)
        motion = turned(motion, f"{side}_hip", "x", -angles)
        motion = turned(motion, f"{side}_knee", "x", 2 * angles)
        motion = turned(motion, f"{side}_ankle", "x", -angles)
    motion.pelvis[:, 1] -= 85 * (1 - np.cos(np.deg2rad(np.linspace(0, 30, 12))))
    (frames,) = read(write_kind(tmp_path / "clip.bvh", KINDS[name], motion))
    pitch = sole_pitch_deg(load_body(), frames.params)
    assert np.isfinite(pitch).all()
    assert np.abs(pitch).max() < 15


@pytest.mark.parametrize(
    ("name", "levelled"), [("foot bone points down", True), ("feet as end sites", True), ("motive", False)]
)
def test_feet_whose_bone_tells_no_sole_are_level_where_they_stand(tmp_path: Path, name: str, levelled: bool) -> None:
    motion, step = still(24), 20 * np.sin(np.linspace(0, 6, 24))
    for side, sign in (("left", 1), ("right", -1)):  # knees bent, ankles as in the rest pose: 25 degrees toes down
        motion = turned(motion, f"{side}_hip", "x", -25 + sign * step / 4)
        motion = turned(motion, f"{side}_knee", "x", 50)
        motion = turned(motion, f"{side}_shoulder", "z", -sign * (60 + step))
    path = write_kind(tmp_path / "clip.bvh", KINDS[name], motion)
    (frames,) = read(path)
    pitch = sole_pitch_deg(load_body(), frames.params)
    assert len(frames) > 5 and np.isfinite(pitch).any(axis=1).all()
    told = positions(path)
    if levelled:
        assert np.nanmax(np.abs(pitch)) < 15
        assert sum("level where it stands" in note for note in frames.notes) == 2
    else:  # the file tells the foot's pitch: kept, whatever it is
        toe = (told["LToe"] - told["LFoot"])[rows_of(frames)]
        rest = np.rad2deg(np.arctan2(-6, 14))
        expected = np.rad2deg(np.arctan2(toe[:, 1], toe[:, 2])) - rest
        seen = np.isfinite(pitch[:, 0])
        assert np.allclose(pitch[seen, 0], expected[seen], atol=3)
        assert expected.min() < -20
    assert worst_limb_deg(path, KINDS[name], frames) < 1.0


@pytest.mark.parametrize(("pitch", "height"), [(88, 20), (-88, 15), (180, 95)], ids=["prone", "supine", "handstand"])
@pytest.mark.parametrize("yaw", [0, 90])
def test_bodies_off_their_feet_lie_on_the_ground(tmp_path: Path, pitch: float, height: float, yaw: float) -> None:
    motion, beat = still(24), np.sin(np.linspace(0, 4, 24))
    for side, sign in (("left", 1), ("right", -1)):
        motion = turned(motion, f"{side}_shoulder", "z", -sign * (60 + 15 * beat))
        motion = turned(motion, f"{side}_hip", "x", -10 - 10 * sign * beat)
        motion = turned(motion, f"{side}_knee", "x", 15 + 15 * sign * beat)
    turn = Rotation.from_euler("YX", [yaw, pitch], degrees=True).as_matrix()
    motion.local["pelvis"] = np.repeat(turn[None], 24, axis=0)
    motion.pelvis[:] = (0, height, 0)
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], motion)
    (frames,) = read(path)
    assert frames.notes[0].startswith("y up")
    assert worst_limb_deg(path, KINDS["motive"], frames) < 1.0
    lowest = load_body().forward(frames.params).vertices[..., 1].min(axis=1)
    assert np.abs(lowest).max() < 0.03
    assert np.allclose(lowest_points_m(load_body(), frames.params), lowest, atol=0.005)


@pytest.mark.parametrize("scheme", FINGER_NAMES)
def test_fingers_bend_as_the_rig_bends_them(tmp_path: Path, scheme: str) -> None:
    kind, motion = with_fingers(KINDS["joined lower case"], scheme), lively(seed=24)
    for side, sign in (("left", -1), ("right", 1)):
        for finger in FINGERS:
            for k in (1, 2, 3):
                motion = turned(motion, f"{side}_{finger}{k}", "z", sign * 40)
    (frames,) = read(write_kind(tmp_path / "clip.bvh", kind, motion))
    for hand in (frames.params.left_hand_pose, frames.params.right_hand_pose):
        assert np.rad2deg(np.linalg.norm(hand, axis=-1)) == pytest.approx(40, abs=0.5)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    kind = with_fingers(KINDS["motive"], "vrm")
    unknown = {f"{finger}{k}": f"{{s}}digitus{'abcde'[n]}{k}" for n, finger in enumerate(FINGERS) for k in (1, 2, 3)}
    odd = Kind(kind.names | unknown, kind.trunk, kind.change)
    (frames,) = read(write_kind(tmp_path / "clip.bvh", odd, lively(seed=25)))
    assert any("fingers not understood" in note or "left out" in note for note in frames.notes)
    assert not frames.params.left_hand_pose.any()


@pytest.mark.parametrize(
    ("renamed", "reason"),
    [({"Foot": "Paw"}, "not_a_person"), ({"Thigh": "Wheel", "Shin": "Spoke", "Foot": "Rim"}, "unknown_layout")],
)
def test_what_is_no_person_is_refused(tmp_path: Path, renamed: dict[str, str], reason: str) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], lively(seed=26))
    text = path.read_text()
    for old, new in renamed.items():
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(PoseFileError) as caught:
        read(path)
    assert caught.value.reason == reason


def test_a_hand_alone_is_refused(tmp_path: Path) -> None:
    lines = ["HIERARCHY", "ROOT LeftHand", "{", "OFFSET 0 0 0", "CHANNELS 3 Zrotation Xrotation Yrotation"]
    for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky"):
        lines += [f"JOINT Left{finger}1", "{", "OFFSET 3 0 0", "CHANNELS 3 Zrotation Xrotation Yrotation"]
        lines += ["End Site", "{", "OFFSET 2 0 0", "}", "}"]
    path = tmp_path / "hand.bvh"
    path.write_text("\n".join([*lines, "}", "MOTION", "Frames: 1", "Frame Time: 0.03", " ".join(["0"] * 18)]))
    with pytest.raises(PoseFileError) as caught:
        read(path)
    assert caught.value.reason == "hands_only"


def _rate(text: str) -> dict[str, tuple[str, float]]:
    def told(value: str) -> str:
        return text.replace("Frame Time: 0.0333333", f"Frame Time: {value}")

    return {
        "zero": (told("0"), 30.0),
        "milliseconds": (told("8.3333"), 120.0),
        "a rate": (told("60"), 60.0),
        "text": (told("25 fps"), 25.0),
        "a fraction": (told("1/24"), 24.0),
        "fortran": (told("3.33333D-02"), 30.0),
    }


@pytest.mark.parametrize("spelling", list(_rate("")))
def test_frame_rates_are_read_or_assumed_with_a_note(tmp_path: Path, spelling: str) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], lively(seed=27))
    text, fps = _rate(path.read_text())[spelling]
    path.write_text(text)
    (frames,) = read(path)
    assert frames.fps == pytest.approx(fps, rel=1e-3)
    assert spelling in ("a fraction", "fortran") or any("frame" in note for note in frames.notes)


def _respelled(text: str) -> dict[str, bytes]:
    return {
        "commas": text.replace(".", ",").encode(),
        "cr": text.replace("\n", "\r").encode(),
        "utf-16": b"\xff\xfe" + text.encode("utf-16-le"),
        "utf-16 without a mark": text.encode("utf-16-be"),
        "semicolons": text.replace("\n", ";\n")
        .replace("HIERARCHY;", "HIERARCHY")
        .replace("MOTION;", "MOTION")
        .encode(),
    }


@pytest.mark.parametrize("spelling", list(_respelled("")))
def test_spellings_of_the_text_do_not_matter(tmp_path: Path, spelling: str) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], lively(seed=28))
    expected = read(path)[0].params
    path.write_bytes(_respelled(path.read_text())[spelling])
    found = read(path)[0].params
    assert np.array_equal(found.body_pose, expected.body_pose)


def two_people(tmp_path: Path, second: str = "motive") -> list[Path]:
    """A file of two people, and each of them alone."""
    one, two = (
        write_kind(tmp_path / f"{i}.bvh", KINDS[kind], lively(seed=i)) for i, kind in ((31, "motive"), (32, second))
    )
    heads, rows = zip(
        *((t.split("MOTION")[0], t.splitlines()[-12:]) for t in (one.read_text(), two.read_text())), strict=True
    )
    path = tmp_path / "both.bvh"
    joined = "\n".join(f"{a} {b}" for a, b in zip(*rows, strict=True))
    path.write_text(
        f"{heads[0]}{heads[1].replace('HIERARCHY', '')}MOTION\nFrames: 12\nFrame Time: 0.0333333\n{joined}\n"
    )
    return [path, one, two]


def test_two_roots_are_two_people(tmp_path: Path) -> None:
    path, *alone = two_people(tmp_path)
    clips = read(path)
    for found, single in zip(clips, alone, strict=True):
        assert np.allclose(found.params.body_pose, read(single)[0].params.body_pose, atol=1e-6)
    assert [clip.family for clip in clips] == ["both-1", "both-2"]
    placed = read_folder(tmp_path, stride_s=0.0, seed=0, files=[path])[0]
    for frames in (clips, placed):
        assert len({name for clip in frames for name in clip.names}) == 24


def test_a_second_skeleton_that_is_no_person_does_not_stop_the_first(tmp_path: Path) -> None:
    path = two_people(tmp_path)[0]
    head, root, tail = path.read_text().rpartition("ROOT")
    path.write_text(head + root + tail.replace("Foot", "Paw"))
    (clip,) = read(path)
    assert clip.family == "both-1"
    assert [error.reason for error in clip.rejected] == ["not_a_person"]


@pytest.mark.parametrize("kind", ["lengths", "displacements"])
def test_bones_told_by_position_channels(tmp_path: Path, kind: str) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], lively(seed=33))
    expected = read(path)[0].params
    lines = path.read_text().splitlines()
    motion = lines.index("MOTION")
    offsets: list[str] = []
    for i, line in enumerate(lines[:motion]):
        if line.startswith("CHANNELS 3"):
            offset = lines[i - 1].removeprefix("OFFSET ")
            offsets.append(offset if kind == "lengths" else "0 0 0")
            lines[i - 1] = "OFFSET 0 0 0" if kind == "lengths" else lines[i - 1]
            lines[i] = line.replace("CHANNELS 3", "CHANNELS 6 Xposition Yposition Zposition")
    for i in range(motion + 3, len(lines)):
        values = lines[i].split()
        rest = [f"{offset} {' '.join(values[6 + 3 * k : 9 + 3 * k])}" for k, offset in enumerate(offsets)]
        lines[i] = " ".join([*values[:6], *rest])
    path.write_text("\n".join(lines))
    found = read(path)[0]
    assert np.allclose(found.params.body_pose, expected.body_pose, atol=1e-4)
    assert any("position channels" in note for note in found.notes)


def test_the_setting_decides(tmp_path: Path) -> None:
    path = write_kind(tmp_path / "clip.bvh", KINDS["motive"], lively(seed=34))
    assert read(path, "z")[0].notes[0].startswith("z up (100% sure): set by poses.up_axis")
    with pytest.raises(PoseFileError, match="up_axis 'w'"):
        read(path, "w")
    assert set(AXES) == {"x", "y", "z", "-x", "-y", "-z"}
