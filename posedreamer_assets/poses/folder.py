"""A folder of pose files, local or a URI that pyarrow opens (`s3://bucket/prefix`, with credentials from `AWS_*`)."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from posedreamer_assets.digests import digest
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.seeds import unit_hash

if TYPE_CHECKING:
    from pyarrow import fs

SUFFIXES = (".bvh", ".npz")
LICENCE_NAMES = frozenset(
    ("LICENSE", "LICENCE", "licence.txt", "license.txt", "LICENSE.txt", "LICENCE.txt", "LICENSE.md")
)
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
    """A local folder or a URI, listed once."""

    def __init__(self, root: str) -> None:
        self.remote = "://" in root
        self.root = root.rstrip("/") if self.remote else str(Path(root).expanduser().resolve())
        self.name = PurePosixPath(self.root).name

    @cached_property
    def _opened(self) -> "tuple[fs.FileSystem, str]":
        from pyarrow import fs

        if self.remote:
            return fs.FileSystem.from_uri(self.root)
        return fs.LocalFileSystem(), self.root

    @cached_property
    def stamps(self) -> dict[str, FileStamp]:
        """Pose and licence files by relative path, sorted; hidden files and folders are left out.

        Raises:
            PoseFileError: `empty` when there is no such folder.
        """
        from pyarrow import fs

        system, base = self._opened
        found = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        if not found and system.get_file_info(base).type != fs.FileType.Directory:
            raise PoseFileError(self.root, "empty", "no such folder")
        stamps = (
            FileStamp(info.path.removeprefix(base).lstrip("/"), info.size, info.mtime_ns)
            for info in found
            if info.type == fs.FileType.File
        )
        return {s.path: s for s in sorted(stamps, key=lambda s: s.path) if _is_wanted(s)}

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
        system, base = self._opened
        state = blake2b(digest_size=16)
        with system.open_input_stream(f"{base}/{path}") as stream:
            while block := stream.read(_BLOCK):
                state.update(block)
        return state.hexdigest()

    def local_copy(self, paths: Sequence[str]) -> Path:
        """A local folder that holds at least these files: the folder itself, or a copy of them in a temporary one."""
        if not self.remote:
            return Path(self.root)
        system, base = self._opened
        stamps = [self.stamps[path] for path in paths] + self.licences_of(paths)
        target = Path(tempfile.gettempdir()) / "posedreamer_pose_files" / digest([self.root, stamps])
        for stamp in stamps:
            copy = target / stamp.path
            if copy.exists() and copy.stat().st_size == stamp.size:
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=copy.parent, prefix=".", delete=False) as scratch:
                with system.open_input_stream(f"{base}/{stamp.path}") as stream:
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
    return path.suffix.lower() in SUFFIXES or path.name in LICENCE_NAMES


@lru_cache(maxsize=1 << 17)
def _file_digest(folder: Folder, stamp: FileStamp) -> str:
    return folder.read_digest(stamp.path)
