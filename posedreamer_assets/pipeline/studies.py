"""Stages of studies, which are in the graph where a profile asks for them, and only there."""

from collections.abc import Callable

from posedreamer_assets.config import ARM_STUDY, BACKGROUND_STUDY
from posedreamer_assets.pipeline import (
    annotated_photos,
    background_verdicts,
    benchmark_images,
    control_maps,
    filtered_dataset,
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
    pose_library,
    raw_generations,
    sample_scores,
    scene_images,
    scene_layouts,
    scene_people,
    student_features,
    student_scores,
    styled_images,
    teacher_log,
    training_manifests,
    unaligned_generations,
    user_test_images,
)
from posedreamer_assets.pipeline.rounds import Round
from posedreamer_assets.pipeline.stage import Stage
from posedreamer_assets.tables.keys import DOMAIN


def unaligned_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """What the base round would be without alignment, for recipes that ask what alignment is worth."""
    return (unaligned_generations.STAGE,)


def domain_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """Poses of one kind, painted, scored and filtered beside the rounds; the dataset does not take them."""
    return (
        pose_library.OF_DOMAIN,
        control_maps.STAGE.of_round(DOMAIN, DOMAIN),
        raw_generations.STAGE.of_round(DOMAIN, DOMAIN),
        sample_scores.stage(DOMAIN),
        filtered_dataset.STAGE.of_round(DOMAIN, DOMAIN),
    )


def student_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """What the data is worth: test sets, and students trained on recipes of what the rounds made."""
    with_domains, unaligned = "domains" in studies, "unaligned" in studies
    groups = _student_groups(of, studies)
    return (
        benchmark_images.STAGE,
        benchmark_images.GENERATED,
        *((benchmark_images.OF_DOMAIN,) if with_domains else ()),
        benchmark_images.OF_CLIPS,
        user_test_images.STAGE,
        training_manifests.stage(groups, unaligned),
        *(student_features.stage(name, unaligned) for name in groups),
        student_features.TESTED,
        hmr_student.stage(groups),
        student_scores.STAGE,
        hmr_benchmark.STAGE,
    )


def image_student_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """The same with students that see images: there are no cached features, and training wants GPUs."""
    own = {
        hmr_student.TABLE: hmr_student.image_stage(_student_groups(of, studies), "unaligned" in studies),
        student_scores.TABLE: student_scores.OF_IMAGES,
    }
    return tuple(
        own.get(stage.key, stage) for stage in student_stages(of, studies) if stage.name != student_features.TABLE
    )


def _student_groups(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[str, ...]:
    """What students may be trained on: rounds and, where the study has some, domains."""
    return (*(one.name for one in of), *((DOMAIN,) if "domains" in studies else ()))


def background_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """Verdicts on the user's backgrounds, which scenes are drawn before."""
    return (background_verdicts.STAGE,)


def scene_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """Scenes of many people, people over photographs, and styles; whatever rounds there are."""
    return (
        scene_layouts.STAGE,
        scene_images.stage(of_folder=BACKGROUND_STUDY in studies),
        scene_people.STAGE,
        annotated_photos.STAGE,
        photo_people.STAGE,
        mixed_layouts.STAGE,
        mixed_images.STAGE,
        mixed_people.STAGE,
        styled_images.STAGE,
    )


def arm_stages(of: tuple[Round, ...], studies: tuple[str, ...]) -> tuple[Stage, ...]:
    """Networks trained on arms of the study `learning_to_train`, and what they find; they read the stages of that study."""
    return (
        pose2d_baseline.STAGE,
        pose2d_students.STAGE,
        teacher_log.STAGE,
        pose2d_predictions.STAGE,
        pose2d_report.STAGE,
    )


_Stages = Callable[[tuple[Round, ...], tuple[str, ...]], tuple[Stage, ...]]
OF_IMAGES: dict[str, _Stages] = {"image_students": image_student_stages}
"""What stands for the stages of `students` where these see images; other stages of the same tables."""

STUDIES: dict[str, _Stages] = {
    "unaligned": unaligned_stages,
    "domains": domain_stages,
    "students": student_stages,
    BACKGROUND_STUDY: background_stages,
    "learning_to_train": scene_stages,
    ARM_STUDY: arm_stages,
}
"""The stages of a study in the order of the data, by the section of the profile that asks for it; from the rounds, and the names
of all studies of the graph. What a study needs beside the rounds comes before its stages, and what it trains on its data after
them, by names of their own."""
