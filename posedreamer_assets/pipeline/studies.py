"""Stages of studies, which are in the graph where a profile asks for them, and only there."""

from posedreamer_assets.pipeline import (
    annotated_photos,
    mixed_images,
    mixed_layouts,
    mixed_people,
    photo_people,
    scene_images,
    scene_layouts,
    scene_people,
    styled_images,
)
from posedreamer_assets.pipeline.stage import Stage

STUDIES: dict[str, tuple[Stage, ...]] = {
    "learning_to_train": (
        scene_layouts.STAGE,
        scene_images.STAGE,
        scene_people.STAGE,
        annotated_photos.STAGE,
        photo_people.STAGE,
        mixed_layouts.STAGE,
        mixed_images.STAGE,
        mixed_people.STAGE,
        styled_images.STAGE,
    ),
}
"""By the section of the profile that enables it, in the order of the data."""
