"""Tables of students: test images, what each is trained on, features, weights, scores; see `fields.py` for frames."""

from dataclasses import replace

from posedreamer_assets.tables.columns import (
    BODY,
    BOOL,
    CAMERA,
    FILE,
    FLOAT,
    IDENTITY,
    IMAGE,
    INT,
    OF_IMAGE,
    SEED,
    TEXT,
    Column,
    vector,
)

STUDENT_TABLES: dict[str, tuple[Column, ...]] = {
    "benchmark_images": (
        *OF_IMAGE,
        Column(
            "test_set", TEXT, "Which set of test images: bench-renders, bench-looks, bench-generated.", required=True
        ),
        Column(
            "domain", TEXT, "Whose kind of picture it is: render, look (of neither side), generated.", required=True
        ),
        replace(IMAGE, meaning="The test image, PNG or JPEG, RGB."),
        Column("pose_group", TEXT, "What the pose comes from: never that of a training sample.", required=True),
        Column("family", TEXT, "Procedural family."),
        Column("licence", TEXT, "Licence of the pose.", required=True),
        SEED,
        *BODY,
        *CAMERA,
        Column("truncated", BOOL, "Whether the camera cuts part of the body off on purpose."),
        Column("body_digest", TEXT, "Digest of the body model that the labels belong to."),
    ),
    "training_manifests": (
        *IDENTITY,
        Column("recipe", TEXT, "Recipe of the study.", required=True),
        Column("draw", INT, "Number of the draw of data."),
        Column("table", TEXT, "Table with the image.", required=True),
        Column("source_sample_id", TEXT, "Its sample.", required=True),
        Column("source_digest", TEXT, "Its row_digest there.", required=True),
        Column("pose_group", TEXT, "What its pose comes from."),
        Column("family", TEXT, "Procedural family, or name of the clip."),
        Column("component", INT, "Number of the line of the recipe that it was taken for."),
        Column("asked", INT, "Number of samples that the recipe asks for."),
    ),
    "student_features": (
        *OF_IMAGE,
        Column(
            "rendered", FILE, "Features of copies of the render, half precision, copy after copy; null without one."
        ),
        Column("generated", FILE, "Features of copies of the generated image; null without one."),
        Column("tested", FILE, "Features of a test image as it is; null for training images."),
        Column("copies", INT, "Number of augmented copies; their changes follow from seed, sample and copy number."),
        Column("backbone", TEXT, "Digest of the weights that the features come from."),
    ),
    "hmr_student": (
        *IDENTITY,
        Column("recipe", TEXT, "Recipe of the study.", required=True),
        Column("draw", INT, "Number of the draw of data."),
        Column("training_seed", INT, "Number of the training seed."),
        SEED,
        Column("backbone", TEXT, "Digest of the frozen weights that it starts from."),
        Column("steps", INT, "Number of optimiser steps."),
        Column("batch_size", INT, "Number of copies a step."),
        Column("samples_seen", INT, "Number of copies looked at in training, those seen again among them."),
        Column("unique_samples", INT, "Number of images it was trained on."),
        Column("unique_poses", INT, "Number of poses it was trained on."),
        Column("loss_first", FLOAT, "Mean loss of the first steps, without unit."),
        Column("loss_last", FLOAT, "Mean loss of the last steps, without unit."),
        Column("weights", FILE, "Weights of the head, safetensors, half precision."),
        Column("manifest_digest", TEXT, "Digest of the samples it was trained on."),
        Column("body_digest", TEXT, "Digest of the body model of its labels."),
    ),
    "student_scores": (
        *IDENTITY,
        Column("test_sample_id", TEXT, "The test image.", required=True),
        Column("test_set", TEXT, "Its set.", required=True),
        Column("family", TEXT, "Procedural family of its pose."),
        Column("pve_mm", FLOAT, "Mean distance of vertices with pelves at one place, millimetres."),
        Column(
            "pve_area_mm",
            FLOAT,
            "The same, each vertex weighted by its area, millimetres.",
        ),
        Column(
            "pve_in_image_mm",
            FLOAT,
            "The same, of vertices that project into the image, millimetres; null without any.",
        ),
        Column("pa_pve_mm", FLOAT, "Mean distance of vertices after the best similarity, millimetres."),
        Column("mpjpe_mm", FLOAT, "Mean distance of body joints with pelves at one place, millimetres."),
        Column("pa_mpjpe_mm", FLOAT, "Mean distance of body joints after the best similarity, millimetres."),
        Column("orient_deg", FLOAT, "Angle between true and predicted root, degrees."),
        Column("body_angle_deg", FLOAT, "Mean angle of the 21 body joints, degrees."),
        Column("betas_l1", FLOAT, "Mean absolute error of shape, standard deviations."),
        Column(
            "floor_pve_mm",
            FLOAT,
            "pve_mm of the true parameters with hands, face and expression at rest, millimetres.",
        ),
        Column("constant_pve_mm", FLOAT, "pve_mm of the upright mean body, whatever is seen, millimetres."),
        Column(
            "predicted_rotations",
            vector(22 * 9),
            "Root in the camera's frame and body joints, 3 x 3 in row-major order.",
        ),
        Column("predicted_betas", vector(10), "Predicted shape, standard deviations."),
        Column("predicted_pelvis_m", vector(3), "Predicted place of the root joint in the camera's frame, metres."),
        Column("protocol", TEXT, "Which point of both bodies is laid at one place: posed-mesh, chain or hips."),
        Column("body_digest", TEXT, "Digest of the body model that the student was trained for."),
        Column("test_body_digest", TEXT, "Digest of the body model of the test image's label."),
    ),
}
