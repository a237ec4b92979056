"""Kinds of tests of scenes with many people, and of people over photographs."""

from functools import partial

from posedreamer_assets.checks.kind import Kind, late
from posedreamer_assets.tables.fields import BODY_COLUMNS

_crowds = partial(late, "crowds")
_BODY = tuple(BODY_COLUMNS)
_PLACED = ("image_id", "appearance", "seed")

CROWD_KINDS: dict[str, Kind] = {
    "bodies_apart": Kind(
        "No dressed body of an image reaches into another", {}, None, _crowds("bodies_apart"), needs=(*_BODY, *_PLACED)
    ),
    "feet_on_ground": Kind(
        "Bodies stand on the ground, or above it where they jump or run",
        {"tolerance_m": float},
        None,
        _crowds("feet_on_ground"),
        needs=(*_BODY, "family"),
    ),
    "same_within_image": Kind(
        "All people of an image have the same {columns}",
        {"columns!": list},
        None,
        _crowds("same_within_image"),
        needs=("image_id",),
    ),
    "people_counted": Kind(
        "`people_placed` is the number of the image's people, at most those drawn",
        {},
        None,
        _crowds("people_counted"),
        needs=("image_id", "people_drawn", "people_placed"),
    ),
    "poisson_counts": Kind(
        "People drawn for an image follow Poisson's distribution with the profile's mean",
        {"level": float, "batches": int},
        None,
        _crowds("poisson_counts"),
        needs=("image_id", "people_drawn", "photo_id"),
        whole=True,
    ),
    "pitch_uniform": Kind(
        "Cameras of scenes look down by angles that are uniform in the profile's range",
        {"level": float, "batches": int},
        None,
        _crowds("pitch_uniform"),
        needs=("image_id", "cam_pitch_deg", "photo_id"),
        whole=True,
    ),
    "instances_list_people": Kind(
        "`persons` are those of {to}, and the map of people shows no other",
        {"to!": list},
        None,
        _crowds("instances_list_people"),
        needs=("persons", "amodal_pixels", "instances"),
        needs_of_to=("image_id", "person"),
    ),
    "crowd_maps_agree": Kind(
        "Instances, parts and depth show people at the same pixels",
        {},
        None,
        _crowds("crowd_maps_agree"),
        needs=("instances", "parts", "depth"),
    ),
    "untouched_outside_mask": Kind(
        "Pixels that show no synthetic person are those of the photograph in {to}",
        {"to!": list},
        None,
        _crowds("untouched_outside_mask"),
        needs=("photo_id", "image", "instances"),
        needs_of_to=("image",),
    ),
    "changed_only_in_mask": Kind(
        "Pixels that show no synthetic person are those of {to}",
        {"to!": list},
        None,
        _crowds("changed_only_in_mask"),
        needs=("image", "status"),
        needs_of_to=("image", "instances"),
    ),
    "visibility_follows_instances": Kind(
        "What is visible of synthetic people, and who hides the rest, follow from the maps in {to}",
        {"to!": list},
        None,
        _crowds("visibility_follows_instances"),
        needs=("image_id", "person", "origin", "mpii_2d", "mpii_visible", "occluded_by", "head_size_px"),
        needs_of_to=("instances", "parts"),
    ),
    "boxes_follow_instances": Kind(
        "Boxes and areas of synthetic people are those of their pixels in {to}",
        {"to!": list},
        None,
        _crowds("boxes_follow_instances"),
        needs=("image_id", "person", "origin", "bbox", "pixels_visible", "pixels_amodal"),
        needs_of_to=("instances",),
    ),
    "min_distance_agrees": Kind(
        "`min_distance_px` is the distance to the nearest other person of the image",
        {"tolerance_px": float},
        None,
        _crowds("min_distance_agrees"),
        needs=("image_id", "mpii_2d", "mpii_labelled", "min_distance_px"),
    ),
    "background_verdict_follows": Kind(
        "`reason` follows from the image's size, its people and the least size that the profile asks for",
        {},
        None,
        _crowds("background_verdict_follows"),
        needs=("width", "height", "people", "reason"),
    ),
    "labels_of_photo": Kind(
        "People of photographs have their labels of {to}; what is covered is not visible",
        {"to!": list},
        None,
        _crowds("labels_of_photo"),
        needs=(
            *("image_id", "photo_person", "mpii_2d", "mpii_labelled", "mpii_visible", "keypoints_2d"),
            *("keypoints_visible", "head_size_px", "bbox"),
        ),
    ),
}
