"""PyTorch datasets that read the table itself: nothing is exported, nothing is copied.

    from torch.utils.data import DataLoader
    from posedreamer_assets.export.torch import SampleDataset, SampleOrder, SampleStream

    samples = SampleDataset("posedreamer_home/storage", split="train")       # random access
    order = SampleOrder(len(samples), seed=0, rank=0, ranks=1)               # shuffled, resumable
    loader = DataLoader(samples, batch_size=64, sampler=order, num_workers=4, multiprocessing_context="spawn")

    stream = SampleStream("posedreamer_home/storage", split="train", seed=0) # shards itself over workers and ranks
    loader = DataLoader(stream, batch_size=64, num_workers=4, multiprocessing_context="spawn")

A sample is a person; people of one image share its pixels. Both keep to the version of the table that was the newest when
they were made, or to the one they are given: who trains while the graph writes sees one dataset. Samples are ordered by
their id, so an order is the same wherever rows lie.

Lance does not survive a fork: loaders with workers are given `multiprocessing_context="spawn"` or `"forkserver"`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.source import RandomRows
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import BODY_COLUMNS
from posedreamer_assets.tables.images import decode_rgb

COLUMNS = (
    *("sample_id", "image", *BODY_COLUMNS, "cam_rotation", "cam_translation", "focal_px", "principal_px"),
    *("keypoints_2d", "keypoints_visible", "joints_2d", "joints_visible", "joints_cam_m", "bbox"),
)
"""What a sample holds unless other columns are asked for."""
_SHAPES = {"cam_rotation": (3, 3), "keypoints_2d": (17, 2), "joints_2d": (55, 2), "joints_cam_m": (55, 3)}
# Rows that lie together are read together; that many such runs are mixed with each other.
RUN_ROWS, MIXED_RUNS = 64, 32

Sample = dict[str, Any]


class _Rows:
    """Samples of one version of the table by number, ordered by sample id.

    Args:
        storage: the store, or its root: a folder or an URI.
        split: only this split; None reads all.
        columns: of each sample.
        version: a version or tag of the table; None takes the newest.
        transform: applied to each sample.
        decode: turns an encoded image into what samples hold; None keeps the bytes.
    """

    def __init__(
        self,
        storage: LanceStore | str | Path,
        split: str | None,
        columns: Sequence[str],
        version: int | str | None,
        transform: Callable[[Sample], Any] | None,
        decode: Callable[[bytes], Any] | None,
    ) -> None:
        store = storage if isinstance(storage, LanceStore) else LanceStore(storage)
        self._rows = RandomRows(store, split, columns, version)
        self.version, self._columns = self._rows.version, self._rows.columns
        self._transform, self._decode = transform, decode

    def __len__(self) -> int:
        return len(self._rows)

    def fetch(self, numbers: Sequence[int] | np.ndarray) -> pa.Table:
        """Rows of these numbers, in that order, in one request to each table."""
        return self._rows.fetch(numbers)

    def samples(self, rows: pa.Table) -> Iterator[Any]:
        """The samples of fetched rows; each image is decoded when its sample is asked for."""
        columns = {name: self._values(name, rows.column(name)) for name in self._columns}
        for i in range(rows.num_rows):
            sample = {name: self._decoded(values[i]) for name, values in columns.items()}
            yield sample if self._transform is None else self._transform(sample)

    def _decoded(self, value: Any) -> Any:
        return self._decode(value) if self._decode is not None and isinstance(value, bytes) else value

    def _values(self, name: str, column: pa.ChunkedArray) -> Sequence[Any] | torch.Tensor:
        if pa.types.is_large_binary(column.type):
            return column.to_pylist()
        array = column.combine_chunks()
        if pa.types.is_fixed_size_list(array.type):
            shape = _SHAPES.get(name, (array.type.list_size,))
            flat = array.flatten().to_numpy(zero_copy_only=False)
            return torch.from_numpy(np.array(flat)).reshape(len(array), *shape)
        if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
            return torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False)))
        return array.to_pylist()


def image_tensor(data: bytes) -> torch.Tensor:
    """An encoded image as uint8 (3, h, w)."""
    return torch.from_numpy(decode_rgb(data).copy()).permute(2, 0, 1)


class SampleDataset(Dataset[Any]):
    """Samples by number; a batch is one request. See the module for what it is given and `_Rows` for its arguments.

    A sample is a dictionary: `image` uint8 (3, h, w), labels as tensors in the frames of `records.DATASET`, texts.

    Raises:
        ExportError: there is no table, or no row of the split.
    """

    def __init__(
        self,
        storage: LanceStore | str | Path,
        *,
        split: str | None = "train",
        columns: Sequence[str] = COLUMNS,
        version: int | str | None = None,
        transform: Callable[[Sample], Any] | None = None,
        decode: Callable[[bytes], Any] | None = image_tensor,
    ) -> None:
        self._rows = _Rows(storage, split, columns, version, transform, decode)

    @property
    def version(self) -> int | str | None:
        """The version of the table that is read."""
        return self._rows.version

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Any:
        return next(self._rows.samples(self._rows.fetch([number])))

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """What PyTorch's loader calls for a whole batch."""
        return list(self._rows.samples(self._rows.fetch(numbers)))


def epoch_order(samples: int, seed: int, epoch: int, run_rows: int, mixed_runs: int) -> np.ndarray:
    """The order of an epoch: runs of neighbours shuffled, then samples shuffled within every `mixed_runs` runs.

    Reads stay near each other, which object stores and disks like, and each batch mixes many runs.
    """
    rng = np.random.default_rng([seed, epoch])
    runs = np.array_split(np.arange(samples), max(1, -(-samples // run_rows)))
    order = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
    window = run_rows * mixed_runs
    return np.concatenate([rng.permutation(order[i : i + window]) for i in range(0, samples, window)])


def share(order: np.ndarray, part: int, parts: int) -> np.ndarray:
    """One of equal parts of an order; its first samples are given out twice where it cannot be divided."""
    size = -(-len(order) // parts)
    padded = np.resize(order, size * parts)
    return padded[part * size : (part + 1) * size]


class SampleOrder(Sampler[int]):
    """Which samples of a `SampleDataset` come next, for one rank: shuffled anew each epoch, and resumable.

    The state counts samples that were given to the loader's workers, of which some are still under way; pass
    `state_dict` the batches that were trained on to go on exactly there.

    Args:
        samples: length of the dataset.
        seed: of all orders.
        rank: this process among those that train together.
        ranks: how many there are; each gets equally many samples.
        shuffle: False goes through the samples by id.
    """

    def __init__(
        self,
        samples: int,
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        shuffle: bool = True,
        run_rows: int = RUN_ROWS,
        mixed_runs: int = MIXED_RUNS,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ExportError(f"rank {rank} of {ranks}: expected 0 to {ranks - 1}")
        self._samples, self._seed, self._rank, self._ranks = samples, seed, rank, ranks
        self._shuffle, self._runs = shuffle, (run_rows, mixed_runs)
        self._epoch, self._given = 0, 0

    def __len__(self) -> int:
        return -(-self._samples // self._ranks)

    def __iter__(self) -> Iterator[int]:
        mine = share(self._order(), self._rank, self._ranks)
        for number in mine[self._given :]:
            self._given += 1
            yield int(number)
        self._epoch, self._given = self._epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch; without it each pass is the next epoch."""
        self._epoch, self._given = epoch, 0

    def state_dict(self, trained: int | None = None) -> dict[str, int]:
        """Where this rank is.

        Args:
            trained: samples of this epoch that this rank has trained on; None takes those given to the loader.
        """
        given = self._given if trained is None else trained
        return {
            "epoch": self._epoch,
            "given": given,
            "seed": self._seed,
            "samples": self._samples,
            "ranks": self._ranks,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on there.

        Raises:
            ExportError: a state of another seed, dataset or number of ranks.
        """
        _check_state(state, {"seed": self._seed, "samples": self._samples, "ranks": self._ranks})
        self._epoch, self._given = state["epoch"], state["given"]

    def _order(self) -> np.ndarray:
        if not self._shuffle:
            return np.arange(self._samples)
        return epoch_order(self._samples, self._seed, self._epoch, *self._runs)


class SampleStream(IterableDataset[Any]):
    """Samples one after another, divided over ranks and the loader's workers, shuffled anew each epoch, resumable.

    `state_dict` and `load_state_dict` are those of the copy that is asked: with `num_workers=0` this one, with workers
    those of torchdata's `StatefulDataLoader`, which asks them.

    Args:
        storage, split, columns, version, transform, decode: as for `SampleDataset`.
        seed, rank, ranks, shuffle, run_rows, mixed_runs: as for `SampleOrder`.
        read_rows: rows of one request.
    """

    def __init__(
        self,
        storage: LanceStore | str | Path,
        *,
        split: str | None = "train",
        columns: Sequence[str] = COLUMNS,
        version: int | str | None = None,
        transform: Callable[[Sample], Any] | None = None,
        decode: Callable[[bytes], Any] | None = image_tensor,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        shuffle: bool = True,
        run_rows: int = RUN_ROWS,
        mixed_runs: int = MIXED_RUNS,
        read_rows: int = 64,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ExportError(f"rank {rank} of {ranks}: expected 0 to {ranks - 1}")
        self._rows = _Rows(storage, split, columns, version, transform, decode)
        self._seed, self._rank, self._ranks = seed, rank, ranks
        self._shuffle, self._runs, self._read_rows = shuffle, (run_rows, mixed_runs), read_rows
        self._epoch, self._given = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch in copies made from now on; without it each pass of a copy is the next epoch."""
        self._epoch, self._given = epoch, 0

    def __iter__(self) -> Iterator[Any]:
        mine = self._mine()[self._given :]
        requests = [mine[i : i + self._read_rows] for i in range(0, len(mine), self._read_rows)]
        for rows in _one_ahead(self._rows.fetch, requests):
            for sample in self._rows.samples(rows):
                self._given += 1
                yield sample
        self._epoch, self._given = self._epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where this copy is: after the last sample that it gave."""
        return {"epoch": self._epoch, "given": self._given, **self._identity()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on there.

        Raises:
            ExportError: a state of another seed, dataset, number of ranks or of workers.
        """
        _check_state(state, self._identity())
        self._epoch, self._given = state["epoch"], state["given"]

    def _identity(self) -> dict[str, int]:
        workers = _workers()[1]
        return {"seed": self._seed, "samples": len(self._rows), "ranks": self._ranks, "workers": workers}

    def _mine(self) -> np.ndarray:
        samples = len(self._rows)
        order = np.arange(samples)
        if self._shuffle:
            order = epoch_order(samples, self._seed, self._epoch, *self._runs)
        worker, workers = _workers()
        return share(order, self._rank * workers + worker, self._ranks * workers)


def _one_ahead(fetch: Callable[[np.ndarray], pa.Table], requests: Sequence[np.ndarray]) -> Iterator[pa.Table]:
    """Fetched rows in order; while one is used, a thread fetches the next."""
    if not requests:
        return
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(fetch, requests[0])
        for request in requests[1:]:
            rows, coming = coming.result(), thread.submit(fetch, request)
            yield rows
        yield coming.result()


def _workers() -> tuple[int, int]:
    """This worker of a loader, and how many there are."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _check_state(state: Mapping[str, int], identity: Mapping[str, int]) -> None:
    for name, value in identity.items():
        if state.get(name) != value:
            raise ExportError(f"this state has {name}={state.get(name)}, expected {value}: it belongs to another run")
