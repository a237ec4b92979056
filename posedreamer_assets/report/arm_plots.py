"""Plots of the section on arms: differences, precision by what is seen, and a teacher's probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from posedreamer_assets.report.plots import ACCENT, INK, LINE, MUTED, SERIES, Plot, legend_above, plot


def differences(lines: Mapping[str, Mapping[str, Any]]) -> Plot:
    """Differences of mAP with intervals; a grey band holds what four of five such studies would not have told from zero."""

    def paint(axes: Axes) -> None:
        places = np.arange(len(lines))[::-1]
        for place, one in zip(places, lines.values(), strict=True):
            axes.barh(place, 2 * one["detectable"], left=-one["detectable"], height=0.8, color=LINE)
            colour = ACCENT if one["told"] else MUTED
            axes.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=1.6)
            axes.plot([one["mean"]], [place], "o", color=colour, markersize=4)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, list(lines), fontsize=7)
        axes.set_xlabel("difference of mAP, points")
        axes.grid(False, axis="y")

    caption = "Coloured: told from zero, without correction. Grey: smaller than four of five such studies would tell."
    return plot("Differences of arms", caption, paint, width=6.0, height=0.26 * len(lines) + 1.0)


def by_seen(
    names: Sequence[str],
    people: Sequence[int],
    arms: Mapping[str, Sequence[Mapping[str, Any] | None]],
    fewest: int,
    title: str,
    label: str,
) -> Plot:
    """A figure by the share of a person's joints that is seen, with intervals; hollow where a bin has few people.

    Args:
        names: of the bins.
        people: in each.
        arms: by name, a cell (mean, low, high) for each bin; None where there is nobody.
        fewest: people of a bin below which it is drawn hollow.
        title: of the plot.
        label: of the figure.
    """

    def paint(axes: Axes) -> None:
        step = 0.7 / max(1, len(arms))
        for k, (arm, cells) in enumerate(arms.items()):
            colour = SERIES[k % len(SERIES)]
            for place, (cell, count) in enumerate(zip(cells, people, strict=True)):
                if cell is None or cell["mean"] is None:
                    continue
                x = place + (k - (len(arms) - 1) / 2) * step
                face = "none" if count < fewest else colour
                axes.plot([x, x], [cell["low"], cell["high"]], color=colour, linewidth=1.2)
                axes.plot([x], [cell["mean"]], "o", color=colour, markerfacecolor=face, markersize=4)
            axes.plot([], [], "o", color=colour, label=arm, markersize=4)
        axes.set_xticks(
            range(len(names)),
            [f"{name}\n{count} people" for name, count in zip(names, people, strict=True)],
            fontsize=7,
        )
        axes.set(xlabel="joints seen", ylabel=label)
        legend_above(axes, columns=3)

    caption = (
        f"People by the share of their annotated joints that is seen, 95 % intervals. Hollow: fewer than {fewest} people. "
        "Found people who match nobody count as misses in every bin."
    )
    return plot(title, caption, paint, width=6.0, height=3.2)


def teacher(arm: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Probabilities of groups over the windows of a training."""
    table = np.array([row["probabilities"] for row in rows], float)
    windows = [row["window"] for row in rows]

    def paint(axes: Axes) -> None:
        for group in range(count):
            axes.plot(
                windows, table[:, group], color=ACCENT, alpha=0.25 + 0.75 * group / max(1, count - 1), linewidth=1.2
            )
        axes.axhline(1 / count, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlabel="window of steps", ylabel="probability", ylim=(0, None))

    count = table.shape[1]
    caption = f"One line for each of {count} groups, the darker the larger its values; first seed. Dashed: all alike."
    return plot(f"Groups of {arm}", caption, paint)
