"""Names of versions."""

from datetime import datetime

from lance import LanceDataset

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.failures import explained


def put(dataset: LanceDataset, table: str, name: str, version: int) -> None:
    """Make or move a tag; raises StorageError where that fails."""
    tags = dataset.tags
    try:
        # Several writers may make the same tag.
        if name not in tags.list():
            tags.create(name, version)
        else:
            tags.update(name, version)
    except (ValueError, OSError) as error:
        if name not in tags.list() or tags.list()[name]["version"] != version:
            raise StorageError(
                f"table {table!r}, version {version}: could not be tagged {name!r}: {explained(error)}"
            ) from error


def times(dataset: LanceDataset) -> dict[str, datetime]:
    """When each tag was last made or moved."""
    tags = dataset.tags.list()
    return {name: max(filter(None, (tag["created_at"], tag["updated_at"]))) for name, tag in tags.items()}


def remove(dataset: LanceDataset, table: str, name: str) -> None:
    """Remove a tag; raises StorageError where that fails."""
    try:
        dataset.tags.delete(name)
    except (ValueError, OSError) as error:
        raise StorageError(f"table {table!r}: tag {name!r} could not be removed: {explained(error)}") from error


def of_checkpoint(name: str, key_digest: str) -> str:
    """The tag of what a checkpoint was made from."""
    return f"{name}-{key_digest[:12]}"
