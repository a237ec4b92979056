"""The study's tables: what each arm finds in test photographs and held-out scenes, with intervals over images and seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.config import BASELINE, CONTRASTS, PAPER, arm_called
from posedreamer_assets.config.arms import is_tested_on_scenes
from posedreamer_assets.errors import StudentError
from posedreamer_assets.pipeline import annotated_photos, photo_people, pose2d_predictions, scene_images, scene_people
from posedreamer_assets.pipeline.arm_samples import LABELS_OF_SCENE, TEST, people_of_scenes
from posedreamer_assets.pipeline.arm_study import TRAINED, arm_key
from posedreamer_assets.pipeline.stage import Inputs, Made, Reads, Stage
from posedreamer_assets.tables.keys import PHOTO, SCENE_TEST, image_of
from posedreamer_assets.tables.rows import array, texts

if TYPE_CHECKING:
    from posedreamer_assets.metrics.arm_tables import Draws, Interval, Judgement
    from posedreamer_assets.metrics.mpii_ap import Annotated, Predicted

KEY = "pose2d_report"
FILE = "report.json"
MAP = "mean"
SEEDS_ASKED = (3, 6, 12)
_OF_PERSON = ("mpii_2d", "mpii_labelled", "mpii_visible", "head_size_px", "bbox", photo_people.GROUP)


@dataclass(frozen=True)
class Truth:
    """Who is annotated in a test photograph, or to be found in a held-out scene.

    Attributes:
        people: those whose heads have a size; of groups alone, where there are groups.
        seen: share of annotated joints of each that is seen.
        ignored: pixels (h, w) of all others; people who are found there count neither for nor against a network.
    """

    people: "Annotated"
    seen: np.ndarray
    ignored: np.ndarray


def make(inputs: Inputs) -> Made:
    """All tables; nothing is chosen by what comes out.

    Raises:
        StudentError: an arm without predictions, or no annotated person in any test photograph.
    """
    from posedreamer_assets.metrics.arm_tables import draw

    asked = inputs.profile.learning_to_train
    truths, scenes = truths_of(inputs), truths_of_scenes(inputs)
    draws = draw(len(truths), asked.seeds, asked.bootstrap, inputs.profile.seed)
    arms = (BASELINE, *asked.arms)
    networks = _judgements(inputs, arms, "photo_id", truths)
    tables = {arm: _precisions(of, draws) for arm, of in networks.items()}
    people = _people_in(truths)
    found = {
        "kind": texts(inputs.rows(annotated_photos.TABLE, ["kind"]), "kind")[0],
        "photos": len(truths),
        "people": people,
        "groups": groups_in(truths.values()),
        "seeds": asked.seeds,
        "steps": inputs.profile.pose2d.steps,
        "resamples": asked.bootstrap,
        "arms": {arm: _arm(arm, table, tables, draws) for arm, table in tables.items()},
        "contrasts": _contrasts(tables, draws, people),
        "seen": _seen(networks, list(truths.values()), draws),
        "scenes": {"scenes": len(scenes), "people": _people_in(scenes), "arms": _on_scenes(inputs, arms, scenes)},
    }
    (inputs.place / FILE).write_text(json.dumps(found, indent=2, sort_keys=True, allow_nan=False))
    return Made(figures=found)


def _judgements(
    inputs: Inputs, arms: Sequence[str], column: str, truths: Mapping[str, Truth]
) -> "dict[str, list[Judgement]]":
    """By arm and seed, what its networks find in images, which a column of the predictions names."""
    from posedreamer_assets.metrics.arm_tables import judged

    return {
        arm: [
            judged([(one.people, without_ignored(p, one.ignored)) for one, p in zip(truths.values(), of, strict=True)])
            for of in found
        ]
        for arm, found in predictions_of(inputs, arms, column, list(truths)).items()
    }


def _on_scenes(inputs: Inputs, arms: Sequence[str], scenes: Mapping[str, Truth]) -> dict[str, Any]:
    """Cells and differences of the arms that look at held-out scenes: resampled by scene, apart from photographs."""
    from posedreamer_assets.metrics.arm_tables import draw

    asked = inputs.profile.learning_to_train
    draws = draw(len(scenes), asked.seeds, asked.bootstrap, inputs.profile.seed)
    looking = [arm for arm in arms if is_tested_on_scenes(arm_called(arm))]
    networks = _judgements(inputs, looking, "scene_id", scenes)
    tables = {arm: _precisions(of, draws) for arm, of in networks.items()}
    return {
        arm: {name: value for name, value in _arm(arm, table, tables, draws).items() if name in ("cells", "minus")}
        for arm, table in tables.items()
    }


def _people_in(truths: Mapping[str, Truth]) -> int:
    return sum(len(one.seen) for one in truths.values())


def truths_of_scenes(inputs: Inputs) -> dict[str, Truth]:
    """By held-out scene, who is to be found: people of whom a joint is seen. Their joints in the image count, hidden ones too, as
    in photographs; pixels of all others count for nobody.
    """
    from posedreamer_assets.metrics.mpii_ap import Annotated
    from posedreamer_assets.tables.images import decode

    people, found = people_of_scenes(inputs.rows(scene_people.TABLE)), {}
    images = inputs.rows(scene_images.TABLE, ["instances"])
    for name, file in zip(texts(images, "sample_id"), images.column("instances"), strict=True):
        own = people[name]
        counted = own.more["seen"] & own.known.any(axis=1) & (np.nan_to_num(own.head_px) > 0)
        of = own.take(counted)
        seen = (of.more["visible"] & of.known).sum(axis=1) / np.maximum(of.known.sum(axis=1), 1)
        ignored = np.isin(decode(file.as_py()), own.more["person"][~counted] + 1)
        found[name] = Truth(Annotated(of.joints, of.known, of.head_px), seen, ignored)
    return found


def truths_of(inputs: Inputs) -> dict[str, Truth]:
    """By test photograph, who is annotated in it.

    Raises:
        StudentError: nobody is, in any of them.
    """
    from posedreamer_assets.metrics.mpii_ap import Annotated
    from posedreamer_assets.tables.images import decode

    photos = inputs.rows(annotated_photos.TABLE, ["split", "ignore_mask"])
    rows = inputs.rows(photo_people.TABLE, _OF_PERSON)
    numbers: dict[str, list[int]] = {}
    for row, name in enumerate(texts(rows, "sample_id")):
        numbers.setdefault(image_of(name), []).append(row)
    joints = array(rows, "mpii_2d").astype(float).reshape(-1, 16, 2)
    known, seen = array(rows, "mpii_labelled").astype(bool), array(rows, "mpii_visible").astype(bool)
    head, boxes = np.nan_to_num(np.asarray(array(rows, "head_size_px"), float)), array(rows, "bbox")
    groups, found = photo_people.groups_of(rows), {}
    for name, split, mask in zip(
        texts(photos, "sample_id"), texts(photos, "split"), photos.column("ignore_mask"), strict=True
    ):
        if split != TEST:
            continue
        own, group = np.array(numbers.get(name, []), int), groups.get(name)
        if group is not None:
            own, group = own[group >= 0], group[group >= 0]
        counted = own[(head[own] > 0) & known[own].any(axis=1)]
        ignored = decode(mask.as_py()) > 0
        for row in sorted({*own.tolist()} - {*counted.tolist()}):
            x, y, w, h = (round(float(v)) for v in boxes[row])
            ignored = ignored | _box(ignored.shape, x, y, w, h)
        ratio = (seen[counted] & known[counted]).sum(axis=1) / np.maximum(known[counted].sum(axis=1), 1)
        of_group = None if group is None else group[np.isin(own, counted)]
        found[name] = Truth(Annotated(joints[counted], known[counted], head[counted], of_group), ratio, ignored)
    if not sum(len(one.seen) for one in found.values()):
        raise StudentError(
            "nobody is annotated in a photograph of the split test: make more, or raise photos.test_share"
        )
    return found


def groups_in(truths: Iterable[Truth]) -> int | None:
    """How many groups of people are judged; None where whole photographs are."""
    groups = [one.people.group for one in truths if one.people.group is not None]
    return sum(len(np.unique(of)) for of in groups) if groups else None


def _box(shape: tuple[int, ...], x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)] = True
    return mask


def without_ignored(found: "Predicted", ignored: np.ndarray) -> "Predicted":
    """The people found, but for those with more than half of their joints on pixels of people who are not annotated."""
    height, width = ignored.shape
    x = np.clip(np.floor(found.joints[..., 0]).astype(int), 0, width - 1)
    y = np.clip(np.floor(found.joints[..., 1]).astype(int), 0, height - 1)
    inside = (ignored[y, x] & found.found).sum(axis=1)
    return found.take(2 * inside <= found.found.sum(axis=1))


def predictions_of(
    inputs: Inputs, arms: Sequence[str], column: str, images: Sequence[str]
) -> "dict[str, list[list[Predicted]]]":
    """By arm and seed, the people found in each image, which a column names: photo_id or scene_id.

    Raises:
        StudentError: an arm of the study has no predictions of an image.
    """
    asked, columns = inputs.profile.learning_to_train, (column, *pose2d_predictions.FOUND)
    there = inputs.keys(pose2d_predictions.TABLE)
    wanted = {arm: [arm_key(arm, seed) for seed in range(1 if arm == BASELINE else asked.seeds)] for arm in arms}
    if missing := [key for keys in wanted.values() for key in keys if key not in there]:
        raise StudentError(f"{len(missing)} networks of the study have found nobody yet, {missing[0]} among them")
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in inputs.rows(pose2d_predictions.TABLE, columns).to_pylist():
        rows.setdefault(row["sample_id"].partition("/")[0], {})[row[column]] = row
    found = {}
    for arm, keys in wanted.items():
        for key in keys:
            if lacking := [image for image in images if image not in rows[key]]:
                raise StudentError(f"{key} has not looked at {lacking[0]}; make its predictions again")
        found[arm] = [[pose2d_predictions.predicted_of(rows[key][image]) for image in images] for key in keys]
    return found


def _precisions(networks: "Sequence[Judgement]", draws: "Draws") -> np.ndarray:
    """(s, q, 8) of an arm's networks; the baseline, which is one, is the same for every seed."""
    from posedreamer_assets.metrics.arm_tables import precisions

    found = np.stack([precisions(one.rankings(), draws.with_all) for one in networks])
    return np.repeat(found, draws.seeds.shape[1] // len(found), axis=0)


def _arm(arm: str, table: np.ndarray, tables: Mapping[str, np.ndarray], draws: "Draws") -> dict[str, Any]:
    from posedreamer_assets.metrics.arm_tables import COLUMNS, interval

    of = arm_called(arm)
    cells = {name: _share(interval(table[..., k], draws)) for k, name in enumerate(COLUMNS)}
    against = {
        other: _cell(interval(table[..., -1] - tables[other][..., -1], draws))
        for other in ("real", BASELINE)
        if other in tables and other != arm
    }
    return {"about": of.about, "table": of.table, "cells": cells, "minus": against, "paper": PAPER.get(arm)}


def _cell(found: "Interval") -> dict[str, Any]:
    names = ("mean", "low", "high")
    values = {name: float(getattr(found, name)) for name in names}
    if not all(np.isfinite(list(values.values()))):
        return {**dict.fromkeys(names), "told": False}
    return {**{name: round(value, 4) for name, value in values.items()}, "told": found.told}


def _share(found: "Interval") -> dict[str, Any]:
    """A figure in per cent, whose interval ends where no figure can lie beyond."""
    return _cell(replace(found, low=max(0.0, found.low), high=min(100.0, found.high)))


def _contrasts(tables: Mapping[str, np.ndarray], draws: "Draws", people: int) -> list[dict[str, Any]]:
    """Two arms each, and what would tell the paper's difference from zero."""
    from posedreamer_assets.metrics.arm_power import spread_of
    from posedreamer_assets.metrics.arm_tables import interval

    found = []
    for one in CONTRASTS:
        if one.a not in tables or one.b not in tables:
            continue
        difference = tables[one.a][..., -1] - tables[one.b][..., -1]
        spread, seeds = spread_of(difference, people), len(difference)
        line = {"a": one.a, "b": one.b, "paper": one.paper, "minus": _cell(interval(difference, draws))}
        line["detectable"] = _number(spread.detectable(people, seeds))
        line["spread"] = {name: _number(getattr(spread, name)) for name in ("photos", "seeds", "rest")}
        if one.paper and line["detectable"] is not None:
            line["people_needed"] = {str(k): spread.people_for(one.paper, k) for k in SEEDS_ASKED}
        found.append(line)
    return found


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _seen(
    networks: "Mapping[str, Sequence[Judgement]]", truths: Sequence[Truth], draws: "Draws"
) -> list[dict[str, Any]]:
    """Precision and recall of people by the share of their joints that is seen."""
    from posedreamer_assets.metrics.arm_tables import BINS, interval, precisions, seen_bins, weighted_recall

    bins, found = [seen_bins(one.seen) for one in truths], []
    for number in range(BINS):
        among = [of == number for of in bins]
        line: dict[str, Any] = {"from": number / BINS, "people": int(sum(of.sum() for of in among)), "arms": {}}
        for arm, judgements in networks.items():
            if not line["people"]:
                continue
            rankings = [one.rankings(among) for one in judgements]
            times = draws.seeds.shape[1] // len(rankings)
            ap = np.repeat(np.stack([precisions(of, draws.with_all)[:, -1] for of in rankings]), times, axis=0)
            recall = np.repeat(np.stack([weighted_recall(of, draws.with_all) for of in rankings]), times, axis=0)
            line["arms"][arm] = {"map": _share(interval(ap, draws)), "recall": _share(interval(recall, draws))}
        found.append(line)
    return found


STAGE = Stage(
    KEY,
    "One set of tables: average precision by arm and group of joints with intervals over photographs and training seeds, paired "
    "differences, the same by share of joints seen and, of some arms, on held-out scenes, and how many people and seeds would "
    "tell the paper's differences.",
    make,
    "2",
    settings=("learning_to_train.arms", "learning_to_train.seeds", "learning_to_train.bootstrap"),
    reads=(
        Reads(pose2d_predictions.TABLE, ("photo_id", "scene_id", *pose2d_predictions.FOUND), TRAINED),
        Reads(annotated_photos.TABLE, ("split", "kind", "ignore_mask"), (PHOTO,)),
        Reads(photo_people.TABLE, _OF_PERSON, (PHOTO,)),
        Reads(scene_images.TABLE, ("instances",), (SCENE_TEST,)),
        Reads(scene_people.TABLE, LABELS_OF_SCENE, (SCENE_TEST,)),
    ),
    ui_group="arms",
    kinds=frozenset(("scipy",)),
    starts="request",
)
