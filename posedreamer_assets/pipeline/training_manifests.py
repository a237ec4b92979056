"""Which samples a student is trained on: decided on ids alone, before anything is trained."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import RecipeError
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of
from posedreamer_assets.pipeline.student_study import RECIPE, needed_study, student_of
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import BASE, DOMAIN, STUDENT, TESTED, sample_id, source_of
from posedreamer_assets.tables.rows import make_table, texts

if TYPE_CHECKING:
    from posedreamer_assets.students.manifests import Candidate

TABLE = "training_manifests"
_UNALIGNED = "unaligned_generations"
_OF_POSE = ("family", "source", "provenance")
_OF_VERDICT = ("partition_key", "keep", "image_digest", "round", "oks", "render_oks", *_OF_POSE)


def make(inputs: Inputs) -> Made:
    """The samples of a recipe's draw; the seeds of a draw have the same ones."""
    from posedreamer_assets.students.manifests import check_curve, leaks, resolve

    study = needed_study(inputs.profile)
    recipe, draw, _ = student_of(inputs.key)
    candidates, most = _candidates(inputs), inputs.profile.students.images
    if recipe in study.curve:
        check_curve(study, candidates, draw, most)
    picks = resolve(study, recipe, candidates, draw, most)
    leaked = leaks(picks, _test_poses(inputs))
    if leaked:
        raise RecipeError(f"recipe {recipe!r} takes {len(leaked)} samples that are tested on, {leaked[0]} among them")
    columns: dict[str, Any] = {
        "sample_id": [sample_id(inputs.key, i) for i in range(len(picks))],
        "partition_key": [inputs.key] * len(picks),
        "recipe": [recipe] * len(picks),
        "draw": [draw] * len(picks),
        "table": [pick.candidate.table for pick in picks],
        "source_sample_id": [pick.candidate.sample_id for pick in picks],
        "source_digest": [pick.candidate.row_digest for pick in picks],
        "pose_group": [pick.candidate.pose_group for pick in picks],
        "family": [pick.candidate.family for pick in picks],
        "component": [pick.component for pick in picks],
        "asked": [len(picks)] * len(picks),
    }
    return Made(make_table(columns, SCHEMAS[TABLE]))


def _candidates(inputs: Inputs) -> "list[Candidate]":
    """Every image that may be trained on: renders of the base round, images of all rounds and domains, and unaligned ones."""
    from posedreamer_assets.poses.splits import pose_group
    from posedreamer_assets.students.manifests import Candidate

    poses = inputs.rows("pose_library", _OF_POSE)
    of_pose = dict(zip(texts(poses, "sample_id"), zip(*(texts(poses, n) for n in _OF_POSE), strict=True), strict=True))
    renders = inputs.rows("rendered_scenes", ("row_digest",))
    found = []
    for name, row_digest in zip(texts(renders, "sample_id"), texts(renders, "row_digest"), strict=True):
        family, source, provenance = of_pose[name]
        found.append(Candidate("rendered_scenes", name, row_digest, pose_group(provenance), family, source, BASE))
    for row in inputs.rows("filtered_dataset").to_pylist():
        family, source, provenance = (row[name] for name in _OF_POSE)
        oks, render_oks = (math.nan if row[name] is None else row[name] for name in ("oks", "render_oks"))
        group = pose_group(provenance)
        round_ = source_of(row["partition_key"]) if row["round"] == DOMAIN else row["round"]
        painted = (row["image_digest"], group, family, source, round_, bool(row["keep"]), oks, render_oks)
        found.append(Candidate("raw_generations", row["sample_id"], *painted))
    if any(reads.table == _UNALIGNED for reads in inputs.stage.reads):
        for row in inputs.rows(_UNALIGNED).to_pylist():
            family, source, provenance = of_pose[row["sample_id"]]
            oks, render_oks = (math.nan if row[name] is None else row[name] for name in ("oks", "render_oks"))
            judged = (bool(row["keep"]), oks, render_oks)
            of_image = (row["row_digest"], pose_group(provenance), family, source, BASE)
            found.append(Candidate(_UNALIGNED, row["sample_id"], *of_image, *judged))
    return found


def _test_poses(inputs: Inputs) -> dict[str, str]:
    """Pose group by row digest of every test image."""
    tests = inputs.rows("benchmark_images")
    return dict(zip(texts(tests, "row_digest"), texts(tests, "pose_group"), strict=True))


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many samples there are, of how many families."""
    families = Counter(texts(rows, "family"))
    share = np.array(list(families.values())) / max(1, rows.num_rows)
    return {
        "samples": rows.num_rows,
        "generated_samples": texts(rows, "table").count("raw_generations"),
        "families": len(families),
        "family_evenness": round(float(-(share * np.log(share)).sum() / np.log(max(2, len(families)))), 4),
    }


def origins(profile: Profile) -> Origins:
    """Digests are those of the images."""
    digests = (*all_of("filtered_dataset", "image_digest"), *all_of("rendered_scenes", "row_digest"))
    return {
        "source_digest": digests,
        "family": (*all_of("pose_library", "family"), *all_of("filtered_dataset", "family")),
        "pose_group": (*all_of("pose_library", "provenance"), *all_of("filtered_dataset", "provenance")),
    }


def origins_with_unaligned(profile: Profile) -> Origins:
    """Where a recipe takes images without alignment."""
    found = origins(profile)
    return {**found, "source_digest": (*found["source_digest"], *all_of(_UNALIGNED, "row_digest"))}


def stage(groups: tuple[str, ...], unaligned: bool = False) -> Stage:
    """Recipes draw from what these rounds made, and from images without alignment where one of them takes some."""
    without = (Reads(_UNALIGNED, ("row_digest", "keep", "oks", "render_oks"), (BASE,)),) if unaligned else ()
    return Stage(
        TABLE,
        "One row per sample that a student is trained on, by table, id and digest; no image is copied. Samples of a draw are "
        "nested by size, and none shows a test pose.",
        make,
        "2",
        table=TABLE,
        groups=(STUDENT,),
        settings=(RECIPE, "students.images"),
        reads=(
            Reads("pose_library", _OF_POSE, (BASE,)),
            Reads("rendered_scenes", ("row_digest",), (BASE,)),
            Reads("filtered_dataset", _OF_VERDICT, groups),
            *without,
            Reads("benchmark_images", ("row_digest", "pose_group"), TESTED),
        ),
        seeded=False,
        origins=origins_with_unaligned if unaligned else origins,
        figures=figures,
        ui_group="students",
        kinds=frozenset(("lance",)),
        one_core=True,
        starts="request",
    )
