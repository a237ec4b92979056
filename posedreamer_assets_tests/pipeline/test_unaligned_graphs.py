"""The whole graph under the shipped profiles `sdxl` and `zimage`, on small random checkpoints of their layouts."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.checks import suite
from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.checks.model import Around, CheckOutcome
from posedreamer_assets.checks.suite import run_checks
from posedreamer_assets.cli.run import Summary, run_main_job
from posedreamer_assets.cli.status import status_of
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.diffusion.sdxl import SdxlGenerator
from posedreamer_assets.diffusion.zimage import ZImageGenerator
from posedreamer_assets.pipeline import graph
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.images import decode
from posedreamer_assets_tests.diffusion.production import save_tiny_sdxl
from posedreamer_assets_tests.diffusion.production_zimage import save_tiny_controlnet, save_tiny_zimage
from posedreamer_assets_tests.diffusion.test_controls import depth_by_pixel

pytestmark = [
    pytest.mark.slow,
    # diffusers hands tensors to NumPy in a way that NumPy 2 will stop accepting.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SMALL = {
    "image.width": 64,
    "image.height": 64,
    "poses.batch_size": 8,
    "poses.batches": 1,
    "poses.align_batches": 1,
    "scenes.supersample": 1,
    "generator.steps": 1,
    "generator.device": "cpu",
    "generator.dtype": "float32",
    "judge.kind": "heatmap",
    "judge.path": "shipped:judge",
    "counter.kind": "auto",
    "counter.path": "shipped:counter",
    "curation.min_oks": 0.0,
    "curation.max_people": 99,
    "curation.max_head_error_deg": 180.0,
    "curriculum.pool_size": 12,
    "curriculum.rounds": [{"batches": 1, "size": 3}],
    "curriculum.min_distance": 0.0,
    "curriculum.boost_rounds": 2,
    "curriculum.folds": 2,
    "quality.bootstrap": 2,
    "quality.neighbours": 1,
}


@dataclass(frozen=True)
class Made:
    """A finished run, and what the generator was given."""

    home: Home
    place: Path
    name: str
    summary: Summary
    given: dict[int, np.ndarray]  # control image by seed
    adapters: set[object]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return LanceStore(str(self.home.storage)).read(table).to_pylist()


def profile(name: str, place: Path, **settings: object) -> Profile:
    control = {"sdxl": "depth", "zimage": "depth.safetensors"}
    models = {
        "judge.on_photographs": True,
        "generator.model_path": str(place / "base"),
        "generator.control_lora_path": str(place / control[name]),
    }
    return load_profile(name, {**SMALL, **models, **settings})


def save_tiny(name: str, place: Path) -> None:
    if name == "sdxl":
        save_tiny_sdxl(place / "base", place / "depth")
    else:
        save_tiny_zimage(place / "base")
        save_tiny_controlnet(place / "depth")


def checks_of_what_differs(asset: str, rows: pa.Table, around: Around) -> list[CheckOutcome]:
    """The real checks of tables that differ without alignment; those of the others, which cost much time, as passed.

    A generator of random weights is excused from keeping to the body's outline.
    """
    if asset in ("preference_pairs", "dpo_checkpoint", "raw_generations"):
        shown = "images_follow_control_maps"
        return [replace(o, passed=o.passed or o.name == shown) for o in run_checks(asset, rows, around)]
    return [CheckOutcome(c.name, True, c.severity, c.description, "", ()) for c in load_table_checks(asset).checks]


@pytest.fixture(scope="module", params=["sdxl", "zimage"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    name, place = request.param, tmp_path_factory.mktemp("graph")
    save_tiny(name, place)
    home = Home(place / "home")
    given: dict[int, np.ndarray] = {}
    adapters: set[object] = set()
    backend = {"sdxl": SdxlGenerator, "zimage": ZImageGenerator}[name]
    generate = backend.generate

    def watched(self: Any, controls: np.ndarray, captions: list[str], seeds: list[int], **options: Any) -> np.ndarray:
        given.update(zip(seeds, controls, strict=True))
        adapters.add(options.get("adapter_path"))
        return generate(self, controls, captions, seeds, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "generate", watched)
        patch.setattr(suite, "run_checks", checks_of_what_differs)
        summary = run_main_job(home, profile(name, place))
    return Made(home, place, name, summary, given, adapters)


def test_every_stage_is_made_and_every_pose_is_painted_once(made: Made) -> None:
    assert [t.stage for t in made.summary.timings] == [stage.key for stage in graph(2)]
    assert all(t.made for t in made.summary.timings)
    assert Counter(row["round"] for row in made.rows("raw_generations")) == {"base": 8, "hard": 3}
    assert len(made.given) == 8 + 3  # and nothing for alignment


def test_the_generator_is_given_depth(made: Made) -> None:
    maps = {row["sample_id"]: decode(row["depth"]) for row in made.rows("control_maps")}
    for row in made.rows("raw_generations"):
        assert np.array_equal(made.given[row["seed"]], depth_by_pixel(maps[row["sample_id"]]))


def test_nothing_claims_an_alignment(made: Made) -> None:
    assert made.adapters == {None}
    assert {row["adapter"] for row in made.rows("raw_generations")} == {"none"}
    pairs = made.rows("preference_pairs")
    assert pairs and {row["status"] for row in pairs} == {"no_alignment"}
    assert not any(row["candidate_images"] or row["winner"] is not None for row in pairs)
    figures = json.loads(Path(made.summary.summary_json).read_text())
    assert figures["dpo"] == {"method": "none", "note": "no alignment: the generator is used as it is"}


def test_the_report_says_that_there_is_no_alignment(made: Made) -> None:
    page = Path(made.summary.report).read_text()
    assert "No alignment: the generator is used as it is." in page
    assert "before DPO" not in page and "OKS error less by" not in page


def test_status_counts_what_was_not_aligned_as_done_and_its_checks_as_passed(made: Made) -> None:
    found = {status.asset: status for status in status_of(made.home, LanceStore(str(made.home.storage)))}
    for asset in ("preference_pairs", "dpo_checkpoint"):
        status = found[asset]
        assert (status.done, status.stale, status.missing, status.failed) == (1, 0, 0, 0)
        assert status.checks_passed and not status.checks_failed


def test_settings_of_alignment_paint_nothing_again(made: Made) -> None:
    """Nor does a profile without alignment batches, as it is shipped."""
    assert load_profile(made.name).poses.align_batches == 0
    changed = profile(
        made.name, made.place, **{"poses.align_batches": 0, "alignment.beta": 7.0, "alignment.test_draws": 9}
    )
    stages = ["preference_pairs", "dpo_checkpoint", "base/raw_generations", "hard/raw_generations"]
    again = run_main_job(made.home, changed, only=stages)
    assert not any(timing.made for timing in again.timings)
