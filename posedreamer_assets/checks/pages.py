"""Data docs: what checks found, as a static site that needs no network. The records are the store's, see `runtime/outcomes.py`.

<home>/checks/
    index.html                   every asset: partitions, failures
    <table>/index.html           every partition of an asset
    <table>/<partition>.html     every check of a partition, with examples and pictures of failing samples
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posedreamer_assets.checks.files import CHECKPOINT_ASSETS, has_checks, load_table_checks
from posedreamer_assets.checks.model import CheckOutcome
from posedreamer_assets.config import write_whole
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_jpeg

if TYPE_CHECKING:
    from jinja2 import Environment

WHOLE = "all"  # the page of an unpartitioned asset


@dataclass(frozen=True)
class PageRow:
    """A partition in the lists of partitions.

    Attributes:
        checked: table or checkpoint.
        key: partition; None for a checkpoint.
        failed: names of failed checks of severity error.
        warned: names of failed checks of severity warn.
        rows: that were looked at.
        checks: how many were run.
        time: when, ISO 8601.
    """

    checked: str
    key: str | None
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    rows: int
    checks: int
    time: str

    @property
    def partition(self) -> str:
        """The name of its page."""
        return self.key or WHOLE


def page_of(folder: Path, checked: str, key: str | None) -> Path:
    """The page of one partition, or of an unpartitioned asset."""
    return folder / checked / f"{key or WHOLE}.html"


def write_page(
    folder: Path, row: PageRow, content: str, outcomes: Sequence[CheckOutcome], pictures: Mapping[str, np.ndarray]
) -> Path:
    """Write the page of a partition and return where it lies.

    Args:
        folder: of the site.
        row: its entry in the lists.
        content: digest of what was looked at.
        outcomes: of all checks.
        pictures: of failing samples by id, (h, w, 3).
    """
    page = page_of(folder, row.checked, row.key)
    shown = {name: _data_uri(image) for name, image in pictures.items()}
    title = f"{row.checked} {row.partition}"
    _write(page, "partition", title=title, row=row, content=content, checks=outcomes, pictures=shown)
    return page


def write_site(folder: Path, rows: Sequence[PageRow], checked: Sequence[str] | None = None) -> Path:
    """Write the pages of assets, by default of all, and the page of the site; returns the latter."""
    names = _in_order({row.checked for row in rows})
    for name in names if checked is None else checked:
        own = [row for row in rows if row.checked == name]
        _write(folder / name / "index.html", "table", title=name, about=_about(name), records=own)
    summaries = [_summary(name, [row for row in rows if row.checked == name]) for name in names]
    _write(folder / "index.html", "index", title="Data checks", tables=summaries)
    return folder / "index.html"


def _about(checked: str) -> str:
    name = checked if checked in SCHEMAS else next((n for n in CHECKPOINT_ASSETS if checked.endswith(n)), checked)
    return load_table_checks(name).description if has_checks(name) else ""


def _in_order(names: set[str]) -> list[str]:
    """Tables, then checkpoints."""
    return [*(name for name in SCHEMAS if name in names), *sorted(names - set(SCHEMAS))]


def _summary(name: str, rows: Sequence[PageRow]) -> dict[str, object]:
    return {
        "table": name,
        "partitions": len(rows),
        "checks": sum(row.checks for row in rows),
        "bad": [row.partition for row in rows if row.failed],
        "warned": [row.partition for row in rows if row.warned and not row.failed],
        "time": max((row.time for row in rows), default=""),
    }


def _data_uri(image: np.ndarray) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(image, quality=85)).decode()}"


def _write(path: Path, template: str, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _pages().get_template(f"checks_{template}.html.j2").render(**values))


@lru_cache(1)
def _pages() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
