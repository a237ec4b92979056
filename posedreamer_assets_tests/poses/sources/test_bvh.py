import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.rig_names import split_name
from posedreamer_assets.poses.sources import PoseFrames, read_pose_file
from posedreamer_assets.poses.sources.bvh import parse_bvh
from posedreamer_assets.poses.sources.frames import SAME_POSE_M, posed_joints
from posedreamer_assets_tests.poses.clips import sole_heights_m
from posedreamer_assets_tests.poses.sources.rigs import LIMBS, PARTS, SCHEMES, Style, lively, still, turned, write_bvh

REASONS = {
    *"nan shape missing_key dtype absurd_value empty pickle truncated syntax unknown_layout".split(),
    *("ambiguous_up_axis", "not_a_person", "hands_only"),
}


def read_all(path: Path) -> PoseFrames:
    """Every frame that is not a double of another."""
    return read_pose_file(path, stride_s=0.0, seed=0)


def frame_numbers(frames: PoseFrames) -> np.ndarray:
    return np.array([int(name.rsplit("#", 1)[1]) for name in frames.names])


def body_direction(frames: PoseFrames, side: str, part: str) -> np.ndarray:
    joints = posed_joints(load_body(), frames.params)
    bone = joints[:, JOINT_INDEX[f"{side}_{LIMBS[part]}"]] - joints[:, JOINT_INDEX[f"{side}_{part}"]]
    return bone / np.linalg.norm(bone, axis=1, keepdims=True)


def worst_limb_error_deg(frames: PoseFrames, motion) -> float:
    rows = frame_numbers(frames)
    cosines = [
        (motion.direction(side, part)[rows] * body_direction(frames, side, part)).sum(axis=1)
        for side in ("left", "right")
        for part in LIMBS
    ]
    return float(np.rad2deg(np.arccos(np.clip(cosines, -1, 1))).max())


STYLES = [
    *(Style(scheme=name) for name in SCHEMES),
    *(Style(order=order) for order in ("XYZ", "YXZ", "ZYX", "YZX")),
    Style(z_up=True),
    Style(hanging_arms=True),
    Style(hanging_arms=True, z_up=True, order="XYZ"),
    Style(unit=2.54, positions_everywhere=True),
    *(Style(axes=seed) for seed in range(4)),
]


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_limbs_point_where_those_of_the_clip_point(tmp_path: Path, style: Style) -> None:
    motion = lively(seed=1)
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion, style))
    assert len(frames) == 12
    assert worst_limb_error_deg(frames, motion) < 0.5


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_limbs_point_where_those_of_any_clip_point(tmp_path: Path, seed: int) -> None:
    motion = lively(seed)
    assert worst_limb_error_deg(read_all(write_bvh(tmp_path / "clip.bvh", motion)), motion) < 0.5


@pytest.mark.parametrize("style", [Style(), Style(z_up=True), Style(hanging_arms=True), Style(axes=2)], ids=str)
def test_left_stays_left(tmp_path: Path, style: Style) -> None:
    motion = lively(seed=4)
    # About the body's forward axis +70 degrees lift the left arm and drop the right one.
    turn = np.repeat(Rotation.from_euler("z", 70, degrees=True).as_matrix()[None], 12, axis=0)
    motion.local.update(left_shoulder=turn, right_shoulder=turn)
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion, style))
    joints = posed_joints(load_body(), frames.params)
    left, right = (joints[:, JOINT_INDEX[f"{side}_elbow"], 1] for side in ("left", "right"))
    assert (left > right + 0.2).all()


@pytest.mark.parametrize("style", [Style(), Style(z_up=True), Style(axes=1)], ids=str)
def test_the_body_faces_where_the_clip_faces(tmp_path: Path, style: Style) -> None:
    motion = lively(seed=2)
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion, style))
    facing = Rotation.from_rotvec(frames.params.global_orient).as_matrix()[:, :, 2]
    expected = motion.world()[0]["pelvis"][frame_numbers(frames)][:, :, 2]
    assert np.rad2deg(np.arccos(np.clip((facing * expected).sum(axis=1), -1, 1))).max() < 1.0


@pytest.mark.parametrize("style", [Style(hanging_arms=True), *(Style(axes=seed) for seed in range(3))], ids=str)
def test_bone_twists_survive_another_rest_pose(tmp_path: Path, style: Style) -> None:
    motion = turned(lively(seed=3), "left_elbow", "x", np.linspace(-60, 60, 12))
    plain = read_all(write_bvh(tmp_path / "a.bvh", motion))
    other = read_all(write_bvh(tmp_path / "b.bvh", motion, style))
    limbs = [JOINT_INDEX[f"{side}_{part}"] - 1 for side in ("left", "right") for part in LIMBS]
    poses = [Rotation.from_rotvec(f.params.body_pose[:, limbs].reshape(-1, 3)) for f in (plain, other)]
    assert np.rad2deg((poses[0].inv() * poses[1]).magnitude()).max() < 0.2


def test_a_t_pose_becomes_the_smplx_t_pose(tmp_path: Path) -> None:
    frames = read_all(write_bvh(tmp_path / "clip.bvh", still()))
    assert len(frames) == 1
    arms_and_legs = [JOINT_INDEX[f"{s}_{p}"] - 1 for s in ("left", "right") for p in ("elbow", "knee", "ankle")]
    assert np.abs(frames.params.body_pose[:, arms_and_legs]).max() < 0.1
    assert np.abs(frames.params.global_orient).max() < 1e-3


def test_soles_stand_on_the_ground(tmp_path: Path) -> None:
    motion = turned(still(20), "left_shoulder", "z", np.linspace(-80, 80, 20))
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion))
    assert np.abs(sole_heights_m(frames.params).min(axis=1)).max() < 0.02


def test_a_jump_leaves_the_ground(tmp_path: Path) -> None:
    motion = turned(still(20), "left_shoulder", "z", np.linspace(-80, 80, 20))
    motion.pelvis[10, 1] += 40
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion))
    lowest = sole_heights_m(frames.params).min(axis=1)
    assert lowest[frame_numbers(frames) == 10] > 0.25
    assert np.abs(lowest[frame_numbers(frames) != 10]).max() < 0.02


@pytest.mark.parametrize("unit", [0.01, 1.0, 2.54, 100.0])
def test_units_do_not_matter(tmp_path: Path, unit: float) -> None:
    motion = lively(seed=5)
    expected = read_all(write_bvh(tmp_path / "a.bvh", motion))
    found = read_all(write_bvh(tmp_path / "b.bvh", motion, Style(unit=unit)))
    assert np.allclose(found.params.transl, expected.params.transl, atol=2e-3)
    assert np.allclose(found.params.body_pose, expected.params.body_pose, atol=2e-3)


def test_world_positions_equal_a_naive_loop(tmp_path: Path) -> None:
    motion = lively(seed=6)
    clip = parse_bvh(write_bvh(tmp_path / "clip.bvh", motion))
    found = clip.pose(np.arange(12))[1]
    expected = motion.world()[1]
    ordered = [name for name in clip.skeleton.names if not name.endswith("_end")]
    parts = [part for part in _file_order() if not part.endswith("_end")]
    for name, part in zip(ordered, parts, strict=True):
        assert np.allclose(found[:, clip.skeleton.names.index(name)], expected[part], atol=1e-4), name


def _file_order() -> list[str]:
    def below(part: str) -> list[str]:
        return [part] + [p for child, parent, _ in PARTS if parent == part for p in below(child)]

    return below("pelvis")


def _disturb_layout(text: str) -> dict[str, str]:
    lines = text.splitlines()
    motion = next(i for i, line in enumerate(lines) if line.startswith("Frame Time"))
    split_rows = [row.replace(" ", "\n", 3) for row in lines[motion + 1 :]]
    return {
        "crlf": text.replace("\n", "\r\n"),
        "mark": "\ufeff" + text,
        "tabs": text.replace(" ", "\t"),
        "braces": re.sub(r"\n\s*\{", " {", text),
        "blank lines": text.replace("\n", "\n\n"),
        "comment": text.replace("HIERARCHY\n", "HIERARCHY # made by hand\n"),
        "wrapped rows": "\n".join([*lines[: motion + 1], *split_rows]),
        "one row": "\n".join([*lines[: motion + 1], " ".join(lines[motion + 1 :])]),
        "lower case": text.replace("rotation", "ROTATION").replace("OFFSET", "offset").replace("End Site", "END SITE"),
    }


@pytest.mark.parametrize("kind", list(_disturb_layout("Frame Time: 1\n0 0")))
def test_layout_of_the_text_does_not_matter(tmp_path: Path, kind: str) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=7))
    expected = parse_bvh(path)
    path.write_bytes(_disturb_layout(path.read_text())[kind].encode())
    found = parse_bvh(path)
    assert found.skeleton.names == expected.skeleton.names
    assert np.array_equal(found.motion, expected.motion)


def test_channel_order_may_differ_between_joints(tmp_path: Path) -> None:
    motion = lively(seed=8)
    path = write_bvh(tmp_path / "clip.bvh", motion, Style(order="ZXY"))
    clip = parse_bvh(path)
    column = 6 + 3 * next(
        i for i, n in enumerate(n for n in clip.skeleton.names[1:] if not n.endswith("_end")) if n.endswith("LeftUpLeg")
    )
    turn = Rotation.from_euler("ZXY", clip.motion[:, column : column + 3], degrees=True)
    values = clip.motion.copy()
    values[:, column : column + 3] = turn.as_euler("XYZ", degrees=True)
    text = path.read_text()
    head, _ = text.split("MOTION")
    before, after = head.split("LeftUpLeg\n")
    after = after.replace("Zrotation Xrotation Yrotation", "Xrotation Yrotation Zrotation", 1)
    rows = "\n".join(" ".join(f"{v:.8f}" for v in row) for row in values)
    path.write_text(f"{before}LeftUpLeg\n{after}MOTION\nFrames: {len(values)}\nFrame Time: 0.0333\n{rows}\n")
    assert worst_limb_error_deg(read_all(path), motion) < 0.5


def test_frames_are_taken_a_stride_apart(tmp_path: Path) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=9, count=61))
    found = frame_numbers(read_pose_file(path, stride_s=0.5, seed=3))
    assert (np.diff(found) == 15).all()
    assert len(found) == 4 or len(found) == 5


def test_the_stride_phase_depends_on_the_seed_alone(tmp_path: Path) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=9, count=61))
    again = [read_pose_file(path, stride_s=0.5, seed=3).names for _ in range(2)]
    others = {read_pose_file(path, stride_s=0.5, seed=seed).names[0] for seed in range(6)}
    assert again[0] == again[1]
    assert len(others) > 1


def test_no_two_frames_are_nearly_the_same(tmp_path: Path) -> None:
    motion = turned(still(60), "left_shoulder", "z", 40 * np.sin(np.linspace(0, 12, 60)))
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion))
    joints = posed_joints(load_body(), frames.params)[:, :22]
    joints = joints - joints[:, :1]
    distance = np.linalg.norm(joints[:, None] - joints[None], axis=-1).max(axis=-1)
    assert 1 < len(frames) < 60
    assert distance[~np.eye(len(frames), dtype=bool)].min() >= SAME_POSE_M


def test_a_leading_calibration_frame_is_no_pose(tmp_path: Path) -> None:
    motion = lively(seed=10)
    for part in motion.local:
        motion.local[part][0] = np.eye(3)
    motion.pelvis[0] = motion.pelvis[1]
    frames = read_all(write_bvh(tmp_path / "clip.bvh", motion, Style(axes=3)))
    assert 0 not in frame_numbers(frames)
    assert worst_limb_error_deg(frames, motion) < 0.5


def _row(text: str, frame: int) -> tuple[list[str], int]:
    lines = text.splitlines()
    return lines, next(i for i, line in enumerate(lines) if line.startswith("Frame Time")) + 1 + frame


@pytest.mark.parametrize(
    ("value", "reason"),
    [("nan", "nan"), ("-1.#IND", "nan"), ("1e999", "nan"), ("-NaN(ind)", "nan"), ("7e7", "absurd_value")],
)
def test_a_bad_frame_is_set_aside_alone(tmp_path: Path, value: str, reason: str) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=11))
    lines, at = _row(path.read_text(), 5)
    lines[at] = " ".join([*lines[at].split()[:-1], value])
    path.write_text("\n".join(lines))
    frames = read_all(path)
    assert [error.reason for error in frames.rejected] == [reason]
    assert "frame 5" in frames.rejected[0].detail
    assert sorted(frame_numbers(frames)) == [i for i in range(12) if i != 5]


def test_whole_frames_of_a_cut_file_are_kept(tmp_path: Path) -> None:
    path = write_bvh(tmp_path / "clip.bvh", lively(seed=12))
    lines, at = _row(path.read_text(), 8)
    path.write_text("\n".join([*lines[:at], " ".join(lines[at].split()[:20])]))
    frames = read_all(path)
    assert [error.reason for error in frames.rejected] == ["truncated"]
    assert sorted(frame_numbers(frames)) == list(range(8))


def _bad_files(text: str) -> dict[str, tuple[str, str]]:
    head, motion = text.split("MOTION")
    rows = motion.splitlines()
    number = rows[3].split()[0]
    return {
        "no bytes": ("", "empty"),
        "blank": (" \n\t\n", "empty"),
        "prose": ("Dear reader, this is no motion.", "syntax"),
        "hierarchy only": (head, "truncated"),
        "cut in the hierarchy": (head[: len(head) // 2], "truncated"),
        "motion after a cut hierarchy": (head[: len(head) // 2] + "\nMOTION" + motion, "truncated"),
        "no rows": (head + "MOTION" + "\n".join(rows[:3]), "truncated"),
        "zero frames": (head + "MOTION\nFrames: 0\nFrame Time: 0.03\n", "empty"),
        "no header": (head + "MOTION\n" + "\n".join(rows[3:]), "syntax"),
        "words for numbers": (text.replace(number, "seven", 1), "syntax"),
        "unknown channel": (text.replace("Zrotation", "Wrotation", 1), "syntax"),
        "channel twice": (text.replace("Zrotation Xrotation", "Xrotation Xrotation", 1), "syntax"),
        "no brace": (text.replace("{", "", 1), "syntax"),
        "one number too many": (text + " 1.0", "shape"),
        "offset nan": (re.sub(r"OFFSET \S+", "OFFSET nan", text, count=1), "nan"),
        "offset absurd": (re.sub(r"OFFSET \S+", "OFFSET 1e30", text, count=1), "absurd_value"),
        "all frames nan": (
            head + "MOTION" + "\n".join([*rows[:3], *("nan " * len(r.split()) for r in rows[3:])]),
            "nan",
        ),
        "no legs": (text.replace("Foot", "Wheel"), "unknown_layout"),
        "no sides": (text.replace("Left", "Near").replace("Right", "Far"), "unknown_layout"),
        "no size": (re.sub(r"OFFSET .*", "OFFSET 0 0 0", text), "unknown_layout"),
    }


def _text(tmp_path: Path) -> str:
    return write_bvh(tmp_path / "good.bvh", lively(seed=13)).read_text()


@pytest.mark.parametrize("kind", list(_bad_files("OFFSET 1 Zrotation MOTION\nFrames: 1\nFrame Time: 1\n1 2 3")))
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, kind: str) -> None:
    content, reason = _bad_files(_text(tmp_path))[kind]
    path = tmp_path / "bad.bvh"
    path.write_text(content)
    with pytest.raises(PoseFileError) as caught:
        read_all(path)
    assert caught.value.reason == reason, caught.value
    assert str(path) in str(caught.value)


def _survives(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            frames = read_pose_file(path, stride_s=0.1, seed=0)
        except PoseFileError as error:
            assert error.reason in REASONS
        else:
            assert np.isfinite(frames.params.full_pose()).all()
            assert np.isfinite(frames.params.transl).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_random_bytes_give_a_pose_file_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.bvh"
    path.write_bytes(content)
    with pytest.raises(PoseFileError):
        read_all(path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_give_poses_or_a_pose_file_error(tmp_path: Path, data: st.DataObject) -> None:
    text = _text(tmp_path)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.sampled_from([0, 1, 5, 40, 400, len(text)]))
        junk = data.draw(
            st.sampled_from(["", "0", "-", "}", "{", "nan", "1e9", "Left", "JOINT x", "\n", "MOTION", "é"])
        )
        text = text[:at] + junk + text[at + length :] or " "
    path = tmp_path / "fuzz.bvh"
    path.write_text(text)
    _survives(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_offsets_give_poses_or_a_pose_file_error(tmp_path: Path, data: st.DataObject) -> None:
    numbers = st.sampled_from(["0 0 0", "1 0 0", "0 -1 0", "0 0 1", "1e6 0 0", "1e-9 0 0", "3 4 5"])
    text = re.sub(r"OFFSET .*", lambda _: f"OFFSET {data.draw(numbers)}", _text(tmp_path))
    path = tmp_path / "fuzz.bvh"
    path.write_text(text)
    _survives(path)


@pytest.mark.parametrize(
    ("name", "side", "words"),
    [
        ("LeftUpLeg", "left", ["up", "leg"]),
        ("mixamorig:RightForeArm", "right", ["fore", "arm"]),
        ("lHand", "left", ["hand"]),
        ("hand_r", "right", ["hand"]),
        ("Bip01 L Foot", "left", ["bip", "01", "foot"]),
        ("LThumb", "left", ["thumb"]),
        ("rfemur", "right", ["femur"]),
        ("LHipJoint", "left", ["hip", "joint"]),
        ("lowerneck", None, ["lowerneck"]),
        ("Root", None, ["root"]),
        ("LeftInHandRing", "left", ["in", "hand", "ring"]),
    ],
)
def test_sides_are_told_from_names(name: str, side: str | None, words: list[str]) -> None:
    assert split_name(name) == (side, words)
