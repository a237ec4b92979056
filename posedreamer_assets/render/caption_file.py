"""Captions that users bring: a CSV or JSON Lines file that names samples or poses."""

import csv
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from posedreamer_assets.errors import CaptionError

NAMES = ("sample_id", "pose")
"""Fields that say whose caption it is: a sample's id, or a pose's name (column `provenance` of `pose_library`)."""
MOST_CHARACTERS = 4000  # far beyond what any text encoder reads


def read_captions(path: Path) -> Mapping[str, str]:
    """Captions by sample id or pose name.

    A CSV has a header line with `sample_id` or `pose` and `caption`, in UTF-8; JSON Lines have an object with these fields
    in each line. Other fields are left alone.

    Raises:
        CaptionError: no such file, another kind, or a line that names nobody, says nothing or names somebody again; it says
            which line.
    """
    if not path.is_file():
        raise CaptionError(f"captions.path: no file at {path}")
    return _read(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=2)
def _read(path: Path, changed_ns: int, size: int) -> Mapping[str, str]:
    lines = {".csv": _csv_lines, ".jsonl": _json_lines}.get(path.suffix.lower())
    if lines is None:
        raise CaptionError(f"{path}: expected a .csv or a .jsonl file")
    found: dict[str, str] = {}
    try:
        for number, fields in lines(path):
            name, caption = _entry(f"{path}, line {number}", fields)
            if name in found:
                raise CaptionError(f"{path}, line {number}: {name!r} has a caption already")
            found[name] = caption
    except UnicodeDecodeError as error:
        raise CaptionError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    if not found:
        raise CaptionError(f"{path}: holds no caption")
    return found


def _csv_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or ()
        if "caption" not in header or not set(NAMES) & set(header):
            raise CaptionError(
                f"{path}, line 1: expected a header with caption and {' or '.join(NAMES)}, found {list(header)}"
            )
        for fields in reader:
            yield reader.line_num, fields


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CaptionError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(fields, dict):
                raise CaptionError(f"{path}, line {number}: expected an object, found {line.strip()[:40]!r}")
            yield number, fields


def _entry(where: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    name = next((fields[field] for field in NAMES if fields.get(field)), None)
    caption = fields.get("caption")
    if not isinstance(name, str):
        raise CaptionError(f"{where}: names neither a {' nor a '.join(NAMES)}")
    if not isinstance(caption, str) or not caption.strip():
        raise CaptionError(f"{where}: {name!r} has no caption")
    if len(caption) > MOST_CHARACTERS:
        raise CaptionError(f"{where}: {name!r} has a caption of {len(caption)} characters; at most {MOST_CHARACTERS}")
    return name, " ".join(caption.split())
