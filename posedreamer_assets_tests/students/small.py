"""A whole study, tiny: two seeds of three recipes on images of a generator with random weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pyarrow as pa

from posedreamer_assets.checks import suite
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.diffusion.conftest import save_tiny_parts
from posedreamer_assets_tests.runtime.small import SMALL, make_one, passing

STUDY = """\
student: {steps: 24, batch_size: 4, copies: 2}
seeds: 2
recipes:
  generated: {use: [{table: raw_generations, where: kept}], size: budget}
  rendered: {use: [{table: rendered_scenes}], same_poses_as: generated}
  half: {use: [{table: rendered_scenes}], same_poses_as: generated, size: budget/2}
primary: [{name: generated against rendered, a: generated, b: rendered}]
exploratory: [{name: half against all, a: half, b: rendered}]
curve: [half, rendered]
exchange: [generated]
"""
NEEDED = (
    "body_model",
    "pose_library",
    "base/control_maps",
    "rendered_scenes",
    "control_checkpoint",
    "preference_pairs",
    "dpo_checkpoint",
    "base/raw_generations",
    "base/sample_scores",
    "base/filtered_dataset",
)
"""Stages that a study without hard images is made from."""
STUDENTS = (
    "benchmark_images",
    "generated/benchmark_images",
    "training_manifests",
    "base/student_features",
    "benchmark/student_features",
    "hmr_student",
    "student_scores",
    "hmr_benchmark",
)


def study_profile(place: Path, **settings: object) -> Profile:
    """The profile SMALL with the study above, and no alignment."""
    save_tiny_parts(place / "generator")
    (place / "tiny.yaml").write_text(STUDY)
    own = {
        "alignment.method": "none",
        "generator.model_path": str(place / "generator"),
        "students.study": str(place / "tiny.yaml"),
        "students.images": 8,
        "students.test_renders": 5,
        "cameras.truncated_share": 0.5,  # so that both kinds of cameras are among so few images
        "students.test_generated": 2,
    }
    return load_profile("pocket", {**SMALL, **own, **settings})


def make_stages(store: LanceStore, profile: Profile, names: tuple[str, ...]) -> list[tuple[str, str | None]]:
    """Make what is not up to date of these stages; returns what was made."""
    made = []
    for name in names:
        stage = graph_of(profile)[name]
        for key in planned_keys(profile, stage.groups) if stage.partitioned else [None]:
            if not Snapshot(profile, store).is_current(stage, key):
                make_one(store, profile, name, key)
                made.append((name, key))
    return made


def make_study(place: Path, **settings: object) -> tuple[LanceStore, Profile]:
    """A store with the study; the images of random weights need not pass their own checks, the students must."""
    profile = study_profile(place, **settings)
    store = LanceStore(str(place / "storage"))
    with mock.patch.object(suite, "run_checks", passing):
        make_stages(store, profile, NEEDED)
    make_stages(store, profile, STUDENTS)
    return store, profile


def with_study(profile: Profile, folder: Path, text: str) -> Profile:
    (folder / "changed.yaml").write_text(text)
    return replace(profile, students=replace(profile.students, study=str(folder / "changed.yaml")))


@dataclass(frozen=True)
class Changed(Listed):
    """Rows as they were listed, but for a change of one table's."""

    table: str
    change: Callable[[pa.Table], pa.Table]

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        found = super().rows(table, keys, columns)
        return self.change(found) if table == self.table else found
