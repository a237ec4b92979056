"""A folder of pose files, local or a URI that pyarrow opens: `s3://bucket/prefix` (credentials from `AWS_*`), or a data set on
the model hub, `hf://datasets/owner/name` (token from `HF_TOKEN`)."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from posedreamer_assets.digests import digest
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.hub import is_no_answer, no_answer
from posedreamer_assets.poses.paths import LICENCE_NAMES, actual_path, shown_path, walk
from posedreamer_assets.seeds import unit_hash

if TYPE_CHECKING:
    from pyarrow import fs

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileStamp:
    """A file as a listing shows it; `path` is relative to its folder, parts joined by "/"."""

    path: str
    size: int
    mtime_ns: int

    @property
    def is_licence(self) -> bool:
        """Whether it states terms rather than poses."""
        return PurePosixPath(self.path).name in LICENCE_NAMES


class Folder:
    """A local folder, a single local file, or a URI, listed once.

    Paths are text: bytes of local names that are not UTF-8 are spelt as `\\xe9` (`poses.paths`).
    """

    def __init__(self, root: str) -> None:
        self.remote = "://" in root
        self.root = root.rstrip("/") if self.remote else str(Path(root).expanduser().resolve())
        self.name = PurePosixPath(self.root).name
        self._one_file = not self.remote and Path(self.root).is_file()
        self._base = str(Path(self.root).parent) if self._one_file else self.root  # what paths are relative to

    @cached_property
    def _opened(self) -> "tuple[fs.FileSystem, str]":
        from pyarrow import fs

        return fs.FileSystem.from_uri(self.root)

    @cached_property
    def stamps(self) -> dict[str, FileStamp]:
        """Pose and licence files by relative path, sorted; hidden files and folders are left out.

        Raises:
            PoseFileError: `empty` when there is no such folder; `unknown_layout` for a single file that is not read.
        """
        return {stamp.path: stamp for stamp in self._all if _is_wanted(stamp)}

    def unread(self) -> dict[str, int]:
        """How many files there are of each format that holds motion but is not read, by suffix."""
        from posedreamer_assets.poses.sources import unread_formats

        return unread_formats(stamp.path for stamp in self._all if not _is_pose(stamp.path))

    @cached_property
    def _all(self) -> list[FileStamp]:
        return sorted(self._listed() if self.remote else self._local(), key=lambda stamp: stamp.path)

    def _listed(self) -> Iterator[FileStamp]:
        from pyarrow import fs

        try:
            system, base = self._opened
            found = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
            there = bool(found) or system.get_file_info(base).type == fs.FileType.Directory
        except Exception as error:
            if not is_no_answer(error):
                raise
            raise PoseFileError(self.root, "empty", f"cannot be listed: {no_answer(error)}") from error
        if not there:
            raise PoseFileError(self.root, "empty", "no such folder")
        for info in found:
            if info.type == fs.FileType.File:  # the hub has no times of change
                yield FileStamp(info.path.removeprefix(base).lstrip("/"), info.size, info.mtime_ns or 0)

    def _local(self) -> Iterator[FileStamp]:
        """Local files are listed without pyarrow, which follows links in a circle and stops at names that are not UTF-8."""
        base = Path(self._base)
        if self._one_file:
            file = Path(self.root)
            if not _is_pose(file.name):
                raise PoseFileError(self.root, "unknown_layout", _what_to_do(file.suffix))
            files = [file, *(base / name for name in LICENCE_NAMES if (base / name).is_file())]
        elif base.is_dir():
            files = walk(base)
        else:
            raise PoseFileError(self.root, "empty", "no such file or folder")
        for file in files:
            try:
                found = file.stat()
            except FileNotFoundError:
                continue  # taken away since it was listed
            yield FileStamp(shown_path(file.relative_to(base).as_posix()), found.st_size, found.st_mtime_ns)

    def pose_paths(self) -> list[str]:
        """Relative paths of the pose files in the order in which batches take them: mixed, and the same everywhere."""
        return mixed(path for path, stamp in self.stamps.items() if not stamp.is_licence)

    def licences_of(self, paths: Iterable[str]) -> list[FileStamp]:
        """Licence files beside these files or above them."""
        places = {parent for path in paths for parent in PurePosixPath(path).parents}
        return [s for s in self.stamps.values() if s.is_licence and PurePosixPath(s.path).parent in places]

    def digest(self, stamp: FileStamp) -> str:
        """Digest of a file's bytes, read once in a process for each size and time of change."""
        return _file_digest(self, stamp)

    def read_digest(self, path: str) -> str:
        """Digest of a file's bytes, read now."""
        state = blake2b(digest_size=16)
        with self._open(path) as stream:
            while block := stream.read(_BLOCK):
                state.update(block)
        return state.hexdigest()

    def _open(self, path: str) -> AbstractContextManager[Any]:
        if not self.remote:
            return actual_path(Path(self._base) / path).open("rb")
        system, base = self._opened
        return system.open_input_stream(f"{base}/{path}")

    def local_copy(self, paths: Sequence[str]) -> Path:
        """A local folder that holds at least these files: the folder itself, or a copy of them in a temporary one."""
        if not self.remote:
            return Path(self._base)
        stamps = [self.stamps[path] for path in paths] + self.licences_of(paths)
        target = Path(tempfile.gettempdir()) / "posedreamer_pose_files" / digest([self.root, stamps])
        for stamp in stamps:
            copy = target / stamp.path
            if copy.exists() and copy.stat().st_size == stamp.size:
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=copy.parent, prefix=".", delete=False) as scratch:
                with self._open(stamp.path) as stream:
                    while block := stream.read(_BLOCK):
                        scratch.write(block)
                Path(scratch.name).replace(copy)
        return target

    def __hash__(self) -> int:
        return hash(self.root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.root == other.root


def mixed(paths: Iterable[str]) -> list[str]:
    """Paths in an order that mixes them and is the same everywhere."""
    return sorted(paths, key=lambda path: (unit_hash(path), path))


def _is_wanted(stamp: FileStamp) -> bool:
    path = PurePosixPath(stamp.path)
    if any(part.startswith(".") for part in path.parts):
        return False
    return path.name in LICENCE_NAMES or _is_pose(path.name)


def _is_pose(name: str) -> bool:
    from posedreamer_assets.poses.sources import is_pose_file  # the readers take a moment to import

    return is_pose_file(name)


def _what_to_do(suffix: str) -> str:
    from posedreamer_assets.poses.sources import SUFFIXES, how_to_convert

    return how_to_convert(suffix) or f"suffix {suffix!r}; read are {', '.join(SUFFIXES)}"


@lru_cache(maxsize=1 << 17)
def _file_digest(folder: Folder, stamp: FileStamp) -> str:
    return folder.read_digest(stamp.path)
