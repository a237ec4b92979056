"""Which split a pose falls into: by hash of what it comes from, so that splits stay as data grows."""

from posedreamer_assets.config import AlignmentConfig
from posedreamer_assets.seeds import unit_hash


def pose_group(provenance: str) -> str:
    """What a pose comes from: its file without frame and person, or the one draw of a procedural pose."""
    return provenance.partition("#")[0]


def split_of(provenance: str, val_share: float) -> str:
    """train or val; all frames of a clip fall on one side.

    There is no test split: what this project makes shares its generator, so that a test on held-out rows would say little.
    Test images are made apart, see docs/students.md.
    """
    return "val" if unit_hash(f"split {pose_group(provenance)}") < val_share else "train"


def alignment_split_of(provenance: str, cfg: AlignmentConfig) -> str:
    """train, val or test of the generator's alignment, which says nothing of what is made with the generator."""
    place = unit_hash(provenance)
    if place < cfg.test_share:
        return "test"
    return "val" if place < cfg.test_share + cfg.val_share else "train"
