"""Datasets over the table: every sample once, the same in any layout, divided evenly, resumed exactly."""

import os
import pickle
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from posedreamer_assets.digests import row_digests
from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.torch import SampleDataset, SampleOrder, SampleStream, _one_ahead, epoch_order
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import decode, encode_png

KEYS = ("procedural-0000", "procedural-0001", "hard-0000")
ROWS = 25


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose images tell which sample they are; partitions were written in another order than that of ids."""
    folder = tmp_path_factory.mktemp("storage")
    store = LanceStore(folder)
    for key in KEYS:
        write(store, key)
    write(store, "hard-0000")
    for key in reversed(KEYS):  # images lie in another order than labels
        store.replace_partition("raw_generations", key, pictures(key), input_digest="one")
    return folder


def write(store: LanceStore, key: str, count: int = ROWS) -> None:
    store.replace_partition("raw_generations", key, pictures(key), input_digest="one")
    store.replace_partition("dataset", key, rows(key).slice(0, count), input_digest=str(count))


def pictures(key: str, blue: int = 7) -> pa.Table:
    made = []
    for i in range(ROWS):
        image, name = np.full((8, 8, 3), (KEYS.index(key), i, blue), np.uint8), f"{key}/{i:06d}"
        made.append({"sample_id": name, "partition_key": key, "image_id": name, "image": encode_png(image)})
    return pa.Table.from_pylist(made, schema=SCHEMAS["raw_generations"])


def rows(key: str) -> pa.Table:
    made, digests = [], row_digests(pictures(key).combine_chunks().to_batches()[0])
    for i in range(ROWS):
        name = f"{key}/{i:06d}"
        row = {"sample_id": name, "partition_key": key, "image_id": name, "person": 0, "image_digest": digests[i]}
        row |= {"split": "test" if i % 5 == 0 else "train", "source": "test", "licence": "CC0-1.0"}
        made.append(row | {"betas": [float(i)] * 10, "focal_px": float(i), "keypoints_2d": list(map(float, range(34)))})
    return pa.Table.from_pylist(made, schema=SCHEMAS["dataset"])


COLUMNS = ("sample_id", "image", "betas", "focal_px", "keypoints_2d")
TRAIN = sorted(f"{key}/{i:06d}" for key in KEYS for i in range(ROWS) if i % 5)


def check(sample: dict) -> str:
    key, _, number = sample["sample_id"].partition("/")
    assert sample["image"][:, 0, 0].tolist() == [KEYS.index(key), int(number), 7]
    assert sample["betas"].tolist() == [float(number)] * 10
    assert sample["focal_px"] == float(number)
    assert sample["keypoints_2d"].tolist() == np.arange(34.0).reshape(17, 2).tolist()
    return sample["sample_id"]


def test_samples_come_by_id_with_their_own_labels(root: Path) -> None:
    samples = SampleDataset(root, columns=COLUMNS)
    assert [check(samples[i]) for i in range(len(samples))] == TRAIN
    numbers = [5, 3, 3, 50, 0]
    assert [check(s) for s in samples.__getitems__(numbers)] == [TRAIN[n] for n in numbers]
    assert len(SampleDataset(root, split=None)) == len(KEYS) * ROWS


def test_a_loader_batches_them(root: Path) -> None:
    samples = SampleDataset(root, columns=COLUMNS)
    loader = DataLoader(samples, batch_size=16, sampler=SampleOrder(len(samples)))
    found = [(i, tuple(b["image"].shape[1:])) for b in loader for i in b["sample_id"]]
    assert sorted(i for i, _ in found) == TRAIN
    assert {shape for _, shape in found} == {(3, 8, 8)}


def test_images_can_stay_encoded_and_samples_be_transformed(root: Path) -> None:
    samples = SampleDataset(root, columns=("image",), decode=None, transform=lambda s: decode(s["image"]).mean())
    assert samples[0] == pytest.approx((2 + 1 + 7) / 3)


def test_the_version_stays_while_the_table_is_written(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    write(store, KEYS[0])
    samples, stream = SampleDataset(store, columns=COLUMNS), SampleStream(store, columns=COLUMNS)
    write(store, KEYS[0], 3)
    write(store, KEYS[1])
    expected = [name for name in TRAIN if name.startswith(KEYS[0])]
    assert [check(s) for s in samples.__getitems__(range(len(samples)))] == expected
    assert sorted(check(s) for s in stream) == expected
    assert len(SampleDataset(store, version=samples.version)) == len(samples)


def test_images_that_were_made_again_are_refused_unless_a_tag_keeps_them(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    write(store, KEYS[0])
    for table in ("dataset", "raw_generations"):
        store.tag(table, "v1", store.version(table) or 0)
    store.replace_partition("raw_generations", KEYS[0], pictures(KEYS[0], blue=9), input_digest="two")
    with pytest.raises(ExportError, match=r"made again since the dataset was.*--version"):
        SampleDataset(store, columns=COLUMNS)
    assert [check(s) for s in SampleDataset(store, columns=COLUMNS, version="v1").__getitems__([0, 3])]
    assert len(SampleDataset(store, columns=("sample_id", "betas"))) == 20  # labels alone need no image
    store.delete_partition("raw_generations", KEYS[0])
    with pytest.raises(ExportError, match="not in table 'raw_generations' any more"):
        SampleDataset(store, columns=COLUMNS)


def test_people_of_one_image_share_it(tmp_path: Path) -> None:
    store = LanceStore(tmp_path)
    write(store, KEYS[0])
    made = rows(KEYS[0]).to_pylist()
    first = made[1]
    for person in (1, 2):
        made.append(
            first | {"sample_id": f"{first['image_id']}/{person}", "person": person, "focal_px": 100.0 + person}
        )
    store.replace_partition(
        "dataset", KEYS[0], pa.Table.from_pylist(made, schema=SCHEMAS["dataset"]), input_digest="crowd"
    )
    samples = SampleDataset(store, columns=("sample_id", "focal_px", "image"))
    found = [s for s in samples.__getitems__(range(len(samples))) if s["sample_id"].startswith(first["image_id"])]
    assert [s["focal_px"].item() for s in found] == [1.0, 101.0, 102.0]
    assert all(s["image"][:, 0, 0].tolist() == [0, 1, 7] for s in found)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_share_evenly_and_leave_nothing_out(ranks: int) -> None:
    parts = [list(SampleOrder(60, seed=4, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    counts = Counter(n for part in parts for n in part)
    assert set(counts) == set(range(60))
    assert sum(counts.values()) - 60 < ranks


def test_each_epoch_has_its_own_order_and_each_seed(root: Path) -> None:
    order = SampleOrder(1000, seed=1)
    first, second = list(order), list(order)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second
    order.set_epoch(0)
    assert list(order) == first
    assert list(SampleOrder(1000, seed=2)) != first
    assert list(SampleOrder(5, shuffle=False)) == [0, 1, 2, 3, 4]


def test_batches_mix_many_runs() -> None:
    order = epoch_order(64 * 100, seed=0, epoch=0, run_rows=64, mixed_runs=32)
    runs = [len(set(batch // 64)) for batch in order[: 64 * 96].reshape(-1, 64)]
    assert min(runs) > 20
    window = order[: 64 * 32] // 64
    assert len(set(window.tolist())) <= 33  # reads stay within few runs


@pytest.mark.parametrize("stop", [0, 1, 17, 59])
def test_an_order_goes_on_where_it_stopped(stop: int) -> None:
    whole, again = SampleOrder(60, seed=3), SampleOrder(60, seed=3)
    expected = [*whole, *whole]
    order = SampleOrder(60, seed=3)
    iterator = iter(order)
    begun = [next(iterator) for _ in range(stop)]
    again.load_state_dict(order.state_dict())
    assert [*begun, *again, *again] == expected
    fetched_ahead = SampleOrder(60, seed=3)
    fetched_ahead.load_state_dict(whole.state_dict(trained=stop) | {"epoch": 0})
    assert list(fetched_ahead) == expected[stop:60]


def test_a_stream_goes_on_where_it_stopped(root: Path) -> None:
    whole = SampleStream(root, columns=COLUMNS, seed=3, read_rows=7, run_rows=5, mixed_runs=3)
    expected = [check(s) for s in (*whole, *whole)]
    assert sorted(expected[:60]) == TRAIN
    assert expected[:60] != expected[60:]
    stopped = SampleStream(root, columns=COLUMNS, seed=3, read_rows=7, run_rows=5, mixed_runs=3)
    iterator = iter(stopped)
    begun = [check(next(iterator)) for _ in range(23)]
    resumed = SampleStream(root, columns=COLUMNS, seed=3, read_rows=4, run_rows=5, mixed_runs=3)
    resumed.load_state_dict(stopped.state_dict())
    assert [*begun, *(check(s) for s in (*resumed, *resumed))] == expected


def test_states_of_another_run_are_refused(root: Path) -> None:
    state = SampleOrder(60, seed=3).state_dict()
    for other in (SampleOrder(60, seed=4), SampleOrder(61, seed=3), SampleOrder(60, seed=3, rank=1, ranks=2)):
        with pytest.raises(ExportError, match="another run"):
            other.load_state_dict(state)
    with pytest.raises(ExportError, match="another run"):
        SampleStream(root, seed=1).load_state_dict(SampleStream(root, seed=2).state_dict())


def test_workers_share_a_stream(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker has a copy that came to it by pickle, and knows which it is."""
    names: list[str] = []
    for worker in range(3):
        info = SimpleNamespace(id=worker, num_workers=3)
        monkeypatch.setattr("posedreamer_assets.export.torch.get_worker_info", lambda info=info: info)
        copy = pickle.loads(pickle.dumps(SampleStream(root, columns=COLUMNS, seed=5)))
        names += [check(sample) for sample in copy]
    assert sorted(names) == TRAIN


@pytest.mark.skipif(not os.environ.get("POSEDREAMER_TEST_LOADERS"), reason="set POSEDREAMER_TEST_LOADERS=1")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # one core is enough here
def test_workers_of_a_loader_share_a_stream(root: Path) -> None:
    stream = SampleStream(root, columns=COLUMNS, seed=5)
    loader = DataLoader(stream, batch_size=4, num_workers=2, multiprocessing_context="spawn")
    assert sorted(name for batch in loader for name in batch["sample_id"]) == TRAIN


@pytest.mark.skipif(not os.environ.get("POSEDREAMER_TEST_LOADERS"), reason="set POSEDREAMER_TEST_LOADERS=1")
@pytest.mark.filterwarnings("ignore")  # torchdata's own
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_the_workers_of_a_stream(root: Path, workers: int) -> None:
    loaders = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        stream = SampleStream(root, columns=("sample_id",), seed=5)
        options = {"multiprocessing_context": "spawn"} if workers else {}
        return loaders.StatefulDataLoader(stream, batch_size=4, num_workers=workers, **options)

    whole = [batch["sample_id"] for batch in loader()]
    stopped = loader()
    iterator = iter(stopped)
    begun = [next(iterator)["sample_id"] for _ in range(5)]
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert [*begun, *(batch["sample_id"] for batch in resumed)] == whole


def test_ranks_share_a_stream(root: Path) -> None:
    parts = [[check(s) for s in SampleStream(root, columns=COLUMNS, rank=r, ranks=4, seed=5)] for r in range(4)]
    assert {len(part) for part in parts} == {len(TRAIN) // 4}
    assert sorted(name for part in parts for name in part) == TRAIN


def test_a_fork_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = SampleDataset(root, columns=COLUMNS)
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ExportError, match="spawn"):
        samples[0]


def test_missing_tables_and_splits_are_named(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        SampleDataset(tmp_path)
    with pytest.raises(ExportError, match="no rows of split 'dev'"):
        SampleDataset(root, split="dev")
    with pytest.raises(ExportError, match="rank 2 of 2"):
        SampleStream(root, rank=2, ranks=2)


def test_labels_are_tensors_of_their_own(root: Path) -> None:
    """Writing to a sample does not reach another one or Arrow's memory."""
    samples = SampleDataset(root, columns=COLUMNS)
    first = samples[1]
    first["betas"] += 1
    first["image"] += 1
    assert isinstance(first["betas"], torch.Tensor)
    check(samples[1])


def test_requests_are_fetched_in_order_and_no_more_than_one_ahead() -> None:
    fetched: list[int] = []

    def fetch(numbers: np.ndarray) -> Any:
        fetched.append(int(numbers[0]))
        return fetched[-1]

    used = []
    for rows in _one_ahead(fetch, [np.array([i]) for i in range(6)]):
        used.append(rows)
        assert len(fetched) <= len(used) + 1
    assert used == fetched == list(range(6))
    assert list(_one_ahead(fetch, [])) == []


def test_what_a_request_raises_reaches_the_reader() -> None:
    def fetch(numbers: np.ndarray) -> Any:
        raise ExportError("gone")

    with pytest.raises(ExportError, match="gone"):
        list(_one_ahead(fetch, [np.array([0]), np.array([1])]))
