"""The report's usual sections, each from plain arrays and figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from posedreamer_assets.report import plots
from posedreamer_assets.report.html import Cell, Note, PanelRow, Panels, Plots, Section, Table
from posedreamer_assets.scoring.verdict import KEPT, TESTS

if TYPE_CHECKING:
    from posedreamer_assets.metrics.group_rates import GroupRates

FAIR_LEVEL = 0.01  # as in dbt_like_checks/filtered_dataset.yml
REASON_WORDS = {KEPT: "passes every test", **{test.reason: test.words for test in TESTS}}


def samples_section(rows: Sequence[PanelRow], *, title: str = "Samples", intro: str = "") -> Section:
    """Strips of control map, generated image and keypoint overlay."""
    words = intro or "The body is chosen first; its rendering steers the generator; what a detector sees is compared."
    return Section(title, [Panels(rows, caption="Blue: the person's left. Orange: their right.")], words)


def alignment_section(
    before: Float[np.ndarray, " n"],
    after: Float[np.ndarray, " n"],
    losses: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    pairs: Mapping[str, int] | None = None,
    same_seed: Sequence[PanelRow] = (),
    judge: str = "",
) -> Section:
    """OKS of held-out poses before and after preference alignment, from the same seeds.

    Args:
        before, after: OKS of the same poses and seeds.
        losses: (steps, values) by curve name.
        pairs: number of poses per pair status.
        same_seed: strips that show one pose before and after.
        judge: which detector measured OKS.
    """
    shown = [plots.oks_histogram({"before DPO": before, "after DPO": after})]
    if losses:
        shown.append(plots.loss_curves(losses, reference=float(np.log(2))))
    if pairs:
        shown.append(plots.counts_bars("Preference pairs", pairs, caption="Poses by what their candidates gave."))
    error_before, error_after = 1 - float(np.mean(before)), 1 - float(np.mean(after))
    better = float(np.mean(np.asarray(after) > np.asarray(before)))
    rows = [
        ["mean OKS", f"{np.mean(before):.3f}", f"{np.mean(after):.3f}"],
        ["OKS error (1 − mean)", f"{error_before:.3f}", f"{error_after:.3f}"],
        ["median OKS", f"{np.median(before):.3f}", f"{np.median(after):.3f}"],
        ["share above 0.8", f"{_share_above(before):.1%}", f"{_share_above(after):.1%}"],
    ]
    change = f"{better:.0%} of {len(before)} held-out poses improved."
    if error_before > 0:
        relative = f"{(error_after - error_before) / error_before:+.1%}".replace("-", "−")
        change = f"OKS error changed by {relative}. {change}"
    table = Table(("held-out poses", "before DPO", "after DPO"), rows, caption=change)
    blocks: list[Any] = [table, Plots(shown)]
    if same_seed:
        blocks.append(Panels(same_seed, "Same pose, same seed", "Before and after alignment."))
    judged = f" Measured by {judge}, which took no part in ranking the pairs." if judge else ""
    return Section("Preference alignment", blocks, f"Flow-DPO on pairs ranked by how well they show the pose.{judged}")


def curation_section(
    reasons: Sequence[str],
    oks: Float[np.ndarray, " n"],
    *,
    min_oks: float,
    examples: Mapping[str, Sequence[PanelRow]] | None = None,
) -> Section:
    """What the filter kept and why it rejected the rest; `reasons` holds `kept` or the first failed test."""
    counts = Counter(reasons)
    order = sorted(counts, key=lambda reason: (reason != KEPT, -counts[reason]))
    rows = [[Cell(r, REASON_WORDS.get(r, "")), counts[r], f"{counts[r] / len(reasons):.1%}"] for r in order]
    values = np.asarray(oks, np.float64)
    kept = np.array([reason == KEPT for reason in reasons], dtype=bool)
    histogram = plots.oks_histogram(
        {"kept": values[kept], "rejected": values[~kept]}, threshold=min_oks, colours=(plots.GOOD, plots.SECOND)
    )
    blocks: list[Any] = [
        Plots([plots.reason_bars(counts), histogram]),
        Table(("verdict", "images", "share"), rows),
    ]
    for reason in sorted(examples or {}, key=lambda name: (name != KEPT, name)):
        title = "Kept" if reason == KEPT else f"Rejected: {reason}"
        blocks.append(Panels((examples or {})[reason], title, REASON_WORDS.get(reason, "")))
    return Section("Curation", blocks, "Rejected images stay in the table with their reason.")


@dataclass(frozen=True)
class Difficulty:
    """What a difficulty model expected of a round's poses, and what came.

    Attributes:
        predicted: OKS that it expected, before the poses were painted.
        measured: OKS of the same poses.
        figures: how good it is, by name.
        hardest: strips of poses with the lowest predicted OKS.
    """

    predicted: Float[np.ndarray, " n"]
    measured: Float[np.ndarray, " n"]
    figures: Mapping[str, str]
    hardest: Sequence[PanelRow] = ()


def difficulty_section(found: Mapping[str, Difficulty], rounds: Mapping[str, Float[np.ndarray, " _k"]]) -> Section:
    """How well OKS is predicted from the label alone, and what the hard rounds picked.

    Args:
        found: by hard round.
        rounds: measured OKS by round, the base round among them.
    """
    several = len(found) > 1
    shown = [
        plots.difficulty_scatter(
            one.predicted,
            one.measured,
            figures=one.figures,
            title=f"Difficulty model, round {name}" if several else "Difficulty model",
        )
        for name, one in found.items()
    ]
    blocks: list[Any] = [Plots([*shown, plots.oks_histogram(rounds)])]
    for name, one in found.items():
        if one.hardest:
            title = f"Hardest poses, round {name}" if several else "Hardest poses"
            blocks.append(Panels(one.hardest, title, "Lowest predicted OKS first."))
    intro = "A gradient-boosted model predicts OKS from body and camera; a hard round draws what it expects to fail."
    return Section("Hard samples", blocks, intro)


def quality_section(
    results: Mapping[str, Mapping[str, Any]],
    planes: Mapping[str, Mapping[str, Float[np.ndarray, "_n 2"]]] | None = None,
) -> Section:
    """Quality figures, one column per image set; each value is a result of `quality_report`, as `planes`, by network, are."""
    first = next(iter(results.values()))
    intro = "How close the images are to the reference as a set."
    notes = [Note(text) for text in first["notes"]]
    if "classifier_name" not in first:  # too few images, which the notes say
        return Section("Image quality", notes, intro)
    score = f"{first['classifier_name']}_score"
    figures = (
        ("FID, 2048 features ↓", "fid_2048"),
        ("FID, 64 features ↓", "fid_64"),
        ("KID ↓", "kid"),
        ("precision ↑", "precision"),
        ("recall ↑", "recall"),
        (f"{score} ↑", score),
    )
    rows: list[list[Any]] = [
        ["generated / reference images", *(f"{r['generated']:,} / {r['reference']:,}" for r in results.values())]
    ]
    rows += [[label, *(interval_cell(r[key]) for r in results.values())] for label, key in figures]
    rows.append(["KID over blocks, mean ± std", *(_blocks_cell(r) for r in results.values())])
    rows.append(["FID 2048 between reference halves", *(r["fid_2048_halves"] for r in results.values())])
    rows.append(["FID 64 between reference halves", *(r["fid_64_halves"] for r in results.values())])
    rows.append([f"{score} of the reference", *(interval_cell(r[f"{score}_reference"]) for r in results.values())])
    caption = "In brackets: 95 % interval, value ± 1.96 bootstrap standard errors over images."
    blocks: list[Any] = [Table(("figure", *results), rows, caption=caption)]
    blocks += [table for name, result in results.items() if (table := _by_network(name, result))]
    if planes:
        blocks.append(Plots([plots.feature_map(plane, network=network) for network, plane in planes.items()]))
    return Section("Image quality", [*blocks, *notes], intro)


def _by_network(images: str, result: Mapping[str, Any]) -> Table | None:
    """Figures by networks other than Inception, one row for each; None where there are none."""
    found: Mapping[str, Mapping[str, Any]] = result.get("by_network", {})
    if not found:
        return None
    names = {
        "frechet": "Fréchet distance ↓",
        "kd": "kernel distance ↓",
        "cmmd": "CMMD × 1000 ↓",
        "precision": "precision ↑",
        "recall": "recall ↑",
        "density": "density ↑",
        "coverage": "coverage ↑",
    }
    rows = [[network, *(interval_cell(figures[key]) for key in names)] for network, figures in found.items()]
    caption = f"Of {images}. Compare a figure with others of the same network and equal counts alone."
    return Table(("by features of", *names.values()), rows, caption=caption)


def coverage_section(groups: Sequence[plots.Plot], note: str = "") -> Section:
    """What poses, bodies, cameras and looks there are, and which of them the filter kept."""
    intro = "What was asked for, and what of it was kept: a filter that drops one kind of image more than others shows here."
    return Section("Coverage", [Plots(groups), *([Note(note)] if note else [])], intro)


def fairness_section(found: "GroupRates") -> Section:
    """Whether the filter keeps images of all skin tones equally often."""
    rows = [
        (g.name, g.asked, g.kept, Cell(f"{g.rate:.0%}", f"[{g.low:.0%}, {g.high:.0%}]"), f"{g.p:.2g}")
        for g in sorted(found.groups, key=lambda g: g.rate)
    ]
    caption = "In brackets: 95 % Wilson intervals. p: Fisher's exact test, corrected by Holm for testing every tone."
    table = Table(("skin tone", "images", "kept", "share", "p against the others"), rows, caption=caption)
    apart = ", ".join(g.name for g in found.groups if g.p < FAIR_LEVEL)
    differ = f"Shares that differ so much would come about by chance with a probability of {found.p:.2g}. "
    verdict = f"Groups apart from the others: {apart}." if apart else "No group is apart from the others."
    note = Note(differ + verdict, "warn" if found.p < FAIR_LEVEL else "")
    return Section("Skin tone", [table, note], "Whether the filter keeps images of all skin tones equally often.")


def interval_cell(estimate: Mapping[str, Any]) -> Cell:
    """`12.3` with `[11.8, 12.9]` below, from an `Estimate` as plain values."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if low is None or high is None:
        return Cell(_short(value))
    return Cell(_short(value), f"[{_short(low)}, {_short(high)}]")


def _share_above(oks: np.ndarray, level: float = 0.8) -> float:
    return float(np.mean(np.asarray(oks) > level))


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _blocks_cell(result: Mapping[str, Any]) -> Cell:
    spread = f"{result['kid_block_mean']:.4f} ± {result['kid_block_std']:.4f}"
    return Cell(spread, f"{result['kid_blocks']} blocks of {result['kid_block_size']}")
