"""The tiny generator and its shards, shared with the tests of diffusion."""

from posedreamer_assets_tests.diffusion.conftest import tiny_folder, tiny_shards

__all__ = ["tiny_folder", "tiny_shards"]
