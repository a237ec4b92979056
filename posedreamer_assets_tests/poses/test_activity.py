"""Activities of clips that are made to show them."""

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.poses.activity import (
    LYING,
    POSE_ACTIVITIES,
    STANDING,
    activities,
    activity_of_frame,
    activity_of_name,
    clip_speeds_m_s,
)
from posedreamer_assets.poses.procedural import FAMILIES, stand_on_ground
from posedreamer_assets.render.captions import NAMED_COLOURS, Description, make_caption, parse_caption
from posedreamer_assets_tests.poses.clips import FRAMES, clip, walk

BODY = load_body()


@pytest.mark.parametrize(
    ("name", "frame", "activity"),
    [
        ("stand", 0, STANDING),
        ("lie", 0, LYING),
        ("lie", -1, LYING),
        ("sit", -1, "sitting"),
        ("squat", -1, "crouching"),
        ("squat", 0, STANDING),
        ("push-up", 0, "doing yoga"),
        ("handstand", 0, "doing yoga"),
        ("get up", 0, LYING),
        ("get up", -1, STANDING),
    ],
)
def test_a_pose_is_called_what_it_shows(name: str, frame: int, activity: str) -> None:
    assert activities(BODY, clip(name).take([frame % FRAMES])) == [activity]


@pytest.mark.parametrize(("speed", "activity"), [(0.0, STANDING), (1.3, "walking"), (3.5, "running")])
def test_upright_bodies_walk_or_run_by_speed(speed: float, activity: str) -> None:
    assert activities(BODY, clip("stand").take([0]), np.array([speed])) == [activity]


@pytest.mark.parametrize("yaw_deg", [0, 70])
def test_the_speed_of_a_clip_is_its_path_over_its_time(yaw_deg: float) -> None:
    params = walk(yaw_deg=yaw_deg)
    found = clip_speeds_m_s(BODY, np.arange(FRAMES), params.take, count=FRAMES, fps=30.0)
    path = np.linalg.norm(np.diff(params.transl[:, [0, 2]], axis=0), axis=1).sum()
    assert np.mean(found) == pytest.approx(path / (FRAMES - 1) * 30, rel=0.25)
    assert not clip_speeds_m_s(BODY, np.arange(3), params.take, count=FRAMES, fps=0.0).any()


def test_bodies_in_the_air_jump() -> None:
    params = clip("stand").take([0])
    params = params.replace(transl=params.transl + np.array([0, 0.3, 0], np.float32))
    assert activities(BODY, params) == [FAMILIES["jump"].activity]


def test_raised_arms_reach_up() -> None:
    arms = clip("handstand").take([0])
    upright = stand_on_ground(
        BODY, arms.replace(global_orient=np.zeros((1, 3), np.float32), transl=np.zeros_like(arms.transl))
    )
    assert activities(BODY, upright) == [FAMILIES["reach"].activity]


@pytest.mark.parametrize(
    ("name", "activity"),
    [
        ("02_03_run", "running"),
        ("WalkingSlowly", "walking"),
        ("cmu1_jumping_jacks", "jumping"),
        ("fair1_wave_hello", "waving"),
        ("runtime_test", None),
        ("01_01", None),
    ],
)
def test_words_of_a_name_are_used_where_they_are_known(name: str, activity: str | None) -> None:
    assert activity_of_name(name) == activity


def test_a_name_does_not_overrule_a_plain_pose() -> None:
    assert activity_of_frame(LYING, "walk_03") == LYING
    assert activity_of_frame(STANDING, "dance_03") == FAMILIES["dance"].activity
    assert activity_of_frame("walking", "05_01") == "walking"


def test_every_activity_fits_the_caption_grammar() -> None:
    colour = next(iter(NAMED_COLOURS))
    for activity in POSE_ACTIVITIES:
        said = Description(
            "pale", "short", "black", activity, colour, "plain", "shirt", colour, "shorts", colour, "in a park"
        )
        assert parse_caption(make_caption(said)) == said
    assert activities(BODY, clip("stand").take(slice(0, 0))) == []
