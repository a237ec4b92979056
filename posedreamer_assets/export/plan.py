"""Which image goes into which shard: decided by a hash of its id, so that a change of some images touches few shards.

The shards of a split are the leaves of a binary tree over the bits of the hash: a leaf with more images than a shard may
have is parted by the next bit. Whether an image comes or goes, the other leaves stay as they are. A shard is named after
its bits: `train-010`, or `train-all` where there is one.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ExportError

_BITS = 64
# Numbers of images and people: JSON readers hold whole numbers to 2**53.
_LARGEST_NUMBER = 2**53
_UNSPLIT = "unsplit"
# Ids and splits become names of files; others could lie outside of the folder, or break lists of checksums.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Planned:
    """A shard before it is written.

    Attributes:
        name: of its files.
        split: of its images.
        people: sample ids by image id; both in the order in which they are written.
        numbers: a number for each image and sample id, unique in the whole dataset and the same in every export.
        digest: of all that its files are made from.
    """

    name: str
    split: str
    people: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, int]
    digest: str

    @property
    def samples(self) -> int:
        """People in the shard."""
        return sum(len(names) for names in self.people.values())


def chosen_rows(index: pa.Table, splits: Sequence[str]) -> pa.Table:
    """Rows of these splits, all where none is named; rows without a split are of split `unsplit`.

    Raises:
        ExportError: nothing is there, or an id that cannot be the name of a file.
    """
    found = [value or _UNSPLIT for value in index.column("split").to_pylist()]
    missing = [name for name in splits if name not in found]
    if missing or not found:
        raise ExportError(f"no rows of split {missing[0]!r}" if missing else "the table 'dataset' has no rows")
    for column, names in (("split", set(found)), ("image_id", index.column("image_id").unique().to_pylist())):
        check_names(f"{column} of table 'dataset'", names)
    index = index.set_column(index.column_names.index("split"), "split", pa.array(found, pa.string()))
    return index.filter(pa.array([split in splits for split in found])) if splits else index


def check_names(what: str, names: Iterable[str]) -> None:
    """Raises ExportError where a name cannot be that of a file below a folder."""
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            raise ExportError(
                f"{what}: {name!r} cannot be the name of a file: expected letters, digits, '.', '_', '-', '/'"
            )


def plan_shards(index: pa.Table, size: int, made_by: Mapping[str, object]) -> list[Planned]:
    """The shards of these rows, by name.

    Args:
        index: ordered by image and person.
        size: images of a shard at most.
        made_by: what else the files are made from.

    Raises:
        ExportError: the people of one image are of several splits.
    """
    columns = (index.column(name).to_pylist() for name in ("image_id", "sample_id", "split", "row_digest"))
    people: dict[str, list[tuple[str, str]]] = {}
    split_of: dict[str, str] = {}
    for image, sample, split, row in zip(*columns, strict=True):
        if split_of.setdefault(image, split) != split:
            raise ExportError(f"image {image!r}: its people are of splits {split_of[image]!r} and {split!r}")
        people.setdefault(image, []).append((sample, row))
    numbers = stable_numbers(sorted({*people, *(sample for rows in people.values() for sample, _ in rows)}))
    plan = []
    for split in sorted(set(split_of.values())):
        hashed = sorted((_hash(image), image) for image, own in split_of.items() if own == split)
        for prefix, leaf in _leaves(hashed, size):
            rows = {image: people[image] for image in sorted(leaf)}
            names = {image: tuple(sample for sample, _ in found) for image, found in rows.items()}
            own = {name: numbers[name] for image, found in names.items() for name in (image, *found)}
            content = digest({**made_by, "split": split, "rows": list(rows.items()), "numbers": own})
            plan.append(Planned(f"{split}-{prefix or 'all'}", split, names, own, content))
    return plan


def stable_numbers(names: Sequence[str]) -> dict[str, int]:
    """A positive whole number for each name, from its hash; where two meet, the later one takes the next hash."""
    numbers: dict[str, int] = {}
    taken: set[int] = set()
    for name in names:
        attempt = 0
        while (number := 1 + _hash(f"{name}#{attempt}" if attempt else name) % (_LARGEST_NUMBER - 1)) in taken:
            attempt += 1
        taken.add(number)
        numbers[name] = number
    return numbers


def _leaves(hashed: list[tuple[int, str]], size: int, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Bits of each leaf and the images in it; leaves without images are left out."""
    if len(hashed) <= size or len(prefix) == _BITS:
        if hashed:
            yield prefix, [image for _, image in hashed]
        return
    bit = 1 << (_BITS - 1 - len(prefix))
    for digit, wanted in (("0", 0), ("1", bit)):
        yield from _leaves([pair for pair in hashed if pair[0] & bit == wanted], size, prefix + digit)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=_BITS // 8).digest())
