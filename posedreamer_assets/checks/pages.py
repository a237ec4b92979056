"""Data docs: what checks found, as records and as a static site that needs no network.

<home>/checks/
    index.html                   every asset: partitions, failures
    <table>/index.html           every partition of an asset
    <table>/<partition>.html     every check of a partition, with examples and pictures of failing samples
    <table>/<partition>.json     the same as data
    <table>/<partition>.bad      there while a check of severity error has failed: the rows' digest, then those checks

A record names the content digest of the rows that were checked. A partition is *bad* while its newest record has a failed
check of severity error and its rows are still those.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.checks import CHECKPOINT_ASSETS, CheckOutcome, load_table_checks
from posedreamer_assets.checks.rows import decode
from posedreamer_assets.pipeline.graph import key_group
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_jpeg

if TYPE_CHECKING:
    from jinja2 import Environment

    from posedreamer_assets.storage import LanceStore

WHOLE = "all"  # the page of an unpartitioned asset
PICTURES = 8
_WITHOUT_SAMPLES = ("checkpoints", "pose_files", "quarantine")
_SIDE = 192  # pixels of a picture's larger side
_OWN_PICTURES = ("image", "winner_image", "control")


def folder_of(home: Home) -> Path:
    """Where records and pages are."""
    return home.path / "checks"


def page_of(home: Home, table: str, key: str | None) -> Path:
    """The page of one partition, or of an unpartitioned asset."""
    return folder_of(home) / table / f"{key or WHOLE}.html"


def record(
    home: Home,
    store: "LanceStore",
    table: str,
    key: str | None,
    outcomes: Sequence[CheckOutcome],
    *,
    pages: bool = True,
) -> dict[str, Any]:
    """Keep what the checks of a partition found, and write its page and those above it.

    Args:
        home: the site lies in it.
        store: where the rows are, for pictures of failing samples.
        table: a table or an unpartitioned asset.
        key: partition key.
        outcomes: of all checks.
        pages: also write the pages of the asset and of the site; else `write_site` does, once for many partitions.
    """
    failing = list(dict.fromkeys(name for o in outcomes if not o.passed for name in o.failing_ids))
    pictures = {} if key is None else failing_pictures(store, table, key, failing[:PICTURES])
    found = {
        "table": table,
        "partition": key or WHOLE,
        "content": _content(store, table, key),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": max((o.checked for o in outcomes), default=0),
        "errors": sum(not o.passed and o.blocking for o in outcomes),
        "warnings": sum(not o.passed and not o.blocking for o in outcomes),
        "checks": [asdict(o) for o in outcomes],
        "pictures": {name: _data_uri(image) for name, image in pictures.items()},
    }
    page = page_of(home, table, key)
    _write(page.with_suffix(".json"), json.dumps(found, indent=1))
    _write(page, _pages().get_template("partition").render(record=found, title=f"{table} {found['partition']}"))
    _write_mark(page.with_suffix(".bad"), found)
    if pages:
        write_site(home, [table])
    return found


def write_site(home: Home, tables: Iterable[str] | None = None) -> Path:
    """Write the pages of assets, by default of all, and the page of the site; returns the latter."""
    root = folder_of(home)
    for table in _recorded(home) if tables is None else tables:
        records = _records(home, table)
        text = (
            _pages()
            .get_template("table")
            .render(title=table, about=load_table_checks(table).description, records=records)
        )
        _write(root / table / "index.html", text)
        _write(root / table / "summary.json", json.dumps(_summary(table, records)))
    summaries = [json.loads((root / t / "summary.json").read_text()) for t in _recorded(home)]
    _write(root / "index.html", _pages().get_template("index").render(title="Data checks", tables=summaries))
    return root / "index.html"


def failed_checks(home: Home, table: str, key: str | None, content: str) -> list[str]:
    """Names of the checks of severity error that these very rows failed; none where they were made again since."""
    mark = page_of(home, table, key).with_suffix(".bad")
    if not mark.exists():
        return []
    digest, *names = mark.read_text().splitlines()
    return names if digest == content else []


def _write_mark(mark: Path, found: dict[str, Any]) -> None:
    names = [c["name"] for c in found["checks"] if not c["passed"] and c["severity"] == "error"]
    if names:
        _write(mark, "\n".join([found["content"], *names]) + "\n")
    else:
        mark.unlink(missing_ok=True)


def failing_pictures(store: "LanceStore", table: str, key: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """A picture of each sample, with its keypoints where the table has some; samples without one are left out."""
    place = _picture_column(store, table, key)
    if not ids or place is None:
        return {}
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in ids)
    rows = store.read(place[0], keys=[key], columns=["sample_id", place[1]], filter=f"sample_id IN ({quoted})")
    found = zip(rows.column("sample_id").to_pylist(), rows.column(place[1]).to_pylist(), strict=True)
    decoded = {name: decode(blob) for name, blob in found if blob}
    drawn = {name: p.pixels for name, p in decoded.items() if p is not None and p.mode == "RGB"}
    points = _keypoints(store, table, key, quoted)
    return {name: _with_points(drawn[name], points.get(name)) for name in ids if name in drawn}


def _picture_column(store: "LanceStore", table: str, key: str) -> tuple[str, str] | None:
    """Table and column with a picture of the samples of this table."""
    if table not in SCHEMAS or table in _WITHOUT_SAMPLES:
        return None
    name = "hard" if key_group(key) == "hard" else "base"
    others = [(f"{name}_raw_generations", "image"), (f"{name}_control_maps", "control"), ("rendered_scenes", "image")]
    own = [(table, column) for column in _OWN_PICTURES if column in SCHEMAS[table].names]
    return next((place for place in [*own, *others] if place[0] == table or store.partition(place[0], key)), None)


def _keypoints(store: "LanceStore", table: str, key: str, quoted: str) -> dict[str, np.ndarray]:
    column = next((c for c in ("keypoints_2d", "detected") if c in SCHEMAS[table].names), None)
    if column is None:
        return {}
    rows = store.read(table, keys=[key], columns=["sample_id", column], filter=f"sample_id IN ({quoted})")
    found = zip(rows.column("sample_id").to_pylist(), rows.column(column).to_pylist(), strict=True)
    return {name: np.array(v, np.float32).reshape(17, -1)[:, :2] for name, v in found if v is not None}


def _with_points(image: np.ndarray, points: np.ndarray | None) -> np.ndarray:
    from PIL import Image

    from posedreamer_assets.render.drawing import draw_keypoints

    if points is not None:
        image = draw_keypoints(image, points, np.all(np.isfinite(points), axis=1), factor=1)
    shown = Image.fromarray(image)
    shown.thumbnail((_SIDE, _SIDE))
    return np.asarray(shown)


def _data_uri(image: np.ndarray) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(image, quality=85)).decode()}"


def _content(store: "LanceStore", table: str, key: str | None) -> str:
    """What was checked: the rows' digest, or the checkpoint's place."""
    if table in CHECKPOINT_ASSETS:
        found = store.checkpoint(table)
        return found.place if found else ""
    info = store.partition(table, key) if key is not None else None
    return info.content_digest if info else ""


def _records(home: Home, table: str) -> list[dict[str, Any]]:
    files = sorted((folder_of(home) / table).glob("*.json"))
    return [json.loads(file.read_text()) for file in files if file.name != "summary.json"]


def _recorded(home: Home) -> list[str]:
    """Tables with records, in the order of the graph."""
    return [t for t in (*SCHEMAS, *CHECKPOINT_ASSETS) if (folder_of(home) / t / "summary.json").exists()]


def _summary(table: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "table": table,
        "partitions": len(records),
        "checks": sum(len(r["checks"]) for r in records),
        "bad": [r["partition"] for r in records if r["errors"]],
        "warned": [r["partition"] for r in records if r["warnings"] and not r["errors"]],
        "time": max((r["time"] for r in records), default=""),
    }


def _write(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


@lru_cache(1)
def _pages() -> "Environment":
    from jinja2 import DictLoader, Environment, StrictUndefined

    return Environment(
        loader=DictLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


_TEMPLATES = {
    "page": """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --bad: #c62828; --warn: #b26a00; --good: #2e7d32; --line: #8884 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .3rem } p { margin: .2rem 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line) }
td.n { text-align: right; font-variant-numeric: tabular-nums } small { opacity: .75 }
.error { color: var(--bad); font-weight: 600 } .warn { color: var(--warn); font-weight: 600 } .ok { color: var(--good) }
.banner { border-left: .4rem solid var(--bad); padding: .5rem 1rem; background: #c6282818; margin: 1rem 0 }
figure { display: inline-block; margin: 0 .8rem .8rem 0 } figcaption { font-size: .8rem; max-width: 12rem }
code, td { overflow-wrap: anywhere }
@media (max-width: 42rem) {
  /* A row becomes a block of its own, its cells below each other with the names of their columns. */
  body { margin: 1rem auto } table, tbody, tr, td, td.n { display: block; text-align: left } tr:has(th) { display: none }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line) } td { border: 0; padding: .05rem 0 } td:empty { display: none }
  td[data-name]::before { content: attr(data-name) " "; font-size: .85em; opacity: .75 }
}
</style>
</head>
<body>
{% block body %}{% endblock %}
</body>
</html>
""",
    "index": """\
{% extends "page" %}
{% block body %}
<h1>Data checks</h1>
<p>Every asset with the last checks of each of its partitions. An <span class="error">error</span> keeps what is downstream
from being made, a <span class="warn">warning</span> does not.</p>
<table>
<tr><th>asset</th><th>state</th><th>partitions</th><th>checks</th><th>last</th></tr>
{% for t in tables %}
<tr><td><a href="{{ t.table }}/index.html">{{ t.table }}</a></td>
<td>{% if t.bad %}<span class="error">{{ t.bad | length }} bad</span>: {{ t.bad[:5] | join(", ") }}
{% elif t.warned %}<span class="warn">{{ t.warned | length }} with warnings</span>
{% else %}<span class="ok">passed</span>{% endif %}</td>
<td class="n" data-name="partitions">{{ t.partitions }}</td><td class="n" data-name="checks">{{ t.checks }}</td>
<td data-name="last">{{ t.time }}</td></tr>
{% endfor %}
</table>
{% endblock %}
""",
    "table": """\
{% extends "page" %}
{% block body %}
<p><a href="../index.html">Data checks</a></p>
<h1>{{ title }}</h1>
<p>{{ about }}</p>
<table>
<tr><th>partition</th><th>state</th><th>failed checks</th><th>rows</th><th>checks</th><th>checked</th></tr>
{% for r in records %}
<tr><td><a href="{{ r.partition }}.html">{{ r.partition }}</a></td>
<td>{% if r.errors %}<span class="error">bad</span>{% elif r.warnings %}<span class="warn">warnings</span>
{% else %}<span class="ok">passed</span>{% endif %}</td>
<td>{% for c in r.checks if not c.passed %}{{ c.name }}{{ ", " if not loop.last }}{% endfor %}</td>
<td class="n" data-name="rows">{{ r.rows }}</td><td class="n" data-name="checks">{{ r.checks | length }}</td>
<td data-name="checked">{{ r.time }}</td></tr>
{% endfor %}
</table>
{% endblock %}
""",
    "partition": """\
{% extends "page" %}
{% block body %}
<p><a href="../index.html">Data checks</a> / <a href="index.html">{{ record.table }}</a></p>
<h1>{{ record.partition }}</h1>
<p>{{ record.rows }} rows, {{ record.checks | length }} checks, {{ record.time }}. Content <code>{{ record.content }}</code></p>
{% if record.errors %}
<div class="banner"><span class="error">Bad partition.</span> {{ record.errors }} checks of severity error failed: what is
downstream must not be made from these rows. Make it again once the cause is gone.</div>
{% endif %}
{% if record.pictures %}
<div>
{% for name, picture in record.pictures.items() %}
<figure><img src="{{ picture }}" alt="{{ name }}"><figcaption>{{ name }}<br>
{% for c in record.checks if not c.passed and name in c.failing_ids %}{{ c.name }}{{ ", " if not loop.last }}{% endfor %}
</figcaption></figure>
{% endfor %}
</div>
{% endif %}
<table>
<tr><th>check</th><th>result</th><th>found</th></tr>
{% for c in record.checks | sort(attribute="passed") %}
<tr><td>{{ c.name }}<br><small>{{ c.description }}</small></td>
<td>{% if c.passed %}<span class="ok">passed</span>
{% else %}<span class="{{ c.severity }}">{{ c.severity }}</span>{% endif %}</td>
<td>{{ c.observed }}{% if c.failing_ids and not c.passed %}<br><small><code>{{ c.failing_ids[:10] | join(", ") }}</code></small>
{% endif %}</td></tr>
{% endfor %}
</table>
{% endblock %}
""",
}
