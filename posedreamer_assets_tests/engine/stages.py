"""Two small partitions, painted by the counting generator through stages, as assets do it.

    python -m posedreamer_assets_tests.engine.stages PLACE

paints them in a process that can be killed.
"""

import sys
from pathlib import Path
from unittest import mock

import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.engine.fakes import BACKEND, register
from posedreamer_assets_tests.runtime.small import SMALL, make_one, passing

IMAGES = "base/raw_generations"
KEYS = ("procedural-0000", "procedural-0001")
ROWS = 6


def profile_of(place: Path) -> Profile:
    """Without alignment; the generator logs in `place/generator`."""
    own = {
        "poses.batch_size": ROWS,
        "poses.align_batches": 0,
        "alignment.method": "none",
        "generator.backend": BACKEND,
        "generator.model_path": str(place / "generator"),
        "generator.device": "cpu",
    }
    return load_profile("pocket", {**SMALL, **own})


def prepare(place: Path) -> None:
    """Make everything that images are made from."""
    (place / "generator").mkdir()
    store, profile = LanceStore(str(place / "storage")), profile_of(place)
    with mock.patch.object(suite, "run_checks", passing):
        for name in ("body_model", "control_checkpoint", "dpo_checkpoint"):
            make_one(store, profile, name)
        for name in ("pose_library", "base/control_maps"):
            for key in KEYS:
                make_one(store, profile, name, key)


def paint(place: Path, storage: str = "storage") -> dict[str, str]:
    """Paint what is not painted; by partition, the digest of its rows."""
    store, profile = LanceStore(str(place / storage)), profile_of(place)
    return {key: make_one(store, profile, IMAGES, key, checked=False).content for key in KEYS}


if __name__ == "__main__":
    register(pytest.MonkeyPatch())
    paint(Path(sys.argv[1]))
