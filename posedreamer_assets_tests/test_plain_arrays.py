"""Arrays of users' files: none is unpacked that its file does not account for, whoever reads it."""

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.model import FREE_BODY_PATH, load_body
from posedreamer_assets.body.transfer import SmplModel, load_transfer
from posedreamer_assets.errors import ArrayFileError, PoseDreamerError, PoseFileError
from posedreamer_assets.export.subject import load_mean_hands
from posedreamer_assets.plain_arrays import FREE_BYTES, MULTIPLE, open_npz
from posedreamer_assets.pocket.shards import read_arrays
from posedreamer_assets.poses.sources import HandSpace, ReadOptions, read_clips
from posedreamer_assets.students.external import read_predictions

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "body": ("v_template", lambda path: load_body(str(path))),
    "hands of a body": ("hands_componentsl", lambda path: HandSpace.load(str(path))),
    "mean hands": ("hands_meanl", lambda path: load_mean_hands(str(path))),
    "SMPL": ("v_template", SmplModel.load),
    "SMPL-X to SMPL": ("mtx", load_transfer),
    "predictions": ("sample_id", read_predictions),
    "shards": ("images", lambda path: read_arrays(path, ("images",))),
    "pose files": ("poses", lambda path: read_clips(path, ReadOptions(0.0, 0, "own", load_body()))),
}


def zeros(archive: zipfile.ZipFile, name: str, size: int) -> None:
    """An array of about as many bytes, written without ever holding it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)})
    block = bytes(1 << 20)
    with archive.open(f"{name}.npy", "w") as member:
        member.write(header.getvalue())
        left = size // 8 * 8
        while left:
            left -= member.write(block[: min(left, len(block))])


def bomb(path: Path, name: str, size: int = 120 << 20) -> None:
    """An npz whose first array unpacks to `size`; beside it lie the small arrays that some readers look for first."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        zeros(archive, name, size)
        beside = {"hands_componentsr", "hands_meanr", "hands_meanl", "trans"} - {name}
        for other in sorted(beside):
            zeros(archive, other, 45 * 8)


@pytest.mark.parametrize("reader", list(READERS))
def test_every_reader_refuses_a_bomb_unread(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    path = tmp_path / "bomb.npz"
    bomb(path, name)
    load_body()  # not what is measured
    tracemalloc.start()
    try:
        with pytest.raises(
            PoseDreamerError, match=rf"bomb\.npz.*{name}: 1\d* bytes unpacked, more than this file accounts"
        ):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


def test_all_arrays_of_a_file_count_together(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in "abcde":
            zeros(archive, name, 20 << 20)
    allowed = (FREE_BYTES + MULTIPLE * path.stat().st_size) // (20 << 20)
    assert allowed == 3
    with open_npz(path) as arrays:
        for name in "abc":
            assert arrays[name].shape == ((20 << 20) // 8,)
        with pytest.raises(ArrayFileError, match=r"d: .* save it without compression"):
            arrays["d"]


def test_files_within_a_tar_count_together(tmp_path: Path) -> None:
    members = 6
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        for number in range(members):
            bomb(tmp_path / "one.npz", "smplx_global_orient", 20 << 20)
            tar.add(tmp_path / "one.npz", f"{number}.data.npz")
    with pytest.raises(PoseFileError) as caught:
        read_clips(tmp_path / "many.tar", ReadOptions(0.0, 0, "own", load_body()))
    assert caught.value.reason == "absurd_value"


def test_a_body_that_is_not_compressed_is_read_however_empty(tmp_path: Path) -> None:
    with np.load(FREE_BODY_PATH) as shipped:
        arrays = dict(shipped)
    arrays["posedirs"] = np.zeros(arrays["posedirs"].shape, np.float64)  # 160 MB
    np.savez(tmp_path / "plain.npz", **arrays)
    assert load_body(str(tmp_path / "plain.npz")).posedirs is None
    load_body.cache_clear()
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    with pytest.raises(PoseDreamerError, match=r"posedirs: \d+ bytes unpacked, .* save it without compression"):
        load_body(str(tmp_path / "packed.npz"))


@pytest.mark.parametrize("damage", ["cut", "pickled", "a pickle", "another length"])
def test_what_is_no_npz_of_plain_arrays_is_told(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    np.savez(path, sample_id=np.array(["a"]), betas=np.zeros((1, 10)))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "pickled":
        np.savez(path, sample_id=np.array([{"a": 1}], object))
    elif damage == "a pickle":
        path.write_bytes(b"\x80\x04N.")
    else:
        data = path.read_bytes()
        path.write_bytes(data.replace(b"(1, 10)", b"(9, 99)"))
    with pytest.raises(PoseDreamerError, match=r"predictions\.npz: not a readable npz"):
        read_predictions(path)
