"""The run's report as one HTML file that needs nothing else: pictures, plots and styles are inside it."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from posedreamer_assets.config import write_whole
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.tables.images import encode_jpeg, encode_png

if TYPE_CHECKING:
    from posedreamer_assets.report.plots import Plot

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """A table cell with a smaller line below its text."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers are formatted and set to the right, everything else is text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Plots:
    """Plots side by side where there is room."""

    plots: "Sequence[Plot]"


@dataclass(frozen=True)
class PanelRow:
    """One sample as a strip of titled images, such as control, generated, keypoints overlay.

    Attributes:
        images: RGB arrays by title, in the order to show.
        title: the sample's id.
        figures: in short below it, such as {"OKS": "0.93"}.
        tone: `good`, `bad` or "" colours its edge.
    """

    images: Mapping[str, UInt8[np.ndarray, "_h _w 3"]]
    title: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    tone: str = ""


@dataclass(frozen=True)
class Panels:
    """Samples, two or more strips beside each other where there is room."""

    rows: Sequence[PanelRow]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """One large image, such as a contact sheet."""

    image: UInt8[np.ndarray, "h w 3"]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph that stands out; `tone` is `warn` or ""."""

    text: str
    tone: str = ""


Block = Table | Plots | Panels | Picture | Note


@dataclass(frozen=True)
class Section:
    """A titled part of the report."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""


def write_report(path: Path | str, summary: Mapping[str, Any], sections: Sequence[Section]) -> Path:
    """Write the report; the file appears whole or not at all.

    Args:
        path: the HTML file; its folder is made.
        summary: `title`, `subtitle`, `headline` (list of {label, value, note, tone}; tone is good, bad or ""),
            `stages` (list of {name, seconds, items, note}), `notes` (list of str) and `setup` (dict, shown last);
            all but `title` and `headline` may be left out.
        sections: the body, in order.

    Raises:
        MetricsError: a summary without title or headline, or with keys that are not known.
    """
    known = {"title", "subtitle", "headline", "stages", "notes", "setup"}
    missing, unknown = {"title", "headline"} - set(summary), set(summary) - known
    if missing or unknown:
        raise MetricsError(f"report summary: missing {sorted(missing)}, unknown {sorted(unknown)}")
    stages = [_stage(stage) for stage in summary.get("stages", ())]
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            title=summary["title"],
            subtitle=summary.get("subtitle", ""),
            headline=[{"note": "", "tone": "", **tile} for tile in summary["headline"]],
            stages=stages,
            longest=max((stage["seconds"] for stage in stages), default=0.0) or 1.0,
            total=sum(stage["seconds"] for stage in stages),
            notes=list(summary.get("notes", ())),
            setup=dict(summary.get("setup", {})),
            sections=_anchored(sections),
        )
    )
    write_whole(Path(path), text)
    return Path(path)


def environment() -> Environment:
    """Templates with escaping on, the filters they use, and undefined names as errors."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        image=data_uri, show=show, plain=show_plain, seconds=show_seconds, breakable=breakable, numeric=is_number
    )
    env.tests["block"] = lambda block, name: type(block).__name__ == name
    return env


def data_uri(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """The image as a data URI: PNG or JPEG, whichever is smaller (flat control maps suit PNG)."""
    photo, flat = encode_jpeg(image, quality=88), encode_png(image)
    kind, data = ("jpeg", photo) if len(photo) < len(flat) else ("png", flat)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def is_number(value: Any) -> bool:
    """Whether a cell is set to the right: a number, or text that starts like one."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | np.number) or bool(re.match(r"[-+−]?\d", str(value)))


def show(value: Any) -> str:
    """A cell as text: numbers to four significant digits, nothing for None."""
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        if not math.isfinite(number):
            return "–"
        return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.4g}"
    return str(value)


def show_plain(value: Any) -> str:
    """As `show`, but whole numbers (seeds, counts of people) without separators."""
    return str(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else show(value)


def show_seconds(value: float) -> str:
    """A duration: 0.8 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def breakable(name: str) -> Markup:
    """Escaped text that may wrap after `/` and `_`, as names of stages have them."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))


def _anchored(sections: Sequence[Section]) -> list[tuple[str, Section]]:
    """Each section with the fragment that links to it; the number keeps equal titles apart."""
    slugs = [re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") for section in sections]
    return [(f"s{i}-{slug}", section) for i, (slug, section) in enumerate(zip(slugs, sections, strict=True), 1)]


def _stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    known = {"name": "", "seconds": 0.0, "items": None, "note": ""}
    if unknown := set(stage) - set(known):
        raise MetricsError(f"report stage {stage.get('name')!r}: unknown keys {sorted(unknown)}")
    return {**known, **stage}
