"""Checkpoint folders that nothing names any more, their tags, and what killed writers left: upkeep removes them.

A folder stays as long as one of these holds:

* Table `checkpoints` names it, in its newest version or in a tagged one. A dataset tags the version in which it was made,
  so a release keeps every model behind it.
* Stored rows name it: `raw_generations` says which adapter painted an image. Tagged versions count too.
* It is a release itself, or one of the newest few of its name.
* It was written, or asked for again, less than `keep` ago.

A tag that a checkpoint gave to what it read goes with the last folder that was made from it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from posedreamer_assets.storage.checkpoints import StoredFolder
from posedreamer_assets.storage.upkeep import Plan
from posedreamer_assets.tables.fields import SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.storage.store import LanceStore

RELEASES = ("dataset",)  # kept until a person asks for less
NAMED_IN_ROWS = (  # checkpoint, table and column that holds its digest
    ("dpo_checkpoint", "base_raw_generations", "adapter"),
    ("dpo_checkpoint", "hard_raw_generations", "adapter"),
)
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


def remove_superseded(store: "LanceStore", plan: Plan, now: datetime) -> Removed:
    """Remove what the plan does not keep; safe beside writers and readers that take less than `plan.keep`."""
    folders, before = store.checkpoint_folders, now - plan.keep
    stored = folders.stored()
    old = superseded(stored, lambda: _named(store), lambda name: _named_in_rows(store, name), plan, before)
    removed = [folder for folder in old if folders.remove(folder.place, before)]
    left = folders.remove_leftovers(before)
    present = {folder.place for folder in stored} - {folder.place for folder in removed}
    freed = sum(folder.bytes for folder in removed) + sum(left) + folders.remove_copies(present, before)
    tags = _remove_tags(store, stored, present, before)
    return Removed(tuple(folder.place for folder in removed), tuple(tags), len(left), freed)


def superseded(
    stored: Sequence[StoredFolder],
    named: Callable[[], set[str]],
    named_in_rows: Callable[[str], set[str]],
    plan: Plan,
    before: datetime,
) -> list[StoredFolder]:
    """The folders that nothing keeps.

    Args:
        stored: every folder.
        named: places that table `checkpoints` names.
        named_in_rows: digests of checkpoints of that name that stored rows hold.
        plan: how many of a name stay.
        before: folders written later stay.
    """
    found: list[StoredFolder] = []
    places = named() if any(folder.written < before for folder in stored) else set()
    for name in sorted({folder.name for folder in stored}):
        limit = plan.releases if name in RELEASES else plan.checkpoints
        own = [folder for folder in stored if folder.name == name and folder.place not in places]
        newest_first = sorted(own, key=lambda folder: (folder.written, folder.place), reverse=True)
        old = [folder for folder in newest_first[slice(limit, None)] if folder.written < before]
        if limit is not None and old:
            digests = named_in_rows(name)
            found += [folder for folder in old if folder.request not in digests]
    return found


def _named(store: "LanceStore") -> set[str]:
    versions = {None, *store.tags("checkpoints").values()}
    return {
        place
        for version in versions
        for place in store.read("checkpoints", columns=["path"], missing_ok=True, version=version)["path"].to_pylist()
    }


def _named_in_rows(store: "LanceStore", name: str) -> set[str]:
    found: set[str] = set()
    for checkpoint, table, column in NAMED_IN_ROWS:
        if checkpoint == name and store.version(table) is not None:
            for version in {None, *store.tags(table).values()}:
                found |= set(store.read(table, columns=[column], version=version)[column].unique().to_pylist())
    return found


def _remove_tags(store: "LanceStore", stored: Sequence[StoredFolder], present: set[str], before: datetime) -> list[str]:
    """Remove the tags of checkpoints of which no folder is left, unless one is being written."""
    folders: Mapping[str, StoredFolder] = {folder.place: folder for folder in stored}
    kept = {(folders[place].name, folders[place].request[:12]) for place in present}
    idle = {folder.name for folder in stored} - store.checkpoint_folders.being_written()
    removed: list[str] = []
    for table in SCHEMAS:
        for tag, changed in store.tag_times(table).items():
            match = _TAG.fullmatch(tag)
            if match and match[1] in idle and match.groups() not in kept and changed < before:
                store.untag(table, tag)
                removed.append(f"{table}:{tag}")
    return removed
