"""Stages of studies, which are in the graph where a profile asks for them, and only there."""

from collections.abc import Callable

from posedreamer_assets.config import ARM_STUDY
from posedreamer_assets.pipeline import (
    annotated_photos,
    benchmark_images,
    hmr_benchmark,
    hmr_student,
    mixed_images,
    mixed_layouts,
    mixed_people,
    photo_people,
    pose2d_baseline,
    pose2d_predictions,
    pose2d_report,
    pose2d_students,
    scene_images,
    scene_layouts,
    scene_people,
    student_features,
    student_scores,
    styled_images,
    teacher_log,
    training_manifests,
    user_test_images,
)
from posedreamer_assets.pipeline.rounds import Round
from posedreamer_assets.pipeline.stage import Stage


def student_stages(of: tuple[Round, ...]) -> tuple[Stage, ...]:
    """What the data is worth: test sets, and students trained on recipes of what the rounds made."""
    groups = tuple(one.name for one in of)
    return (
        benchmark_images.STAGE,
        benchmark_images.GENERATED,
        user_test_images.STAGE,
        training_manifests.stage(groups),
        *(student_features.stage(one.name) for one in of),
        student_features.TESTED,
        hmr_student.stage(groups),
        student_scores.STAGE,
        hmr_benchmark.STAGE,
    )


def scene_stages(of: tuple[Round, ...]) -> tuple[Stage, ...]:
    """Scenes of many people, people over photographs, and styles; whatever rounds there are."""
    return (
        scene_layouts.STAGE,
        scene_images.STAGE,
        scene_people.STAGE,
        annotated_photos.STAGE,
        photo_people.STAGE,
        mixed_layouts.STAGE,
        mixed_images.STAGE,
        mixed_people.STAGE,
        styled_images.STAGE,
    )


def arm_stages(of: tuple[Round, ...]) -> tuple[Stage, ...]:
    """Networks trained on arms of the study `learning_to_train`, and what they find; they read the stages of that study."""
    return (
        pose2d_baseline.STAGE,
        pose2d_students.STAGE,
        teacher_log.STAGE,
        pose2d_predictions.STAGE,
        pose2d_report.STAGE,
    )


STUDIES: dict[str, Callable[[tuple[Round, ...]], tuple[Stage, ...]]] = {
    "students": student_stages,
    "learning_to_train": scene_stages,
    ARM_STUDY: arm_stages,
}
"""The stages of a study in the order of the data, by the section of the profile that asks for it; what a study trains on its
data comes after them, by a name of its own."""
