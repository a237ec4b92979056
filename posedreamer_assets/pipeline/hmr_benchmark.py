"""What the data is worth: tables, contrasts with intervals, and exchange rates from all students' scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.errors import StudentError
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage
from posedreamer_assets.pipeline.student_scores import ERRORS, OF_KEYPOINTS
from posedreamer_assets.pipeline.student_study import CONTRASTS, needed_study, student_of, study_keys
from posedreamer_assets.tables.keys import BENCH_GENERATED, BENCH_LOOKS, BENCH_USER, STUDENT
from posedreamer_assets.tables.rows import array, texts

if TYPE_CHECKING:
    from posedreamer_assets.students.compare import Difference
    from posedreamer_assets.students.recipes import Contrast

NAME = "hmr_benchmark"
FILE = "benchmark.json"
MISSED = "missed10"
"""Of images with 2D labels alone: per cent of keypoints that are not within a tenth of the box, 100 (1 - PCK@0.1)."""
_INSTEAD = ("mpjpe_mm", "body_angle_deg", MISSED)
"""What a contrast shows on a set whose labels do not have its own error: the first of them that they have."""


@dataclass(frozen=True)
class Scores:
    """Errors of all students on all test images.

    Attributes:
        by_key: rows of each student.
    """

    by_key: Mapping[str, pa.Table]

    @cached_property
    def of_sets(self) -> Mapping[tuple[str, str], pa.Table]:
        """Rows by student and test set."""
        found = {}
        for key, rows in self.by_key.items():
            names = np.array(texts(rows, "test_set"))
            found |= {(key, name): rows.filter(pa.array(names == name)) for name in self.sets}
        return found

    @cached_property
    def sets(self) -> list[str]:
        """Test sets, the third domain first."""
        first = next(iter(self.by_key.values()))
        return sorted(set(texts(first, "test_set")), key=lambda name: (name != BENCH_LOOKS, name))

    def table(self, recipe: str, test_set: str, metric: str) -> np.ndarray:
        """(s, n) errors of a recipe's students on a test set's images; students by draw and seed, images by id.

        Raises:
            StudentError: the students were scored on other images than each other.
        """
        keys = [key for key in sorted(self.by_key) if student_of(key)[0] == recipe]
        found, images = [], None
        for key in keys:
            rows = self.of_sets[key, test_set]
            own = texts(rows, "test_sample_id")
            if images is not None and own != images:
                raise StudentError(f"{key} was scored on other images of {test_set} than {keys[0]}")
            images = own
            values = array(rows, "pck10" if metric == MISSED else metric).astype(float)
            found.append(100 * (1 - values) if metric == MISSED else values)
        return np.stack(found)

    def measured(self, recipe: str, test_set: str, metric: str) -> bool:
        """Whether some image of the set has labels for that error."""
        return bool(np.isfinite(self.table(recipe, test_set, metric)).any())

    def shown(self, recipe: str, test_set: str, metric: str) -> str | None:
        """The error that a contrast by `metric` shows on a test set; None where its labels have none."""
        return next((one for one in (metric, *_INSTEAD) if self.measured(recipe, test_set, one)), None)


def make(inputs: Inputs) -> Made:
    """Cells, contrasts and exchange rates; nothing is chosen by what comes out.

    Raises:
        StudentError: students without scores, or a contrast on a test set without images.
    """
    study = needed_study(inputs.profile)
    scores = _scores(inputs)
    _check_sets(scores, (*study.primary, *study.exploratory))
    manifests = _manifests(inputs, list(scores.by_key))
    sizes = {student_of(key)[0]: len(ids) for key, ids in manifests.items()}
    found: dict[str, Any] = {
        "study": study.name,
        "seeds": study.seeds,
        "draws": study.draws,
        "recipes": {
            name: {"about": one.about, "paper": one.paper, "images": sizes[name]} for name, one in study.recipes.items()
        },
        "test_sets": {
            name: int(scores.table(next(iter(study.recipes)), name, "orient_deg").shape[1]) for name in scores.sets
        },
        "cells": _cells(scores, list(study.recipes)),
        "primary": _contrasts(scores, study.primary, inputs.profile.seed, tested=True),
        "exploratory": _contrasts(scores, study.exploratory, inputs.profile.seed, tested=False),
        "exchange": _exchange(scores, study.curve, study.exchange, sizes, inputs.profile.seed),
        "families": _families(scores, list(study.recipes)),
        "nested": int(_nested(manifests, study.curve)),
        "students": len(scores.by_key),
        "samples_seen": study.student.samples_seen,
        "init": study.student.init,
        "arch": study.student.arch,
    }
    (inputs.place / FILE).write_text(json.dumps(found, indent=2, sort_keys=True))
    return Made(figures=found)


def _scores(inputs: Inputs) -> Scores:
    """Of the students that the study asks for.

    Raises:
        StudentError: one of them is missing.
    """
    wanted = study_keys(inputs.profile)[STUDENT]
    rows = inputs.rows("student_scores")
    of_key = np.array([name.partition("/")[0] for name in texts(rows, "sample_id")])
    missing = sorted(set(wanted) - set(of_key))
    if missing:
        raise StudentError(f"{len(missing)} students of the study have no scores yet, {missing[0]} among them")
    return Scores({key: rows.filter(pa.array(of_key == key)) for key in wanted})


def _check_sets(scores: Scores, contrasts: Sequence["Contrast"]) -> None:
    for one in contrasts:
        if one.test not in scores.sets:
            setting = "test_generated" if one.test == BENCH_GENERATED else "test_renders"
            setting = "test_sets" if one.test.startswith(BENCH_USER) else setting
            raise StudentError(
                f"contrast {one.name!r} asks for test set {one.test}, which has no images; give it some "
                f"(students.{setting}), or name another set: {', '.join(scores.sets)}"
            )
        if not scores.measured(one.a, one.test, one.metric):
            raise StudentError(
                f"contrast {one.name!r}: labels of {one.test} do not tell {one.metric}; name another error"
            )


def _manifests(inputs: Inputs, keys: Sequence[str]) -> dict[str, set[str]]:
    rows = inputs.rows("training_manifests")
    found: dict[str, set[str]] = {key: set() for key in keys}
    for name, source, table in zip(
        texts(rows, "sample_id"), texts(rows, "source_sample_id"), texts(rows, "table"), strict=True
    ):
        key = name.partition("/")[0]
        if key in found:
            found[key].add(f"{table} {source}")
    return found


def _nested(manifests: Mapping[str, set[str]], curve: Sequence[str]) -> bool:
    """Whether each size of the curve holds the samples of the smaller ones of its draw."""
    for draw in {student_of(key)[1] for key in manifests}:
        one = [ids for key, ids in manifests.items() if student_of(key)[0] in curve and student_of(key)[1] == draw]
        ordered = sorted(one, key=len)
        if not all(small <= large for small, large in pairwise(ordered)):
            return False
    return True


def _cells(scores: Scores, recipes: Sequence[str]) -> dict[str, Any]:
    """Mean error with interval over seeds and images, by recipe, test set and metric."""
    from posedreamer_assets.students.compare import difference

    found: dict[str, Any] = {}
    for recipe in recipes:
        for name in scores.sets:
            for metric in (*ERRORS, *OF_KEYPOINTS):
                if not scores.measured(recipe, name, metric):
                    continue
                table = scores.table(recipe, name, metric)
                one = difference(table[:, np.isfinite(table).all(0)], resamples=1000)
                cell = {"mean": round(one.mean, 3), "ci95": [round(one.low, 3), round(one.high, 3)]}
                found.setdefault(recipe, {}).setdefault(name, {})[metric] = cell
    first = next(iter(recipes))
    found["constant"] = {
        name: {"pve_mm": {"mean": round(float(np.nanmean(scores.table(first, name, "constant_pve_mm"))), 3)}}
        for name in scores.sets
        if scores.measured(first, name, "constant_pve_mm")
    }
    found["floor"] = {
        name: {"pve_mm": {"mean": round(float(np.nanmean(scores.table(first, name, "floor_pve_mm"))), 3)}}
        for name in scores.sets
        if scores.measured(first, name, "floor_pve_mm")
    }
    return found


def _contrasts(scores: Scores, contrasts: Sequence["Contrast"], seed: int, *, tested: bool) -> list[dict[str, Any]]:
    """Each contrast on its own test set and, beside it, on every other one: a set shares its domain with some recipe.

    Where they are tested, what is claimed on the own test set follows from p after Holm's correction over all of them; on
    other sets, and of other contrasts, nothing is corrected, and the words say so.
    """
    from posedreamer_assets.metrics.group_rates import holm
    from posedreamer_assets.students.compare import difference

    results = []
    for one in contrasts:
        of_sets = {}
        for name in dict.fromkeys([one.test, *scores.sets]):
            metric = scores.shown(one.a, name, one.metric)
            if metric is not None:
                apart = scores.table(one.a, name, metric) - scores.table(one.b, name, metric)
                of_sets[name] = (metric, difference(apart[:, np.isfinite(apart).all(0)], seed))
        results.append(of_sets)
    own = [of[one.test][1].p for one, of in zip(contrasts, results, strict=True)]
    adjusted: list[float | None] = [float(p) for p in holm(np.array(own))] if tested and own else [None] * len(own)
    return [_contrast(*of) for of in zip(contrasts, results, adjusted, strict=True)]


def _contrast(one: "Contrast", by_set: Mapping[str, tuple[str, "Difference"]], p_holm: float | None) -> dict[str, Any]:
    from posedreamer_assets.students.compare import in_words, is_told

    sets = {}
    for name, (metric, result) in by_set.items():
        p = p_holm if name == one.test else None
        words = in_words(result, p, unit_of(metric))
        numbers = {k: round(v, 4) for k, v in asdict(result).items()}
        told = {"words": words, "told": is_told(result, p), "corrected": p is not None}
        sets[name] = {"metric": metric, **numbers, **told}
    return {**asdict(one), "sets": sets, **({} if p_holm is None else {"p_holm": round(p_holm, 5)})}


def unit_of(metric: str) -> str:
    """Of an error, by its name."""
    return "mm" if metric.endswith("_mm") else "degrees" if metric.endswith("_deg") else "% of keypoints"


def _exchange(
    scores: Scores, curve: Sequence[str], recipes: Sequence[str], sizes: Mapping[str, int], seed: int
) -> dict[str, Any]:
    from posedreamer_assets.students.curves import exchange_rate

    if len({sizes[name] for name in curve}) < 2:
        return {}
    return {
        recipe: {
            name: {
                k: v if isinstance(v, bool) else round(v, 4)
                for k, v in asdict(
                    exchange_rate(
                        {sizes[one]: scores.table(one, name, "pve_mm") for one in curve},
                        scores.table(recipe, name, "pve_mm"),
                        sizes[recipe],
                        seed,
                    )
                ).items()
            }
            for name in scores.sets
            if np.isfinite(scores.table(recipe, name, "pve_mm")).all()
        }
        for recipe in recipes
    }


def _families(scores: Scores, recipes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean error by recipe and family on the first test set."""
    found: dict[str, dict[str, float]] = {}
    for key in scores.by_key:
        of_set = scores.of_sets[key, scores.sets[0]]
        values = array(of_set, "pve_mm").astype(float)
        families = np.array(texts(of_set, "family"))
        for family in sorted(set(families)):
            own = found.setdefault(student_of(key)[0], {})
            own[family] = own.get(family, 0.0) + float(values[families == family].mean())
    counts = {name: sum(student_of(key)[0] == name for key in scores.by_key) for name in recipes}
    return {name: {f: round(v / counts[name], 2) for f, v in of.items()} for name, of in found.items()}


STAGE = Stage(
    NAME,
    "One set of tables: errors of each recipe's students with intervals, predeclared contrasts with the smallest difference that "
    "would be seen, and how many rendered images one image is worth.",
    make,
    "3",
    settings=(CONTRASTS,),
    reads=(
        Reads(
            "student_scores",
            ("test_sample_id", "test_set", "family", *ERRORS, *OF_KEYPOINTS, "floor_pve_mm", "constant_pve_mm"),
            (STUDENT,),
        ),
        Reads("training_manifests", ("source_sample_id", "table"), (STUDENT,)),
    ),
    ui_group="students",
    kinds=frozenset(("scipy",)),
    starts="request",
)
