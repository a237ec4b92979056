"""Folders of files that never change once they are named: in place on a disk, or in an object store with a local cache.

A folder is named `checkpoints/<name>/<digest of the request>-<digest of its files>` below the root. It appears whole:
it is filled beside its place and renamed, and what comes from an object store is compared with the digest in its name
before that. So a folder that is there is complete, after any crash, and several processes may make or fetch the same.

What names a place, a row of a table or an object in a store, may have been written by anybody: nothing outside the
checkpoints' folder is read, written or removed for it, through `..` or through symbolic links.

The time of change of a folder is when it was last made or asked for, see `superseded.py`.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from lance.file import LanceFileSession
from pyarrow import fs

from posedreamer_assets.digests import folder_digest
from posedreamer_assets.errors import StorageError
from posedreamer_assets.links import check_link
from posedreamer_assets.storage.failures import as_storage_errors, explained
from posedreamer_assets.storage.places import (
    DIGEST_CHARACTERS,
    FOLDER,
    SCRATCH,
    check_links,
    check_request,
    is_place,
    path_below,
)


@dataclass(frozen=True)
class StoredFolder:
    """A folder of a checkpoint.

    Attributes:
        place: below the storage root.
        written: when it was last made, or asked for on this machine.
        bytes: size of its files.
    """

    place: str
    written: datetime
    bytes: int

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.place.split("/")[1]

    @property
    def request(self) -> str:
        """Digest of what was asked for."""
        return self.place.rpartition("/")[2].rpartition("-")[0]


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
        """An empty folder beside the checkpoints of that name; removed afterwards unless it was stored.

        Raises:
            StorageError: it cannot be made.
        """
        base = self.local / FOLDER / name
        folder = base / f"{SCRATCH}{uuid.uuid4().hex}"
        check_link(base)
        with as_storage_errors(f"checkpoint {name!r}: {base} could not be made"):
            base.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        try:
            with _locked(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store(self, scratch: Path, request: str) -> str:
        """Give a filled scratch folder its name, upload it where the root is remote, and return its place.

        Raises:
            StorageError: a link out of the folder, a full disk, or a failed upload. Nothing refers to what was uploaded
                by then.
        """
        name = scratch.parent.name
        check_request(name, request)
        check_links(scratch, f"checkpoint {name!r}")
        with as_storage_errors(f"checkpoint {name!r}: could not be written"):
            place = f"{FOLDER}/{name}/{request}-{folder_digest(scratch)[:DIGEST_CHARACTERS]}"
            for file in _files(scratch):
                _sync(file)
            if self.remote is not None:
                self._upload(scratch, place)
            _move_into_place(scratch, self.local / place)
        return place

    def confirm(self, place: str) -> None:
        """Upload again what upkeep elsewhere has removed of a place since `store` was called for it.

        Only a folder of the same files that had been superseded for long can have been removed in that moment.

        Raises:
            StorageError: the object store failed.
        """
        if self.remote is not None:
            listed = {unquote(encoded) for encoded in self._list(place)}
            wanted = {f"{place}/{f.relative_to(self.local / place).as_posix()}" for f in _files(self.local / place)}
            if not wanted <= listed:
                self._upload(self.local / place, place)

    def _upload(self, folder: Path, place: str) -> None:
        session = self._session()
        for file in _files(folder):
            target = f"{place}/{file.relative_to(folder).as_posix()}"
            try:
                session.upload_file(file, target)
            except (OSError, RuntimeError) as error:
                name = place.split("/")[1]
                raise StorageError(
                    f"checkpoint {name!r}: could not upload {self.remote}/{target}: {explained(error)}"
                ) from error

    def find(self, place: str) -> Path:
        """The local folder of a place, fetched first where there is no copy yet.

        Raises:
            StorageError: a place that `store` cannot have named or that links lead out of, or files that are gone, cannot
                be fetched, or are not those that the name was made from.
        """
        if not is_place(place):
            raise StorageError(f"table 'checkpoints': {place!r} is no place of a checkpoint")
        final = self.local / place
        if _asked_for(final):
            check_links(final, "table 'checkpoints'")
            return final
        if self.remote is None:
            raise StorageError(f"table 'checkpoints': its files {final} are gone")
        with self.scratch(final.parent.name) as scratch:
            self._fetch(place, scratch)
            found = folder_digest(scratch)[:DIGEST_CHARACTERS]
            if not final.name.endswith(f"-{found}"):
                raise StorageError(
                    f"table 'checkpoints': the files under {self.remote}/{place} have the digest {found}, "
                    f"expected {final.name.rpartition('-')[2]}: one is damaged or missing"
                )
            with as_storage_errors(f"{final} could not be made"):
                _move_into_place(scratch, final)
        return final

    # Removing

    def stored(self) -> list[StoredFolder]:
        """Every folder in the storage root, finished ones and those whose upload was cut short.

        Raises:
            StorageError: the object store failed.
        """
        return self._stored_locally() if self.remote is None else self._stored_remotely()

    def remove(self, place: str, before: datetime) -> bool:
        """Remove a folder from the storage root unless it was written or asked for since; returns whether it went.

        Raises:
            StorageError: the object store failed.
        """
        if self.remote is None:
            return self._remove_locally(place, before)
        system, base = self._file_system()
        if any(written >= before for _, written, _ in _objects(system, f"{base}/{place}")):
            return False
        session = self._session()
        try:
            for encoded in session.list(place):
                session.delete_file(unquote(encoded))
        except (OSError, RuntimeError) as error:
            raise StorageError(f"could not remove {self.remote}/{place}: {explained(error)}") from error
        return True

    def remove_copies(self, stored: Collection[str], before: datetime) -> int:
        """Remove local copies, not used since, of folders that the object store has no longer; returns their bytes."""
        if self.remote is None:
            return 0
        gone = [folder for folder in self._stored_locally() if folder.place not in stored and folder.written < before]
        return sum(folder.bytes for folder in gone if self._remove_locally(folder.place, before))

    def remove_leftovers(self, before: datetime) -> list[int]:
        """Remove unfinished folders that no living process of this machine holds; returns the bytes of each."""
        removed: list[int] = []
        for folder in self._unfinished():
            size = _size(folder)
            if _time(folder) < before and not _is_locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(size)
        return removed

    def being_written(self) -> set[str]:
        """Names of checkpoints of which a process of this machine holds an unfinished folder."""
        return {folder.parent.name for folder in self._unfinished() if _is_locked(folder)}

    def _unfinished(self) -> list[Path]:
        return [folder for folder in self._folders() if folder.name.startswith(SCRATCH)]

    def _folders(self) -> list[Path]:
        """What is really in the checkpoints' folder: links may lead anywhere."""
        names = [path for path in sorted((self.local / FOLDER).glob("*")) if not path.is_symlink()]
        return [path for name in names for path in sorted(name.glob("*")) if path.is_dir() and not path.is_symlink()]

    def _stored_locally(self) -> list[StoredFolder]:
        folders = [f for f in self._folders() if is_place(f.relative_to(self.local).as_posix())]
        return [StoredFolder(f.relative_to(self.local).as_posix(), _time(f), _size(f)) for f in folders]

    def _stored_remotely(self) -> list[StoredFolder]:
        system, base = self._file_system()
        found: dict[str, list[tuple[datetime, int]]] = {}
        for path, written, size in _objects(system, f"{base}/{FOLDER}"):
            parts = path.removeprefix(f"{base}/").split("/")
            place = "/".join(parts[:3])
            if len(parts) > 3 and is_place(place):
                found.setdefault(place, []).append((written, size))
        return [StoredFolder(p, max(w for w, _ in o), sum(b for _, b in o)) for p, o in sorted(found.items())]

    def _remove_locally(self, place: str, before: datetime) -> bool:
        final = self.local / place
        gone = final.with_name(f"{SCRATCH}{uuid.uuid4().hex}")
        try:
            final.rename(gone)
        except FileNotFoundError:
            return False
        if _time(gone) >= before:
            _move_into_place(gone, final)  # somebody has asked for it in this moment
        shutil.rmtree(gone, ignore_errors=True)
        return not final.is_dir()

    def _file_system(self) -> tuple[fs.FileSystem, str]:
        """Object stores tell Lance's sessions no times."""
        assert self.remote is not None
        given = {name.removeprefix("aws_"): value for name, value in (self._options or {}).items()}
        if not given.keys() & {"access_key_id", "endpoint"}:
            system, base = fs.FileSystem.from_uri(self.remote)
            return system, base.rstrip("/")
        scheme, _, host = given.get("endpoint", "").rpartition("://")
        named = {"access_key_id": "access_key", "secret_access_key": "secret_key", "session_token": "session_token"}
        options = {to: given[name] for name, to in {**named, "region": "region"}.items() if name in given}
        s3 = fs.S3FileSystem(**options, endpoint_override=host or None, scheme=scheme or "https")
        return s3, self.remote.partition("://")[2].rstrip("/")

    # Object stores

    def _list(self, place: str) -> list[str]:
        try:
            return self._session().list(place)
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{self.remote}/{place} could not be listed: {explained(error)}") from error

    def _fetch(self, place: str, into: Path) -> None:
        session = self._session()
        try:
            listed = session.list(place)
            for encoded in listed:
                target = into / path_below(place, unquote(encoded))
                target.parent.mkdir(parents=True, exist_ok=True)
                session.download_file(unquote(encoded), target)
        except (OSError, RuntimeError) as error:
            what = f"could not fetch {self.remote}/{place}: {explained(error)}"
            raise StorageError(f"table 'checkpoints': {what}") from error
        if not listed:
            raise StorageError(f"table 'checkpoints': its files {self.remote}/{place} are gone")

    def _session(self) -> LanceFileSession:
        assert self.remote is not None
        try:
            return LanceFileSession(self.remote, storage_options=self._options)
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{self.remote} could not be opened: {explained(error)}") from error


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _sync(file: Path) -> None:
    """Have the disk write the file, so that its folder's name is not there before its bytes after a loss of power."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _move_into_place(scratch: Path, final: Path) -> None:
    """Rename a finished folder; an equal one that is there already stays."""
    os.utime(scratch)
    for attempt in range(3):
        try:
            scratch.rename(final)
            return
        except OSError:
            # An equal one is there. It may be removed in this moment, but not once it was asked for.
            if _asked_for(final):
                return
            if attempt == 2:
                raise


def _asked_for(final: Path) -> bool:
    """Whether a folder is there; upkeep sees that somebody wants it."""
    for wait in (0.0, 0.05):  # upkeep may just be putting it back
        time.sleep(wait)
        if final.is_dir():
            with suppress(OSError):  # it may be another user's, or on a disk that must not be written
                os.utime(final)
            return True
    return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which goes with the process."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_SH)
        yield
    finally:
        os.close(opened)


def _is_locked(folder: Path) -> bool:
    try:
        opened = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False


def _time(folder: Path) -> datetime:
    return datetime.fromtimestamp(folder.stat().st_mtime, UTC)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))


def _objects(system: fs.FileSystem, place: str) -> Iterator[tuple[str, datetime, int]]:
    """Path, time of writing and size of every object below a place."""
    try:
        listed = system.get_file_info(fs.FileSelector(place, recursive=True, allow_not_found=True))
    except OSError as error:
        raise StorageError(f"{place} could not be listed: {explained(error)}") from error
    for info in listed:
        if info.type == fs.FileType.File:
            yield info.path, info.mtime, info.size
