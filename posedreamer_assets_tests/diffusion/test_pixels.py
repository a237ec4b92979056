"""Pixels to the range of autoencoders and back."""

import numpy as np

from posedreamer_assets.diffusion.pixels import batches, to_pixels, to_signed


def test_pixels_survive_the_signed_range() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    signed = to_signed(pixels)
    assert signed.shape == (1, 3, 16, 16) and signed.min() == -1.0 and signed.max() == 1.0
    assert np.array_equal(to_pixels(signed), pixels)


def test_slices_cover_every_row_once() -> None:
    rows = np.arange(11)
    assert np.concatenate([rows[s] for s in batches(11, 4)]).tolist() == rows.tolist()
    assert [s.stop - s.start for s in batches(5, 2)] == [2, 2, 1]
    assert list(batches(0, 4)) == []
