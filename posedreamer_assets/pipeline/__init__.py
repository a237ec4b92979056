"""What is made from what: one file for each stage, in the order of the data, and the list of them.

Neither Dagster nor Lance is imported here, and nothing heavy: a stage imports what it computes with when it is made.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import (
    body_model,
    control_checkpoint,
    control_maps,
    dataset,
    difficulty_model,
    dpo_checkpoint,
    filtered_dataset,
    hard_samples,
    pose_library,
    preference_pairs,
    quality_report,
    raw_generations,
    rendered_scenes,
    sample_scores,
)
from posedreamer_assets.pipeline.rounds import Round, rounds, rounds_of
from posedreamer_assets.pipeline.stage import POSES, Stage
from posedreamer_assets.pipeline.student_study import extras_of, sees_images
from posedreamer_assets.pipeline.studies import OF_IMAGES, STUDIES
from posedreamer_assets.tables.keys import BASE, group_of

__all__ = ["STUDIES", "Graph", "Round", "Stage", "graph", "graph_of", "round_stages", "rounds_of", "stages"]


def stages(of: tuple[Round, ...], studies: tuple[str, ...] = (), every_render: bool = True) -> tuple[Stage, ...]:
    """Every stage, in the order of the data, those of studies last; `every_render`: every pose of the library is rendered."""
    base, *hard = of
    groups = tuple(one.name for one in of)
    return (
        body_model.STAGE,
        pose_library.STAGE,
        control_maps.STAGE.of_round(BASE, *POSES),
        rendered_scenes.stage(every_render),
        control_checkpoint.STAGE,
        preference_pairs.STAGE,
        dpo_checkpoint.STAGE,
        *round_stages(base, every_render),
        *(stage for one in hard for stage in hard_stages(one)),
        dataset.release(groups),
        quality_report.stage(groups),
        *(stage for name in studies for stage in (STUDIES | OF_IMAGES)[name](of, studies)),
    )


def hard_stages(one: Round) -> tuple[Stage, ...]:
    """A round whose poses a difficulty model chooses."""
    return (
        difficulty_model.stage(one),
        hard_samples.stage(one),
        control_maps.STAGE.of_round(one.name, one.name),
        *round_stages(one),
    )


def round_stages(one: Round, every_render: bool = True) -> tuple[Stage, ...]:
    """What every round does with its poses and maps."""
    return (
        raw_generations.STAGE.of_round(one.name, one.name),
        sample_scores.stage(one.name, every_render),
        filtered_dataset.STAGE.of_round(one.name, one.name),
        dataset.STAGE.of_round(one.name, one.name),
    )


@dataclass(frozen=True)
class Graph:
    """All stages, and who writes what."""

    stages: tuple[Stage, ...]
    rounds: tuple[Round, ...]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __getitem__(self, key: str) -> Stage:
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[str, Stage]:
        return {stage.key: stage for stage in self.stages}

    @cached_property
    def _writers(self) -> dict[tuple[str, str], Stage]:
        return {(stage.table, group): stage for stage in self.stages if stage.table for group in stage.groups}

    def writer(self, table: str, key: str) -> Stage | None:
        """The stage that makes a partition of a table; None where no stage of this graph does."""
        return self._writers.get((table, group_of(key)))

    def writers(self, table: str, groups: Iterable[str]) -> list[Stage]:
        """The stages that make the partitions of these groups of a table, in the order of the graph."""
        found = {self._writers[table, group].key for group in groups if (table, group) in self._writers}
        return [stage for stage in self.stages if stage.key in found]

    def upstream(self, stage: Stage) -> list[tuple[Stage, bool]]:
        """The stages that a stage reads, and whether it reads their partition of the same key alone."""
        found: dict[str, bool] = {}
        for reads in stage.reads:
            for writer in self.writers(reads.table, reads.groups or stage.groups):
                found[writer.key] = found.get(writer.key, True) and reads.groups is None
        found |= dict.fromkeys(stage.checkpoints, False)
        return [(self[key], same) for key, same in found.items()]

    def stored_as(self, name: str) -> list[Stage]:
        """The stages whose rows go to a table, or whose checkpoint has that name."""
        return [stage for stage in self.stages if stage.stored_as == name]

    def named(self, name: str) -> list[Stage]:
        """The stages of a name, one for each round where every round has one."""
        return [stage for stage in self.stages if stage.name == name]


@lru_cache(maxsize=32)
def graph(count: int, studies: tuple[str, ...] = (), every_render: bool = True) -> Graph:
    """The graph with so many rounds, the base round included, and the stages of these studies.

    `every_render`: every pose of the library is rendered, and the base round is scored beside its renders.
    """
    found = rounds(count)
    return Graph(stages(found, studies, every_render), found)


def graph_of(profile: Profile) -> Graph:
    """The graph with the rounds and studies of a profile, what a study needs beside the rounds before it."""
    studies = (*extras_of(profile), *profile.studies)
    if sees_images(profile):
        studies = tuple("image_students" if name == "students" else name for name in studies)
    return graph(len(rounds_of(profile)), studies, profile.scenes.reference_batches is None)
