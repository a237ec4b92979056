"""Samples per second to a training loop: the table itself, WebDataset tars, Parquet and a folder of JPEGs.

    python benchmarks/loading.py [--samples 4000] [--size 256] [--seconds 4]

Synthetic rows are written once to a temporary folder in four ways. Each is then read in order and at random by batches
of 64, with the same decoder and the same labels. The ways take turns, so that whatever else the machine does meets all
alike; figures are medians over turns, and ratios to the fastest of the same run. A file system's cache holds all of it:
this measures the cost of finding, reading and decoding, not a disk. On a machine that does other things, processor time
is the steadier of the two figures.
"""

import argparse
import io
import random
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from posedreamer_assets.digests import row_digests
from posedreamer_assets.export.torch import SampleDataset, SampleStream, image_tensor
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.images import encode_jpeg
from posedreamer_assets.tables.rows import make_table

BATCH = 64
LABELS = ("betas", "body_pose", "keypoints_2d")
COLUMNS = ("sample_id", "image", *LABELS)
Batches = Iterator[list[dict]]


def make_rows(samples: int, size: int) -> tuple[pa.Table, pa.Table]:
    """Rows of the dataset and its images: each is another smooth pattern, of the size in bytes that photographs have."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (64, size // 8, size // 8, 3))
    base = [np.kron(c, np.ones((8, 8, 1))) for c in coarse]
    images = []
    for i in range(samples):
        noise = rng.normal(0, 12, (size, size, 1))
        images.append(encode_jpeg(np.clip(base[i % 64] + noise, 0, 255).astype(np.uint8), 90))
    ids = [f"bench-0000/{i:06d}" for i in range(samples)]
    pictures = make_table(
        {"sample_id": ids, "partition_key": ["bench-0000"] * samples, "image_id": ids, "image": images},
        SCHEMAS["raw_generations"],
    )
    columns = []
    for field in SCHEMAS["dataset"]:
        if field.name in ("sample_id", "image_id"):
            columns.append(pa.array(ids))
        elif field.name == "person":
            columns.append(pa.array([0] * samples, field.type))
        elif field.name == "image_digest":
            columns.append(pa.array(row_digests(pictures)))
        elif field.name in ("partition_key", "source", "licence", "split"):
            columns.append(pa.array(["train" if field.name == "split" else "bench-0000"] * samples, pa.string()))
        elif field.name in LABELS:
            width = field.type.list_size
            flat = pa.array(rng.normal(0, 1, samples * width).astype(np.float32))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, width))
        else:
            columns.append(pa.nulls(samples, field.type))
    return pa.table(columns, schema=SCHEMAS["dataset"]), pictures


def write_all(root: Path, rows: pa.Table, pictures: pa.Table) -> None:
    """The same rows in four ways, each as its users are told to write them."""
    store = LanceStore(root / "lance")
    store.replace_partition("raw_generations", "bench-0000", pictures, input_digest="bench")
    store.replace_partition("dataset", "bench-0000", rows, input_digest="bench")
    chosen = rows.append_column("image", pictures.column("image")).select(list(COLUMNS))
    (root / "parquet").mkdir()
    pq.write_table(chosen, root / "parquet" / "train.parquet", row_group_size=256, compression="none")
    (root / "tar").mkdir()
    (root / "folder").mkdir()
    for start in range(0, rows.num_rows, 1000):
        with tarfile.open(root / "tar" / f"train-{start // 1000:05d}.tar", "w") as tar:
            for row in chosen.slice(start, 1000).to_pylist():
                key = row["sample_id"].replace("/", "-")
                labels = io.BytesIO()
                arrays: Any = {name: np.array(row[name], np.float32) for name in LABELS}
                np.savez(labels, **arrays)
                for suffix, data in (("jpg", row["image"]), ("labels.npz", labels.getvalue())):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                (root / "folder" / f"{key}.jpg").write_bytes(row["image"])
                (root / "folder" / f"{key}.npz").write_bytes(labels.getvalue())


def labels_of(blob: io.BytesIO | Path) -> dict[str, torch.Tensor]:
    with np.load(blob) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in LABELS}


def in_batches(samples: Iterator[dict]) -> Batches:
    batch: list[dict] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == BATCH:
            yield batch
            batch = []


# In order


def lance_in_order(root: Path) -> Batches:
    yield from in_batches(iter(SampleStream(root / "lance", columns=COLUMNS, shuffle=False, read_rows=256)))


def parquet_in_order(root: Path) -> Batches:
    file = pq.ParquetFile(root / "parquet" / "train.parquet")
    for batch in file.iter_batches(BATCH):
        yield parquet_samples(pa.Table.from_batches([batch]))


def parquet_samples(rows: pa.Table) -> list[dict]:
    images = [image_tensor(data) for data in rows.column("image").to_pylist()]
    labels = {}
    for name in LABELS:
        column = rows.column(name).combine_chunks()
        labels[name] = torch.from_numpy(column.flatten().to_numpy().copy()).reshape(len(images), -1)
    return [{"image": image, **{n: v[i] for n, v in labels.items()}} for i, image in enumerate(images)]


def tar_in_order(root: Path) -> Batches:
    from webdataset.compat import WebDataset

    tars = sorted(str(path) for path in (root / "tar").iterdir())
    dataset = WebDataset(tars, shardshuffle=False, empty_check=False)
    yield from in_batches({"image": image_tensor(s["jpg"]), **labels_of(io.BytesIO(s["labels.npz"]))} for s in dataset)


def folder_in_order(root: Path) -> Batches:
    yield from in_batches(folder_sample(path) for path in sorted((root / "folder").glob("*.jpg")))


def folder_sample(path: Path) -> dict:
    return {"image": image_tensor(path.read_bytes()), **labels_of(path.with_suffix(".npz"))}


# At random


def random_numbers(samples: int) -> Iterator[list[int]]:
    rng = random.Random(0)
    while True:
        yield [rng.randrange(samples) for _ in range(BATCH)]


def lance_at_random(root: Path) -> Batches:
    dataset = SampleDataset(root / "lance", columns=COLUMNS)
    for numbers in random_numbers(len(dataset)):
        yield dataset.__getitems__(numbers)


def parquet_at_random(root: Path) -> Batches:
    """Each row from its row group, which is what Parquet can find; every group of a batch is read once."""
    file = pq.ParquetFile(root / "parquet" / "train.parquet")
    size = file.metadata.row_group(0).num_rows
    for numbers in random_numbers(file.metadata.num_rows):
        groups = sorted({n // size for n in numbers})
        rows = file.read_row_groups(groups)
        starts = {group: i * size for i, group in enumerate(groups)}
        yield parquet_samples(rows.take([starts[n // size] + n % size for n in numbers]))


def tar_at_random(root: Path) -> Batches:
    """With an index of offsets made before, which WebDataset itself does not have."""
    places: list[tuple[Path, dict[str, tuple[int, int]]]] = []
    for path in sorted((root / "tar").iterdir()):
        with tarfile.open(path) as tar:
            found: dict[str, dict[str, tuple[int, int]]] = {}
            for member in tar:
                key, _, suffix = member.name.partition(".")
                found.setdefault(key, {})[suffix] = (member.offset_data, member.size)
        places += [(path, parts) for parts in found.values()]
    files = {path: path.open("rb") for path in {path for path, _ in places}}
    for numbers in random_numbers(len(places)):
        batch = []
        for number in numbers:
            path, parts = places[number]
            read = {}
            for suffix, (offset, size) in parts.items():
                files[path].seek(offset)
                read[suffix] = files[path].read(size)
            batch.append({"image": image_tensor(read["jpg"]), **labels_of(io.BytesIO(read["labels.npz"]))})
        yield batch


def folder_at_random(root: Path) -> Batches:
    paths = sorted((root / "folder").glob("*.jpg"))
    for numbers in random_numbers(len(paths)):
        yield [folder_sample(paths[n]) for n in numbers]


WAYS: dict[str, dict[str, Callable[[Path], Batches]]] = {
    "in order": {
        "lance": lance_in_order,
        "webdataset": tar_in_order,
        "parquet": parquet_in_order,
        "folder": folder_in_order,
    },
    "at random": {
        "lance": lance_at_random,
        "webdataset (indexed)": tar_at_random,
        "parquet": parquet_at_random,
        "folder": folder_at_random,
    },
}


def measure(way: Callable[[Path], Batches], root: Path, seconds: float) -> tuple[float, float]:
    """Samples per second, and per second of processor time of all threads, after the first batch, which opens files."""
    batches = way(root)
    next(batches)
    count, start, start_cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        batch = next(batches, None)
        if batch is None:
            break
        count += len(batch)
    return count / (time.perf_counter() - start), count / (time.process_time() - start_cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--size", type=int, default=256, help="Side of the images, pixels.")
    parser.add_argument("--seconds", type=float, default=4.0, help="Of each measurement, at most.")
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows, pictures = make_rows(chosen.samples, chosen.size)
        mean = sum(len(blob) for blob in pictures.column("image").to_pylist()) / chosen.samples / 1024
        print(f"{chosen.samples} samples of {chosen.size} x {chosen.size} pixels, {mean:.0f} KiB each")
        write_all(root, rows, pictures)
        for kind, ways in WAYS.items():
            rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for _ in range(chosen.turns):
                for name, way in ways.items():
                    rates[name].append(measure(way, root, chosen.seconds))
            middle = {name: np.median(np.array(values), axis=0) for name, values in rates.items()}
            best = np.max(list(middle.values()), axis=0)
            for name, (wall, cpu) in middle.items():
                print(
                    f"{kind:<10} {name:<22} {wall:8.0f} samples/s {wall / best[0]:5.2f} of the fastest"
                    f" {cpu:8.0f} samples/processor s {cpu / best[1]:5.2f} of the fastest"
                )


if __name__ == "__main__":
    main()
