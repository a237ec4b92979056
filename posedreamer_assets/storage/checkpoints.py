"""Folders of files that never change once they are named: in place on a disk, or in an object store with a local cache.

A folder is named `checkpoints/<name>/<digest of the request>-<digest of its files>` below the root. It appears whole:
it is filled beside its place and renamed, and what comes from an object store is compared with the digest in its name
before that. So a folder that is there is complete, after any crash, and several processes may make or fetch the same.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from lance.file import LanceFileSession

from posedreamer_assets.digests import folder_digest
from posedreamer_assets.errors import StorageError

FOLDER = "checkpoints"
SCRATCH = ".writing-"
_DIGEST_CHARACTERS = 12


class CheckpointFolders:
    """The folders of one storage root.

    Args:
        local: the root itself where it is a folder, else the folder that keeps copies.
        remote: URI of the object store's root; None where `local` is the root.
        storage_options: for the object store.
    """

    def __init__(self, local: Path, remote: str | None, storage_options: dict[str, str] | None) -> None:
        self.local = local
        self.remote = remote
        self._options = storage_options

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder beside the checkpoints of that name; removed afterwards unless it was stored."""
        base = self.local / FOLDER / name
        base.mkdir(parents=True, exist_ok=True)
        folder = base / f"{SCRATCH}{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store(self, scratch: Path, request: str) -> str:
        """Give a filled scratch folder its name, upload it where the root is remote, and return its place.

        Raises:
            StorageError: the upload failed. Nothing refers to what was uploaded by then.
        """
        name = scratch.parent.name
        place = f"{FOLDER}/{name}/{request}-{folder_digest(scratch)[:_DIGEST_CHARACTERS]}"
        for file in _files(scratch):
            _sync(file)
        if self.remote is not None:
            session = self._session()
            for file in _files(scratch):
                target = f"{place}/{file.relative_to(scratch).as_posix()}"
                try:
                    session.upload_file(file, target)
                except (OSError, RuntimeError) as error:
                    raise StorageError(
                        f"checkpoint {name!r}: could not upload {self.remote}/{target}: {error}"
                    ) from error
        _move_into_place(scratch, self.local / place)
        return place

    def find(self, place: str) -> Path:
        """The local folder of a place, fetched first where there is no copy yet.

        Raises:
            StorageError: its files are gone, cannot be fetched, or are not those that its name was made from.
        """
        final = self.local / place
        if final.is_dir():
            return final
        if self.remote is None:
            raise StorageError(f"table 'checkpoints': its files {final} are gone")
        with self.scratch(final.parent.name) as scratch:
            self._fetch(place, scratch)
            found = folder_digest(scratch)[:_DIGEST_CHARACTERS]
            if not final.name.endswith(f"-{found}"):
                raise StorageError(
                    f"table 'checkpoints': the files under {self.remote}/{place} have the digest {found}, "
                    f"expected {final.name.rpartition('-')[2]}: one is damaged or missing"
                )
            _move_into_place(scratch, final)
        return final

    def _fetch(self, place: str, into: Path) -> None:
        session = self._session()
        try:
            listed = session.list(place)
            for encoded in listed:
                target = into / Path(unquote(encoded)).relative_to(place)
                target.parent.mkdir(parents=True, exist_ok=True)
                session.download_file(unquote(encoded), target)
        except (OSError, RuntimeError) as error:
            raise StorageError(f"table 'checkpoints': could not fetch {self.remote}/{place}: {error}") from error
        if not listed:
            raise StorageError(f"table 'checkpoints': its files {self.remote}/{place} are gone")

    def _session(self) -> LanceFileSession:
        assert self.remote is not None
        try:
            return LanceFileSession(self.remote, storage_options=self._options)
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{self.remote} could not be opened: {error}") from error


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _sync(file: Path) -> None:
    """Have the disk write the file, so that its folder's name is not there before its bytes after a loss of power."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _move_into_place(scratch: Path, final: Path) -> None:
    """Rename a finished folder; an equal one that is there already stays."""
    try:
        scratch.rename(final)
    except OSError:
        if not final.is_dir():
            raise
