"""The report's section on what the study `learning_to_train` trains: tables with intervals, and people before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posedreamer_assets.config import ARM_STUDY, BASELINE, arm_names
from posedreamer_assets.metrics.mpii_ap import GROUPS
from posedreamer_assets.pipeline.arm_study import arm_key
from posedreamer_assets.report import arm_plots
from posedreamer_assets.report.html import Cell, Note, PanelRow, Panels, Plots, Section, Table
from posedreamer_assets.report.reading import result_of, rows_of, spread
from posedreamer_assets.report.scenes import with_joints
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.scenes.points import MPII16
from posedreamer_assets.tables.images import decode_rgb

TITLES = {1: "Table 1: scenes of synthetic people", 2: "Table 2: people over photographs", 3: "Table 3: the teacher"}
STAND_IN, PHOTOGRAPHS = "Simulated study", "Study on photographs"
FEWEST = 30
"""People of a bin below which it is marked."""
_SHOWN = 4
_KEY = "pose2d_report"
_INTRO = (
    "All networks start from one baseline and are trained for equal steps; half of what they draw comes from each source. In "
    "brackets: 95 % over test photographs and training seeds, drawn together and the same for all arms, never narrower than the "
    "t interval of the seeds."
)
_NOT_REAL = (
    "What stands in for photographs is rendered, a domain held apart from the scenes. These tables say which synthetic data "
    "carries over to that stand-in. They say nothing of photographs, and the paper's figures beside them are of photographs."
)


def arms_section(snapshot: Snapshot) -> Section | None:
    """The section; None where the study was not asked for, trains nothing, or is not finished."""
    if ARM_STUDY not in snapshot.profile.studies:
        return None
    found = result_of(snapshot, _KEY)
    if found is None:
        return None
    return Section(
        title_of(found.metrics), [*tables_of(found.metrics), *_teachers(snapshot), *_examples(snapshot)], _INTRO
    )


def title_of(figures: Mapping[str, Any]) -> str:
    """What the study may call itself."""
    return STAND_IN if figures["kind"] == "stand_in" else PHOTOGRAPHS


def tables_of(figures: Mapping[str, Any]) -> list[Any]:
    """The tables, what is told apart, and precision by what is seen of people."""
    blocks: list[Any] = []
    if figures["kind"] == "stand_in":
        blocks.append(Note(_NOT_REAL, "warn"))
    what = "stand-ins" if figures["kind"] == "stand_in" else "photographs"
    groups = f" in {figures['groups']} groups" if figures["groups"] else ""
    size = f"{figures['people']} people{groups} of {figures['photos']} test {what}, {figures['seeds']} training seeds"
    blocks.append(Note(f"{size}, {figures['steps']} steps of each network after the baseline's own."))
    if figures["seeds"] < 2:
        blocks.append(Note("One training seed: intervals say nothing of what another training would give.", "warn"))
    for number in TITLES:
        if _arms_of(figures, number):
            blocks += [_table(figures, number), *(_on_scenes(figures) if number == 1 else [])]
    return [*blocks, *_contrasts(figures), *_seen(figures)]


def _arms_of(figures: Mapping[str, Any], table: int) -> list[str]:
    return [name for name in arm_names() if name in figures["arms"] and figures["arms"][name]["table"] == table]


def _table(figures: Mapping[str, Any], number: int) -> Table:
    """Baseline and photographs first, then the arms of the table."""
    shown = {BASELINE, "real", "real-ds", *_arms_of(figures, number)}
    rows = []
    for name in _in_order(figures["arms"]):
        if name in shown:
            of = figures["arms"][name]
            paper = "" if of["paper"] is None else f"{of['paper']:.1f}"
            rows.append([Cell(name, of["about"]), *_cells_of(of), paper])
    heads = ("arm", *GROUPS, "mAP", "minus real", "paper")
    return Table(heads, rows, TITLES[number], "Average precision in per cent; paper: mAP, where it is known here.")


def _on_scenes(figures: Mapping[str, Any]) -> list[Table]:
    """What some arms find in scenes that nothing was trained on."""
    found = figures["scenes"]["arms"]
    if not found:
        return []
    rows = [[Cell(name, figures["arms"][name]["about"]), *_cells_of(found[name])] for name in _in_order(found)]
    caption = (
        f"{figures['scenes']['people']} people of {figures['scenes']['scenes']} scenes that nothing was trained on, made as "
        "those that arms with scenes are trained on."
    )
    return [Table(("arm", *GROUPS, "mAP", "minus real"), rows, "The same networks on scenes", caption)]


def _in_order(arms: Mapping[str, Any]) -> list[str]:
    return [name for name in (BASELINE, *arm_names()) if name in arms]


def _cells_of(arm: Mapping[str, Any]) -> list[Cell]:
    """Precision of groups of joints, their mean, and its difference to photographs alone."""
    return [*(_cell(arm["cells"][column]) for column in (*GROUPS, "mean")), _signed(arm["minus"].get("real"))]


def _cell(cell: Mapping[str, Any]) -> Cell:
    if cell["mean"] is None:
        return Cell("–", "nobody is annotated")
    return Cell(f"{cell['mean']:.1f}", f"[{cell['low']:.1f}, {cell['high']:.1f}]")


def _signed(cell: Mapping[str, Any] | None) -> Cell:
    if cell is None or cell["mean"] is None:
        return Cell("")
    return Cell(f"{round(cell['mean'], 1) + 0.0:+.1f}", f"[{cell['low']:+.1f}, {cell['high']:+.1f}]")


def _contrasts(figures: Mapping[str, Any]) -> list[Any]:
    lines = figures["contrasts"]
    if not lines:
        return []
    rows, shown = [], {}
    for one in lines:
        name, minus = f"{one['a']} - {one['b']}", one["minus"]
        paper = "" if one["paper"] is None else f"{one['paper']:+.1f}"
        needed = one.get("people_needed", {})
        rows.append(
            [name, _signed(minus), "yes" if minus["told"] else "no", _plain(one["detectable"]), paper, _people(needed)]
        )
        if minus["mean"] is not None and one["detectable"] is not None:
            shown[name] = {**minus, "detectable": one["detectable"], "corrected": False}
    caption = (
        "Differences of mAP, points, without correction for their number. Smallest seen: what four of five such studies would "
        "tell from zero. Last column: how many people would tell the paper's difference in four of five studies with so many "
        "seeds, from the spread that was measured here; a dash where seeds alone differ by more."
    )
    heads = ("difference", "mAP", "told from zero", "smallest seen", "paper", "people for the paper's, by seeds")
    forest = [Plots([arm_plots.differences(shown)])] if shown else []
    return [*forest, Table(heads, rows, "What is told apart", caption)]


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _people(needed: Mapping[str, int | None]) -> str:
    parts = [
        f"{seeds}: {'–' if people is None else f'{people:,}'}"
        for seeds, people in sorted(needed.items(), key=lambda item: int(item[0]))
    ]
    return "; ".join(parts)


def _seen(figures: Mapping[str, Any]) -> list[Any]:
    """Figure 6."""
    bins = [one for one in figures["seen"] if one["people"]]
    if not bins:
        return []
    width = 1 / len(figures["seen"])
    names = [f"{one['from']:.0%} to {one['from'] + width:.0%}" for one in figures["seen"]]
    counts = [one["people"] for one in figures["seen"]]
    drawn = [
        arm_plots.by_seen(names, counts, _lines(figures, which), FEWEST, title, label)
        for which, title, label in (
            ("map", "Precision by what is seen", "mAP"),
            ("recall", "Recall by what is seen", "joints found, %"),
        )
    ]
    return [Plots(drawn)]


def _lines(figures: Mapping[str, Any], which: str) -> dict[str, list[Mapping[str, Any] | None]]:
    """By arm, its cell of each bin; the arms of a plot are few enough to be told apart."""
    arms = [name for name in (BASELINE, "real", "real-ds", "real-style-masks", "teacher-c") if name in figures["arms"]]
    arms = (
        arms
        if len(arms) > 2
        else [name for name in (BASELINE, *arm_names()) if name in figures["arms"]][: len(arm_plots.SERIES)]
    )
    return {name: [one["arms"].get(name, {}).get(which) for one in figures["seen"]] for name in arms}


def _teachers(snapshot: Snapshot) -> list[Any]:
    """Probabilities of groups over training, of the first seed of each arm that has groups."""
    columns = ["arm", "training_seed", "window", "probabilities", "edges"]
    rows = rows_of(snapshot, snapshot.graph["teacher_log"], columns)
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist() if rows is not None else ():
        if row["training_seed"] == 0 and row["arm"] in snapshot.profile.learning_to_train.arms:
            by_arm.setdefault(row["arm"], []).append(row)
    drawn = [arm_plots.teacher(arm, sorted(of, key=lambda row: row["window"])) for arm, of in by_arm.items()]
    return [Plots(drawn)] if drawn else []


def _examples(snapshot: Snapshot) -> list[Any]:
    """Test photographs with what is annotated, what the baseline finds and what arms find."""
    profile, store = snapshot.profile, snapshot.store
    arms = [BASELINE, *profile.learning_to_train.arms]
    shown = [arm for arm in (BASELINE, "real", "ds", "real-ds", "real-style-masks", "teacher-c") if arm in arms] or arms
    keys = {arm: arm_key(arm, 0) for arm in shown[:4]}
    stage = snapshot.graph["pose2d_predictions"]
    if any(not snapshot.is_current(stage, key) for key in keys.values()):
        return []
    rows = store.read("pose2d_predictions", [*keys.values()]).to_pylist()
    found = {(row["arm"], row["photo_id"]): row for row in rows if row["photo_id"] is not None}
    names = sorted({photo for _, photo in found})
    chosen = [names[int(i)] for i in spread(len(names), _SHOWN)]
    photos = store.take("annotated_photos", chosen, columns=["sample_id", "image"]).to_pylist()
    people = rows_of(snapshot, snapshot.graph["photos/photo_people"], _OF_PERSON)
    by_photo: dict[str, list[dict[str, Any]]] = {}
    for row in people.to_pylist() if people is not None else ():
        by_photo.setdefault(row["image_id"], []).append(row)
    panels = [_panel(row, by_photo.get(row["sample_id"], []), found, keys) for row in photos]
    what = "stand-ins" if profile.photos.kind == "stand_in" else "photographs"
    caption = (
        "First who is annotated, and what covers them; then who is found: before training on (baseline) and after, one training "
        "seed of each arm. Filled: a joint that is seen, or found; hollow: one that is hidden."
    )
    return [Panels(panels, f"Test {what}, before and after", caption)]


_OF_PERSON = ["image_id", "person", "mpii_2d", "mpii_labelled", "mpii_visible", "person_mask"]


def _panel(
    photo: Mapping[str, Any],
    people: Sequence[Mapping[str, Any]],
    found: Mapping[tuple[str, str], Mapping[str, Any]],
    arms: Mapping[str, str],
) -> PanelRow:
    image = decode_rgb(photo["image"])
    annotated = [{**person, "origin": "synthetic"} for person in people]  # each in a colour of its own
    pictures = {"annotated": with_joints(image, _instances(people, image.shape[:2]), annotated)}
    for arm in arms:
        pictures[arm] = with_found(image, found[arm, photo["sample_id"]])
    return PanelRow(pictures, photo["sample_id"], {"people": len(people)})


def _instances(people: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> np.ndarray:
    import json

    from posedreamer_assets.scenes.rle import decode_rle

    found = np.zeros(shape, np.uint8)
    for person in people:
        if person["person_mask"]:
            found[decode_rle(json.loads(person["person_mask"]))] = person["person"] + 1
    return found


def with_found(image: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
    """The image with the people of a row of predictions."""
    joints = np.array(row["found_2d"], float).reshape(-1, len(MPII16), 2)
    there = np.array(row["found_joints"], bool).reshape(-1, len(MPII16))
    people = [
        {"person": k, "origin": "synthetic", "mpii_2d": of.ravel(), "mpii_labelled": known, "mpii_visible": known}
        for k, (of, known) in enumerate(zip(joints, there, strict=True))
    ]
    return with_joints(image, np.zeros(image.shape[:2], np.uint8), people)
