"""Plots of the report as inline SVG that takes its colours from the page, so that they follow light and dark.

Matplotlib draws with sentinel colours, which are replaced by CSS variables (`--ink`, `--accent`, ...) afterwards.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from posedreamer_assets.errors import MetricsError

SENTINELS = {
    "#010203": "var(--ink)",
    "#010204": "var(--muted)",
    "#010205": "var(--line)",
    "#010206": "var(--accent)",
    "#010207": "var(--second)",
    "#010208": "var(--good)",
    "#010209": "var(--bad)",
}
INK, MUTED, LINE, ACCENT, SECOND, GOOD, BAD = SENTINELS
LONGEST_NAME = 28  # characters of a name in a plot
SERIES = (ACCENT, SECOND, GOOD, MUTED, BAD)
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "posedreamer",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.constrained_layout.use": True,
}
NO_METADATA: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
# Above this number of points a scatter is embedded as one small picture.
MANY_POINTS = 1500


@dataclass(frozen=True)
class Plot:
    """An inline SVG picture with the words that go with it."""

    svg: Markup
    title: str
    caption: str = ""


def oks_histogram(
    groups: Mapping[str, Float[np.ndarray, " _n"]],
    *,
    threshold: float | None = None,
    colours: Sequence[str] = SERIES,
    title: str = "Object keypoint similarity",
) -> Plot:
    """Histograms of OKS, one outline per group ("before DPO", "after DPO"), as shares of each group's images."""
    kept = {name: _finite(values) for name, values in groups.items()}
    bins = np.linspace(0.0, 1.0, 26)

    def paint(axes: Axes) -> None:
        for colour, (name, values) in zip(colours, kept.items(), strict=False):
            heights = np.histogram(values, bins)[0] / max(len(values), 1)
            label = (
                f"{_brief(name)} (n={len(values)}, mean {values.mean():.3f})"
                if len(values)
                else f"{_brief(name)} (none)"
            )
            axes.stairs(heights, bins, fill=True, color=colour, alpha=0.22)
            axes.stairs(heights, bins, color=colour, linewidth=1.6, label=label)
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlabel="OKS", ylabel="share of images", xlim=(0, 1))
        legend_above(axes, columns=1)

    caption = "" if threshold is None else f"Dashed: the filter keeps OKS of at least {threshold:g}."
    return plot(title, caption, paint)


def reason_bars(counts: Mapping[str, int]) -> Plot:
    """Images per verdict, most frequent first; "kept" stands apart in colour."""
    if not counts:
        raise MetricsError("no verdicts to plot")
    order = sorted(counts, key=lambda reason: (reason == "kept", counts[reason]))
    total = max(sum(counts.values()), 1)

    def paint(axes: Axes) -> None:
        values = [counts[reason] for reason in order]
        axes.barh(
            range(len(order)),
            values,
            tick_label=[_brief(r) for r in order],
            color=[GOOD if r == "kept" else SECOND for r in order],
            height=0.62,
        )
        for y, value in enumerate(values):
            axes.annotate(
                f"{value} · {value / total:.0%}", (value, y), (4, 0), textcoords="offset points", va="center", color=INK
            )
        axes.grid(False)
        axes.set_xlim(0, max(max(values), 1) * 1.3)
        axes.spines[["bottom", "left"]].set_visible(False)
        axes.tick_params(length=0, labelbottom=False, labelcolor=INK)

    return plot("Verdicts", f"{total} images, first failed test each.", paint, height=0.6 + 0.36 * len(order))


def loss_curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "DPO loss",
    reference: float | None = None,
) -> Plot:
    """Curves of (steps, values) by name; `reference` is a level to compare with, log 2 for an untrained DPO loss."""

    def paint(axes: Axes) -> None:
        for colour, (name, (steps, values)) in zip(SERIES, series.items(), strict=False):
            dense = len(steps) > 40
            axes.plot(steps, values, color=colour, linewidth=0.7 if dense else 1.6, alpha=0.45 if dense else 1.0)
            axes.plot(*_smoothed(steps, values), color=colour, linewidth=1.8, label=_brief(name))
        if reference is not None:
            axes.axhline(reference, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlabel="step", ylabel="loss")
        legend_above(axes, columns=len(series))

    caption = "" if reference is None else f"Dashed: {reference:.3f}, the loss of a policy equal to its reference."
    return plot(title, caption, paint)


def difficulty_scatter(
    predicted: Float[np.ndarray, " n"],
    true: Float[np.ndarray, " n"],
    *,
    figures: Mapping[str, str] | None = None,
    title: str = "Difficulty model",
) -> Plot:
    """Predicted against measured OKS of poses that it has not learnt from; `figures` (R2, Spearman) go into the caption."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.scatter(predicted, true, s=9, color=ACCENT, alpha=0.5, linewidths=0, rasterized=len(true) > MANY_POINTS)
        low = float(np.min(predicted)) if len(predicted) else 0.0
        axes.set(xlabel="predicted OKS", ylabel="measured OKS", xlim=(max(0.0, low - 0.05), 1), ylim=(0, 1))

    caption = " · ".join(f"{name} {value}" for name, value in (figures or {}).items())
    return plot(title, caption, paint)


def distributions(
    title: str, groups: Mapping[str, Float[np.ndarray, " _n"]], *, label: str, bins: int = 24, caption: str = ""
) -> Plot:
    """Outlined histograms of a quantity (camera pitch, a joint angle) per group, on common bins."""
    kept = {name: _finite(values) for name, values in groups.items()}
    everything = np.concatenate(list(kept.values())) if kept else np.zeros(0)
    if len(everything) == 0:
        raise MetricsError(f"{title}: no finite values to plot")
    edges = np.histogram_bin_edges(everything, bins=bins)

    def paint(axes: Axes) -> None:
        for colour, (name, values) in zip(SERIES, kept.items(), strict=False):
            heights = np.histogram(values, edges)[0] / max(len(values), 1)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.18)
            axes.stairs(heights, edges, color=colour, linewidth=1.5, label=f"{_brief(name)} (n={len(values)})")
        axes.set(xlabel=label, ylabel="share")
        if len(kept) > 1:
            legend_above(axes, columns=2)

    return plot(title, caption, paint)


def counts_bars(title: str, counts: Mapping[str, int], *, caption: str = "") -> Plot:
    """Horizontal bars of counts by name (pose families, sources), in the given order."""
    if not counts:
        raise MetricsError(f"{title}: nothing to plot")

    def paint(axes: Axes) -> None:
        names, values = [_brief(n) for n in counts][::-1], list(counts.values())[::-1]
        axes.barh(range(len(names)), values, tick_label=names, color=ACCENT, height=0.62)
        for y, value in enumerate(values):
            axes.annotate(str(value), (value, y), (4, 0), textcoords="offset points", va="center", color=INK)
        axes.grid(False)
        axes.set_xlim(0, max(*counts.values(), 1) * 1.15)
        axes.spines[["bottom", "left"]].set_visible(False)
        axes.tick_params(length=0, labelbottom=False, labelcolor=INK)

    return plot(title, caption, paint, height=0.6 + 0.28 * len(counts))


def kept_bars(title: str, asked: Mapping[str, int], kept: Mapping[str, int], *, caption: str = "") -> Plot:
    """Bars of what was asked for, by name in the given order, with the part that the filter kept filled."""
    if not asked:
        raise MetricsError(f"{title}: nothing to plot")

    def paint(axes: Axes) -> None:
        names = list(asked)[::-1]
        places = range(len(names))
        labels = [_brief(n) for n in names]
        axes.barh(places, [asked[n] for n in names], tick_label=labels, color=MUTED, height=0.62, alpha=0.35)
        axes.barh(places, [kept.get(n, 0) for n in names], color=GOOD, height=0.62)
        for y, name in zip(places, names, strict=True):
            share = kept.get(name, 0) / max(asked[name], 1)
            axes.annotate(f"{share:.0%}", (asked[name], y), (4, 0), textcoords="offset points", va="center", color=INK)
        axes.grid(False)
        axes.set_xlim(0, max(*asked.values(), 1) * 1.15)
        axes.spines[["bottom", "left"]].set_visible(False)
        axes.tick_params(length=0, labelbottom=False, labelcolor=INK)

    return plot(title, caption or "Filled: kept.", paint, height=0.6 + 0.28 * len(asked))


def feature_map(
    groups: Mapping[str, Float[np.ndarray, "_n 2"]], *, title: str = "Image features", network: str = "inception"
) -> Plot:
    """Points of a plane by group, such as the first two principal components of a network's image features."""

    def paint(axes: Axes) -> None:
        for colour, (name, points) in zip(SERIES, groups.items(), strict=False):
            many = len(points) > MANY_POINTS
            axes.scatter(*points.T, s=9, color=colour, alpha=0.55, linewidths=0, label=_brief(name), rasterized=many)
        axes.set(xlabel="first component", ylabel="second component")
        legend_above(axes, columns=len(groups))

    features = "Inception's 2048 features" if network == "inception" else f"the features of {network}"
    return plot(title, f"First two principal components of {features}, both sets together.", paint)


def forest(lines: Mapping[str, Mapping[str, Any]], *, title: str, label: str) -> Plot:
    """Differences with their intervals, one below the other; a grey band holds what would not have been seen.

    A difference has the colour where it is `told` from zero, and a full circle where it was `corrected` for having been
    declared with others.

    Args:
        lines: by name: `mean`, `low`, `high`; `detectable`, the smallest difference that is found in four of five cases;
            `told` and `corrected`, see below.
        title: of the plot.
        label: of its axis, with unit.
    """
    if not lines:
        raise MetricsError("no differences to plot")

    def paint(axes: Axes) -> None:
        places = np.arange(len(lines))[::-1]
        for place, one in zip(places, lines.values(), strict=True):
            axes.barh(place, 2 * one["detectable"], left=-one["detectable"], height=0.8, color=LINE)
            colour = ACCENT if one["told"] else MUTED
            face = colour if one["corrected"] else "none"
            axes.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=1.6)
            axes.plot([one["mean"]], [place], "o", color=colour, markerfacecolor=face, markersize=4)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, list(lines), fontsize=7)
        axes.set_ylim(-0.8, len(lines) - 0.2)
        axes.set_xlabel(label)
        axes.grid(False, axis="y")

    caption = (
        "Full circles: tested contrasts, coloured where they are told from zero after Holm's correction. Empty circles: all "
        "others, coloured where they are told from zero without correction. Intervals are without correction. Grey: smaller "
        "than what four of five such comparisons would see."
    )
    return plot(title, caption, paint, width=6.0, height=0.26 * len(lines) + 1.0)


def themed_svg(figure: Figure) -> Markup:
    """The figure as inline SVG without prolog, metadata or namespaces, its sentinel colours as CSS variables."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg\b[^>]*?)\s+width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?)\s+height="[^"]*"', r"\1", text, count=1)
    for sentinel, variable in SENTINELS.items():
        text = text.replace(sentinel, variable)
    return Markup(text)


def plot(title: str, caption: str, paint: Callable[[Axes], None], *, width: float = 4.35, height: float = 2.75) -> Plot:
    """A picture that a function paints in the report's style; sizes in inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, max(height, 1.2)))
        paint(figure.add_subplot())
        return Plot(themed_svg(figure), title, caption)


def legend_above(axes: Axes, columns: int) -> None:
    """The legend over the picture, where no point is."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=max(columns, 1), borderaxespad=0.1, handlelength=1.2)


def _brief(name: str) -> str:
    """The name, cut so that it leaves room for the plot."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _finite(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values, np.float64).ravel()
    return array[np.isfinite(array)]


def _smoothed(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A running mean over a twentieth of the points, without padding."""
    span = max(1, len(values) // 20)
    kernel = np.ones(span) / span
    return np.convolve(steps, kernel, mode="valid"), np.convolve(values, kernel, mode="valid")
