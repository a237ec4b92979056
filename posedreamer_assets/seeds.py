"""Seeds that depend on what a sample is, never on when or where it is made."""

import hashlib

import numpy as np


def derive_seed(run_seed: int, sample_id: str, stage: str) -> int:
    """A 63-bit seed for one stage of one sample.

    The same three arguments give the same seed on every machine and in every batch, order or process.
    """
    text = f"{run_seed}\x1f{sample_id}\x1f{stage}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def sample_rng(run_seed: int, sample_id: str, stage: str) -> np.random.Generator:
    """A NumPy generator seeded with `derive_seed`."""
    return np.random.default_rng(derive_seed(run_seed, sample_id, stage))


def unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on the text alone; used for splits that do not move when data grows."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little") / 2**56
