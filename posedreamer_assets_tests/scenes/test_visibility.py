"""What can be seen of whom: maps painted by hand, a loop over all pixels as oracle, and two people who change places."""

import numpy as np
import pytest

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.cameras.crowds import ground_camera
from posedreamer_assets.errors import RenderError
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.draw import draw_crowd, shadow_on_ground
from posedreamer_assets.scenes.labels import label_people
from posedreamer_assets.scenes.layout import Layout, ids_of, sample_light, stand
from posedreamer_assets.scenes.people import draw_cast, dressed
from posedreamer_assets.scenes.picture import picture_of
from posedreamer_assets.scenes.points import MPII16, mpii_of_coco, mpii_parts, parts_next_to
from posedreamer_assets.scenes.visibility import ITSELF, joints_seen, smallest_distances_px

CAMERA = ground_camera(pitch_rad=0.1, height_m=1.5, focal_px=160.0, width=160, height=120)
LIGHT = Light(np.array([0.3, -0.8, -0.5]), 2.5, 0.4)


def naive(points, beside, person, head_px, instances, parts):  # type: ignore[no-untyped-def]
    """Every pixel of the image is asked for every point."""
    height, width = instances.shape
    reach = max(1, round(0.25 * head_px))
    seen, hidden = [], []
    for k, (x, y) in enumerate(points):
        inside = 0 <= x < width and 0 <= y < height
        found = False
        for row in range(height):
            for column in range(width):
                near = inside and abs(row - int(y)) <= reach and abs(column - int(x)) <= reach
                if near and instances[row, column] == person and parts[row, column]:
                    found |= bool(beside[k, parts[row, column] - 1])
        own = int(instances[int(y), int(x)]) if inside else 0
        seen.append(found)
        hidden.append(0 if found or not inside else ITSELF if own == person else own)
    return np.array(seen), np.array(hidden)


def test_joints_seen_is_what_a_loop_over_all_pixels_finds() -> None:
    rng = np.random.default_rng(0)
    instances = rng.choice(4, (24, 30), p=(0.2, 0.2, 0.4, 0.2)).astype(np.uint8)
    parts = np.where(instances > 0, rng.integers(1, 56, instances.shape), 0).astype(np.uint8)
    beside = rng.random((90, 55)) < 0.03
    points = rng.uniform(-5, 35, (90, 2))
    for head in (0.0, 6.0, 13.0):
        found = joints_seen(points, beside, 2, head, instances, parts)
        wanted = naive(points, beside, 2, head, instances, parts)
        assert np.array_equal(found[0], wanted[0]) and np.array_equal(found[1], wanted[1])
    assert 0 < found[0].sum() < 90 and {ITSELF, 1, 3} <= set(found[1].tolist())


def test_nothing_is_seen_behind_the_camera() -> None:
    seen, hidden = joints_seen(np.full((1, 2), np.nan), np.ones((1, 55), bool), 1, 9.0, *np.ones((2, 9, 9), np.uint8))
    assert not seen.any() and not hidden.any()


def two_people(body: BodyModel, near: int) -> tuple[Layout, list[int]]:
    """Two standing people in line with the camera; `near` is the one in front."""
    cast = draw_cast(body, ids_of("scenes-0000/000000", 2), 5, "in a park", families=("stand",))
    places = iter([np.array([0.0, 0.0, -3.0 if k == near else -5.0]) for k in range(2)])
    return stand(body, cast, CAMERA, LIGHT, lambda: next(places), 1), [1, 2]


@pytest.mark.parametrize("near", [0, 1])
def test_who_is_in_front_hides_the_other(body: BodyModel, near: int) -> None:
    layout, ids = two_people(body, near)
    behind = np.full((120, 160, 3), 200, np.uint8)
    picture, crowd = picture_of(
        body, layout.params, layout.looks, layout.seeds, ids, CAMERA, LIGHT, behind, shadows=False
    )
    labels = label_people(body, layout.params, ids, CAMERA, crowd.instances, crowd.parts)
    far = 1 - near
    trunk = [MPII16.index(name) for name in ("left_hip", "right_hip", "left_knee", "right_knee")]
    assert labels.mpii_seen[near, trunk].all()
    assert not labels.mpii_seen[far, [MPII16.index("left_knee"), MPII16.index("right_knee")]].any()
    hidden = ~labels.mpii_seen[far] & labels.mpii_inside[far]
    column, row = labels.mpii[far, hidden].astype(int).T
    assert np.array_equal(labels.hidden_by[far, hidden] == ids[near], crowd.instances[row, column] == ids[near])
    assert ids[near] in labels.hidden_by[far] and ids[far] not in labels.hidden_by[near]
    assert labels.pixels[near] == crowd.amodal_pixels[near]
    assert labels.pixels[far] < crowd.amodal_pixels[far]
    assert np.array_equal(picture[crowd.instances == 0], behind[crowd.instances == 0])


def test_maps_of_a_crowd_show_the_same_pixels_and_the_nearest_person(body: BodyModel) -> None:
    layout, ids = two_people(body, 0)
    solids = dressed(body, layout.params, layout.looks, layout.seeds)
    vertices, normals = np.stack([s.vertices for s in solids]), np.stack([s.normals for s in solids])
    white = np.ones_like(vertices)
    both = draw_crowd(body, vertices, normals, white, ids, CAMERA, LIGHT)
    alone = [
        draw_crowd(body, vertices[k : k + 1], normals[k : k + 1], white[:1], [ids[k]], CAMERA, LIGHT) for k in (0, 1)
    ]
    assert np.array_equal(both.instances > 0, both.depth_mm > 0) and np.array_equal(both.instances > 0, both.parts > 0)
    assert np.array_equal(both.instances > 0, both.share > 0)
    assert np.array_equal(both.instances > 0, (alone[0].instances > 0) | (alone[1].instances > 0))
    depths = np.stack([np.where(one.depth_mm > 0, one.depth_mm, 65535) for one in alone])
    sure = np.abs(depths[0].astype(int) - depths[1]) > 1
    nearest = np.where(both.instances > 0, depths.argmin(axis=0) + 1, 0)
    assert np.array_equal(both.instances[sure], nearest[sure])
    assert both.amodal_pixels == [int((one.instances > 0).sum()) for one in alone]


def test_half_covered_pixels_are_half_of_each(body: BodyModel) -> None:
    """Shares are quarters: an edge pixel mixes people and background in that share, within a level."""
    layout, ids = two_people(body, 0)
    solids = dressed(body, layout.params, layout.looks, layout.seeds)
    vertices, normals = np.stack([s.vertices for s in solids]), np.stack([s.normals for s in solids])
    crowd = draw_crowd(body, vertices, normals, np.ones_like(vertices), ids, CAMERA, LIGHT)
    assert set(np.unique(crowd.share).tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    black = crowd.over(np.zeros((120, 160, 3), np.uint8)).astype(int)
    half = crowd.share == 0.5
    assert np.abs(black[half] - crowd.colour[half] / 2).max() <= 1


def test_very_large_views_are_drawn_at_their_own_size(body: BodyModel) -> None:
    """The people of such a picture are those of the same view at a sixteenth of the size."""
    layout, ids = two_people(body, 0)
    solids = dressed(body, layout.params, layout.looks, layout.seeds)
    vertices, normals = np.stack([s.vertices for s in solids]), np.stack([s.normals for s in solids])
    large = ground_camera(pitch_rad=0.1, height_m=1.5, focal_px=160.0 * 16, width=160 * 16, height=120 * 16)
    crowds = [
        draw_crowd(body, vertices, normals, np.ones_like(vertices), ids, camera, LIGHT) for camera in (CAMERA, large)
    ]
    assert set(np.unique(crowds[1].share).tolist()) == {0.0, 1.0}
    middle = crowds[1].instances[8::16, 8::16]
    assert (middle != crowds[0].instances).mean() < 0.02
    assert crowds[1].amodal_pixels[0] == (crowds[1].instances == 1).sum()


def test_ids_beyond_eight_bits_are_refused(body: BodyModel) -> None:
    one = np.zeros((1, len(body.v_template), 3))
    with pytest.raises(RenderError, match=r"person 255 .* 1 to 254"):
        draw_crowd(body, one, one, one, [255], CAMERA, LIGHT)


def test_a_shadow_falls_away_from_the_light(body: BodyModel) -> None:
    layout, _ = two_people(body, 0)
    vertices = body.forward(layout.params).vertices
    to_the_right = Light(np.array([0.7, -0.7, 0.0]), 2.5, 0.4)
    lost = shadow_on_ground(body, vertices, CAMERA, to_the_right)
    to_the_left = shadow_on_ground(body, vertices, CAMERA, Light(np.array([-0.7, -0.7, 0.0]), 2.5, 0.4))
    columns = np.arange(160)
    assert (lost.sum(0) @ columns) / lost.sum() > 85 and (to_the_left.sum(0) @ columns) / to_the_left.sum() < 75
    assert 0.2 < lost.max() <= 0.42


def test_smallest_distances_are_those_of_all_pairs() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (9, 2))
    wanted = [min(float(np.hypot(*(a - b))) for j, b in enumerate(points) if i != j) for i, a in enumerate(points)]
    assert smallest_distances_px(list(points)) == pytest.approx(wanted)
    assert smallest_distances_px([points[0]]) == [None]
    assert smallest_distances_px([points[0], np.full(2, np.nan), points[1]])[1] is None
    assert smallest_distances_px([]) == []


def test_parts_next_to_a_joint_are_those_that_meet_there(body: BodyModel) -> None:
    from posedreamer_assets.body.joints import JOINT_NAMES

    beside = parts_next_to(body)
    named = {JOINT_NAMES[part] for part in np.flatnonzero(beside[JOINT_NAMES.index("left_knee")])}
    assert named == {"left_hip", "left_knee", "left_ankle"}
    assert mpii_parts(body)[MPII16.index("head_top")][JOINT_NAMES.index("head")]


def test_coco_says_nothing_of_neck_and_top_of_the_head() -> None:
    keypoints = np.random.default_rng(0).uniform(0, 99, (2, 17, 2))
    labelled = np.ones((2, 17), bool)
    labelled[1, 5] = False  # a shoulder
    joints, known = mpii_of_coco(keypoints, labelled)
    assert not known[:, [MPII16.index("head_top"), MPII16.index("upper_neck")]].any()
    assert known[0].sum() == 14 and not known[1, MPII16.index("thorax")]
    assert np.array_equal(joints[0, MPII16.index("left_wrist")], keypoints[0, 9])
    assert np.allclose(joints[0, MPII16.index("pelvis")], keypoints[0, 11:13].mean(axis=0))


def test_light_of_a_scene_shines_down() -> None:
    assert all(sample_light(np.random.default_rng(k)).direction[1] < -0.4 for k in range(50))
