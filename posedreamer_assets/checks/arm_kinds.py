"""Kinds of tests of the networks that the study `learning_to_train` trains."""

from functools import partial

import pyarrow as pa

from posedreamer_assets.checks.kind import Kind, is_plain, late

_arms = partial(late, "arm_checks")

ARM_KINDS: dict[str, Kind] = {
    "half_and_half": Kind(
        "Every network has drawn as many people of each of its sources, and none of others",
        {},
        None,
        _arms("half_and_half"),
        needs=("arm", "steps", "batch_size", "real_seen", "synthetic_seen"),
    ),
    "frozen_layers_kept": Kind(
        "The layers that are not trained are those of the baseline",
        {},
        None,
        _arms("frozen_layers_kept"),
        needs=("weights", "frozen_digest", "baseline_digest"),
    ),
    "in_split": Kind(
        "The photograph that {column} names is in the split {split} of {to}",
        {"to!": list, "split!": str},
        is_plain,
        _arms("in_split"),
        needs_of_to=("split",),
    ),
    "covers_split": Kind(
        "{column} names every photograph of the split {split} of {to}, each once",
        {"to!": list, "split!": str},
        is_plain,
        _arms("covers_split"),
        needs_of_to=("split",),
        whole=True,
    ),
    "joints_for_people": Kind(
        "There are 16 joints for everybody who was found, and a group where there are groups",
        {},
        None,
        _arms("joints_for_people"),
        needs=("people_found", "found_2d", "found_joints", "found_scores", "found_group"),
    ),
    "eq2_followed": Kind(
        "Rewards and targets are those of equations 1 and 2",
        {},
        None,
        _arms("eq2_followed"),
        needs=("probabilities", "target", "chosen_group", "reward", "window_loss", "history_mean", "group_sizes"),
    ),
    "cells_have_intervals": Kind(
        "Every figure of the tables in {column} lies in its interval",
        {},
        pa.types.is_string,
        _arms("cells_have_intervals"),
    ),
}
