"""Symbolic links to nowhere."""

from pathlib import Path

from posedreamer_assets.errors import StorageError


def check_link(path: Path) -> None:
    """Raises StorageError where a symbolic link on the way leads nowhere, which would otherwise look like nothing there."""
    for link in (*reversed(path.parents), path):
        if link.is_symlink() and not link.exists():
            raise StorageError(
                f"{link} is a symbolic link to {link.readlink()}, which does not exist: mount or make what it leads to, or "
                "remove the link, and run again"
            )
