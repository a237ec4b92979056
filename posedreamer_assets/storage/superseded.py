"""Checkpoint folders that nothing names any more, their tags, and what killed writers left: upkeep removes them.

A folder stays as long as one of these holds:

* Table `checkpoints` names it, in its newest version or in a tagged one. A dataset tags the version in which it was made,
  so a release keeps every model behind it.
* Stored rows name it, as images do the adapter that painted them. Tagged versions count too. The caller says which
  columns name checkpoints.
* It is a release, of which the caller gives the names, or one of the newest few of its name.
* It was written, or asked for again, less than `keep` ago.

A tag that a checkpoint gave to what it read goes with the last folder that was made from it.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from posedreamer_assets.storage.checkpoints import CheckpointFolders, StoredFolder
from posedreamer_assets.storage.stored import StoredTables
from posedreamer_assets.storage.upkeep import Plan
from posedreamer_assets.tables.fields import SCHEMAS

_TAG = re.compile(r"(.+)-([0-9a-f]{12})")


@dataclass(frozen=True)
class Removed:
    """What upkeep of checkpoints removed.

    Attributes:
        folders: places below the storage root.
        tags: `<table>:<tag>`.
        leftovers: unfinished folders of killed writers.
        bytes_freed: of all of them.
    """

    folders: tuple[str, ...]
    tags: tuple[str, ...]
    leftovers: int
    bytes_freed: int


@dataclass(frozen=True)
class Reference:
    """A column whose values are digests of checkpoints, each of which stays while a stored row names it.

    Attributes:
        checkpoint: name of the checkpoints, for example `dpo_checkpoint`.
        table: the table whose rows name them.
        column: text, null where a row names none.
    """

    checkpoint: str
    table: str
    column: str


def remove_superseded(
    tables: StoredTables,
    folders: CheckpointFolders,
    plan: Plan,
    references: Sequence[Reference],
    releases: Collection[str],
    now: datetime,
) -> Removed:
    """Remove what the plan does not keep; safe beside writers and readers that take less than `plan.keep`."""
    before = now - plan.keep
    for reference in references:  # a wrong one must not look like one that nothing refers to
        tables.read(reference.table, [], [reference.column])
    stored = folders.stored()
    limits = {folder.name: plan.releases if folder.name in releases else plan.checkpoints for folder in stored}
    old = superseded(
        stored, lambda: _named(tables), lambda name: _named_in_rows(tables, references, name), limits, before
    )
    removed = [folder for folder in old if folders.remove(folder.place, before)]
    left = folders.remove_leftovers(before)
    present = {folder.place for folder in stored} - {folder.place for folder in removed}
    freed = sum(folder.bytes for folder in removed) + sum(left) + folders.remove_copies(present, before)
    tags = _remove_tags(tables, folders, stored, present, before)
    return Removed(tuple(folder.place for folder in removed), tuple(tags), len(left), freed)


def superseded(
    stored: Sequence[StoredFolder],
    named: Callable[[], set[str]],
    named_in_rows: Callable[[str], set[str]],
    limits: Mapping[str, int | None],
    before: datetime,
) -> list[StoredFolder]:
    """The folders that nothing keeps.

    Args:
        stored: every folder.
        named: places that table `checkpoints` names.
        named_in_rows: digests of checkpoints of that name that stored rows hold.
        limits: how many of each name stay; None keeps all.
        before: folders written later stay.
    """
    found: list[StoredFolder] = []
    places = named() if any(folder.written < before for folder in stored) else set()
    for name in sorted({folder.name for folder in stored}):
        limit = limits[name]
        own = [folder for folder in stored if folder.name == name and folder.place not in places]
        newest_first = sorted(own, key=lambda folder: (folder.written, folder.place), reverse=True)
        old = [folder for folder in newest_first[slice(limit, None)] if folder.written < before]
        if limit is not None and old:
            digests = named_in_rows(name)
            found += [folder for folder in old if folder.request not in digests]
    return found


def _named(tables: StoredTables) -> set[str]:
    versions = {None, *tables.tags("checkpoints").values()}
    return {
        place
        for version in versions
        for place in tables.read("checkpoints", columns=["path"], missing_ok=True, version=version)["path"].to_pylist()
    }


def _named_in_rows(tables: StoredTables, references: Sequence[Reference], name: str) -> set[str]:
    found: set[str] = set()
    for reference in references:
        if reference.checkpoint == name:
            for version in {None, *tables.tags(reference.table).values()}:
                rows = tables.read(reference.table, columns=[reference.column], missing_ok=True, version=version)
                found |= set(rows.column(reference.column).unique().to_pylist())
    return found


def _remove_tags(
    tables: StoredTables,
    folders: CheckpointFolders,
    stored: Sequence[StoredFolder],
    present: set[str],
    before: datetime,
) -> list[str]:
    """Remove the tags of checkpoints of which no folder is left, unless one is being written."""
    kept = {(folder.name, folder.request[:12]) for folder in stored if folder.place in present}
    idle = {folder.name for folder in stored} - folders.being_written()
    removed: list[str] = []
    for table in SCHEMAS:
        for tag, changed in tables.tag_times(table).items():
            match = _TAG.fullmatch(tag)
            if match and match[1] in idle and match.groups() not in kept and changed < before:
                tables.untag(table, tag)
                removed.append(f"{table}:{tag}")
    return removed
