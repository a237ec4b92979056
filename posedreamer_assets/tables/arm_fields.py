"""Tables of the networks that the study `learning_to_train` trains, and of what they find; see `fields.py` for pixels."""

from dataclasses import replace

import pyarrow as pa

from posedreamer_assets.tables.columns import BOOL, FILE, FLOAT, IDENTITY, INT, SEED, SPLIT, TEXT, Column

_DOUBLE = pa.float64()
_ARM = (
    Column("arm", TEXT, "What the network was trained on: an arm of the study; baseline for their start.", required=True),
    Column("training_seed", INT, "Number of the training seed."),
)  # fmt: skip

ARM_TABLES: dict[str, tuple[Column, ...]] = {
    "pose2d_students": (
        *IDENTITY,
        *_ARM,
        SEED,
        Column("steps", INT, "Number of optimiser steps."),
        Column("batch_size", INT, "Number of copies a step."),
        Column("real_samples", INT, "Number of people of photographs that could be drawn."),
        Column("synthetic_samples", INT, "Number of people of synthetic images that could be drawn."),
        Column("real_seen", INT, "Number of people of photographs that were drawn, those drawn again among them."),
        Column("synthetic_seen", INT, "Number of people of synthetic images that were drawn."),
        Column("loss_real", FLOAT, "Mean loss of photographs in the last tenth of the steps, without unit; null without any."),
        Column("loss_synthetic", FLOAT, "The same of synthetic images, without unit."),
        Column("losses", TEXT, "Losses by step and source, JSON."),
        Column("updates", TEXT, "Groups: their edges, those chosen, and a teacher's updates, JSON; null without groups."),
        Column("weights", FILE, "Weights of the network, safetensors."),
        Column("weights_digest", TEXT, "Digest of the weights."),
        Column("frozen_digest", TEXT, "Digest of the layers that are not trained."),
        Column("baseline_digest", TEXT, "Digest of the weights that it starts from.", required=True),
    ),
    "teacher_log": (
        *IDENTITY,
        *_ARM,
        Column("window", INT, "Number of the window of training steps that ended."),
        Column("chosen_group", INT, "Number of the group of synthetic people that was trained on, from 0."),
        Column("explored", BOOL, "Whether it was chosen at random, whatever the probabilities."),
        Column("probabilities", pa.list_(_DOUBLE), "Probabilities of all groups before the update, 0 to 1."),
        Column("target", pa.list_(_DOUBLE), "What they are to become, 0 to 1."),
        Column("reward", INT, "1 where the group was at least as hard as of late, else -1; without unit."),
        Column("window_loss", _DOUBLE, "The student's loss on the group in this window, without unit."),
        Column("history_mean", _DOUBLE, "Its mean over the windows before, without unit."),
        Column("group_sizes", pa.list_(INT), "Number of people of each group."),
        Column("edges", pa.list_(_DOUBLE), "Upper edges of all groups but the last: degrees of camera pitch, or pixels."),
    ),
    "pose2d_predictions": (
        *IDENTITY,
        *_ARM,
        Column("photo_id", TEXT, "The photograph that was looked at; null of scenes."),
        Column("scene_id", TEXT, "The held-out scene that was looked at; null of photographs."),
        replace(SPLIT, meaning="Split of the image: always test."),
        Column("people_found", INT, "Number of people that were found."),
        Column("found_2d", pa.list_(pa.float32()), "MPII's 16 joints of all people found, x, y, pixels; 0 where not found."),
        Column("found_joints", pa.list_(pa.bool_()), "Which of the 16 joints of each were found."),
        Column("found_scores", pa.list_(pa.float32()), "Scores of the 16 joints of each, without unit; 0 where not found."),
        Column("found_group", pa.list_(INT), "Number of the group of people that each was looked for with; null where all were."),
    ),
}  # fmt: skip
"""By name."""
