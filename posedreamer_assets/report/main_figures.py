"""The table at the end of a run: its main figures, in the terminal and in the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

Line = tuple[str, str, str]


def main_figures(figures: Mapping[str, Any]) -> list[Line]:
    """Label, value and note of each figure that there is."""
    parts = (_counts, _students, _crowds, _arms, _rounds, _alignment, _hard_rounds, _quality, _judges)
    return [line for part in parts for line in part(figures)]


def _counts(figures: Mapping[str, Any]) -> Iterator[Line]:
    if poses := figures["poses"]:  # none where a study alone was asked for
        yield "poses", str(poses), ""
        yield "images made", str(figures["images_made"]), ""
        share = figures["kept"] / max(1, figures["images_made"])
        yield "kept", str(figures["kept"]), f"{share:.0%} of {figures['images_made']}"
    for what, key in (("rejected", "rejected"), ("not readable", "quarantined")):
        for reason, count in sorted(figures.get(key, {}).items()):
            yield f"{what}: {reason}", str(count), ""
    if files := figures.get("pose_files"):
        told = ", ".join(f"{count} {what}" for what, count in files.items() if what != "files" and count)
        yield "pose files", str(files["files"]), f"{told}: posedreamer view pose_clips, view quarantine"
    if "files_with_notes" in figures:
        note = "something was assumed or dropped: posedreamer view pose_notes"
        yield "pose files with notes", str(figures["files_with_notes"]), note


def _students(figures: Mapping[str, Any]) -> Iterator[Line]:
    """What an image is worth, on the test set that favours neither side."""
    found = figures.get("students", {})
    for recipe, of in found.get("exchange", {}).items():
        name = next((one for one in of if one.endswith("looks")), next(iter(of)))
        rate = of[name]
        star = ", beyond the sizes trained" if rate["drawn_on"] else ""
        value = f"{rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"
        yield f"renders that one image is worth, {recipe}", value, f"{name}{star}"


def _crowds(figures: Mapping[str, Any]) -> Iterator[Line]:
    """How much the study of synthetic people has to learn from, and how many of the user's backgrounds were kept."""
    found = figures.get("crowds", {})
    if backgrounds := found.get("backgrounds"):
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(backgrounds.items()) if reason != "kept")
        kept = backgrounds.get("kept", 0)
        yield "backgrounds kept", str(kept), f"of {sum(backgrounds.values())}" + (f": {refused}" if refused else "")
    for part, name in (("ds", "scenes"), ("dm", "mixtures")):
        if of := found.get(part):
            annotated = f", {of['annotated']} annotated ones" if of["annotated"] else ""
            yield name, str(of["images"]), f"{of['people_placed']} of {of['people_drawn']} people placed{annotated}"


def _arms(figures: Mapping[str, Any]) -> Iterator[Line]:
    """What networks of the study of synthetic people find."""
    found = figures.get("arms", {})
    where = "stand-ins" if found.get("kind") == "stand_in" else "photographs"
    for arm, of in found.get("arms", {}).items():
        cell = of["cells"]["mean"]
        if cell["mean"] is not None:
            value = f"{cell['mean']:.1f} [{cell['low']:.1f}, {cell['high']:.1f}]"
            yield f"mAP, {arm}", value, f"{found['people']} people of {found['photos']} test {where}"


def _rounds(figures: Mapping[str, Any]) -> Iterator[Line]:
    for name, found in figures.get("rounds", {}).items():
        yield f"OKS, {name} round", _with_interval(found["oks"]), f"{found['pass_rate']:.0%} kept"


def _alignment(figures: Mapping[str, Any]) -> Iterator[Line]:
    dpo = figures.get("dpo", {})
    if dpo.get("method") == "none":
        yield "alignment", dpo["method"], dpo["note"]
    if "oks_before" in dpo:
        yield "OKS before DPO", _with_interval(dpo["oks_before"]), f"{dpo['test_poses']} held-out poses"
        yield "OKS after DPO", _with_interval(dpo["oks_after"]), dpo.get("judge", "")
        yield "OKS error less by", _with_interval(dpo["error_reduction"]), f"{dpo['relative_reduction']:.0%}"
    if "outside_judge" in dpo:
        outside = dpo["outside_judge"]
        yield "outside judge, before DPO", _with_interval(outside["oks_before"]), outside["name"]
        yield "outside judge, after DPO", _with_interval(outside["oks_after"]), outside["name"]


def _hard_rounds(figures: Mapping[str, Any]) -> Iterator[Line]:
    only = {"hard": figures["hard_minus_base_oks"]} if "hard_minus_base_oks" in figures else {}
    for name, found in figures.get("rounds_minus_base_oks", only).items():
        yield f"OKS, {name} - base", _with_interval(found), ""
    models = figures.get("difficulties", {})
    for name, found in models.items():
        if "r2" in found:
            label = "difficulty R2" if len(models) == 1 else f"difficulty R2, {name}"
            yield label, f"{found['r2']:.3f}", "held-out folds"


def _quality(figures: Mapping[str, Any]) -> Iterator[Line]:
    quality = figures.get("quality", {})
    if quality and "fid_2048" not in quality:
        yield (
            "FID, KID, IS",
            "–",
            f"{quality['generated']} generated, {quality['reference']} reference images are too few",
        )
    score = f"{quality.get('classifier_name')}_score"
    named = (
        ("FID", "fid_2048", f"against {quality.get('reference_is')}"),
        ("FID, 64 features", "fid_64", ""),
        ("KID", "kid", ""),
        ("IS by classifier", score, score),
    )
    for label, key, note in named:
        if key in quality:
            yield label, f"{quality[key]['value']:.3f}", note


def _judges(figures: Mapping[str, Any]) -> Iterator[Line]:
    quality = figures.get("quality", {})
    for role in ("judge", "outside_judge"):
        for what in ("renders", "base_generations"):
            if role in quality:
                label = f"OKS of {what.replace('_', ' ')}, {role.replace('_', ' ')}"
                yield label, _with_interval(quality[role][what]), quality[role]["name"]
    for garment, found in quality.get("garment_colours", {}).get("base_generations", {}).items():
        chance = f"by chance {quality['garment_colours']['by_chance']:.2f}"
        yield f"{garment} has the caption's colour", _with_interval(found), chance


def _with_interval(found: Mapping[str, Any]) -> str:
    """A mean with its interval; a dash for each that there is none of, as a file has null for NaN."""
    mean, low, high = ("–" if value is None else f"{value:.3f}" for value in (found["mean"], *found["ci95"]))
    return f"{mean} [{low}, {high}]"


def print_summary(figures: Mapping[str, Any]) -> None:
    """Print the table at the end and the time of each stage."""
    from rich.console import Console

    console = Console()
    console.print()
    console.print(_table(("figure", "value", ""), main_figures(figures)))
    rows = [(t["stage"], _spent(t), f"{t['peak_memory_mb']:.0f} MB" if t["made"] else "") for t in figures["stages"]]
    total = f"{figures['seconds']:.1f} s" if figures.get("seconds") else ""
    rows.append(("all", total, f"{figures['peak_memory_mb']:.0f} MB"))
    console.print(_table(("stage", "time", "peak memory"), rows))


def _spent(timing: Mapping[str, Any]) -> str:
    if timing["made"]:
        return f"{timing['seconds']:.1f} s"
    return "up to date" + (f" (made in {timing['made_in_s']:.1f} s)" if timing.get("made_in_s") else "")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "TerminalTable":
    from rich import box
    from rich.table import Table as TerminalTable

    table = TerminalTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i == 1 else "left")
    for row in rows:
        table.add_row(*row)
    return table
