"""A page of samples to browse: as cards with panels, scores and verdict, as a contact sheet, or kept beside rejected.

They are filtered by verdict and OKS and sorted by any figure, in the page itself; the choice is part of its address.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from posedreamer_assets.config import write_whole
from posedreamer_assets.report.html import environment

HARDNESS = ("predicted_oks", "oks", "winner_oks")  # "hardest first" goes by the first of these that there is


@dataclass(frozen=True)
class GallerySample:
    """One sample.

    Attributes:
        sample_id: its id in every table.
        panels: RGB images by title, in the order to show (image, control, keypoints, mesh overlay).
        figures: scores and provenance; numbers can be sorted by.
        verdict: `kept`, `rejected`, or "" where it was not judged.
        reason: the first failed test; "" or "kept" where none failed.
    """

    sample_id: str
    panels: Mapping[str, UInt8[np.ndarray, "_h _w 3"]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        """What the filter buttons group by: "kept", the reason of rejection, or "unjudged"."""
        if self.verdict == "kept":
            return "kept"
        return self.reason or self.verdict or "unjudged"


def write_gallery(
    path: Path | str, samples: Sequence[GallerySample], *, title: str = "Samples", subtitle: str = ""
) -> Path:
    """Write the gallery as one HTML file that needs nothing else; the file appears whole or not at all."""
    labels = Counter(sample.label for sample in samples)
    order = sorted(labels, key=lambda label: (label != "kept", -labels[label], label))
    sortable = sortable_figures(samples)
    text = (
        environment()
        .get_template("gallery.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            samples=samples,
            labels=[(label, labels[label]) for label in order],
            sortable=sortable,
            hardness=next((name for name in HARDNESS if name in sortable), None),
            pictures=list(dict.fromkeys(name for sample in samples for name in sample.panels)),
            keys={sample.sample_id: _sort_keys(sample) for sample in samples},
        )
    )
    write_whole(Path(path), text)
    return Path(path)


def sortable_figures(samples: Sequence[GallerySample]) -> list[str]:
    """Names of figures that are numbers in at least one sample, in order of appearance."""
    names: dict[str, None] = {}
    for sample in samples:
        names.update(dict.fromkeys(_sort_keys(sample)))
    return list(names)


def _sort_keys(sample: GallerySample) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in sample.figures.items()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    }
