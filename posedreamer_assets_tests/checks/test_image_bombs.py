"""An image that unpacks to far more than its file is refused before it is unpacked."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import UnidentifiedImageError

from posedreamer_assets.checks.rows import decode as decode_to_check
from posedreamer_assets.errors import ImageError
from posedreamer_assets.pipeline.quality_report import load_photograph
from posedreamer_assets.render.backgrounds import photo_background
from posedreamer_assets.tables.images import FREE_BYTES, decode, encode_png, opened


def png(width: int, height: int) -> bytes:
    """A black RGB image, written without ever holding it."""
    packer, rows = zlib.compressobj(9), []
    line = bytes(1 + 3 * width)
    rows = [packer.compress(line) for _ in range(height)]
    data = b"".join(rows) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module", params=[(9500, 9500), (14000, 14000)])
def bomb(request: pytest.FixtureRequest) -> bytes:
    """270 MB that Pillow would unpack with a warning, and 590 MB that it would not."""
    made = png(*request.param)
    assert len(made) < 1_000_000
    return made


def test_a_bomb_is_refused_before_it_is_unpacked(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(ImageError, match=f"an image of {len(bomb)} bytes"):
        decode(bomb)
    with pytest.raises(ImageError, match=r"photo\.png of"):
        photo_background(str(tmp_path), np.random.default_rng(0), 64, 64)
    with pytest.raises(ImageError, match=r"photo\.png of"):
        load_photograph(tmp_path / "photo.png", 64, 64)
    assert decode_to_check(bomb) is None
    assert tracemalloc.get_traced_memory()[1] < FREE_BYTES / 8
    tracemalloc.stop()


def test_a_file_that_would_start_another_program_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(UnidentifiedImageError), opened(path):
        pass


def test_large_drawn_maps_and_photographs_are_read() -> None:
    assert decode(png(6000, 4000)).shape == (4000, 6000, 3)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert np.array_equal(decode(encode_png(noise)), noise)
