"""The quality report of a run that kept next to nothing says so; it neither ends the run nor makes figures up."""

import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from posedreamer_assets.checks.files import load_table_checks
from posedreamer_assets.config import load_profile
from posedreamer_assets.metrics import features, quality
from posedreamer_assets.metrics.features import FeatureSet
from posedreamer_assets.pipeline import quality_report
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.report.html import Note
from posedreamer_assets.report.main_figures import main_figures
from posedreamer_assets.report.sections import quality_section


def features_of(images: np.ndarray) -> FeatureSet:
    """What an extractor gives, of the pixels themselves."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return FeatureSet(np.resize(flat, (len(flat), 2048)), flat[:, :64], np.full((len(flat), 1000), 1e-3, np.float32))


@pytest.fixture(params=[(0, 9), (4, 9), (9, 4), (0, 0)])
def counts(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Kept images, and those of the reference."""
    return request.param


@pytest.fixture
def found(counts: tuple[int, int], tmp_path: Path) -> dict:
    """The report's figures, as the stage makes them."""
    rng = np.random.default_rng(0)

    def parts(count: int) -> Iterator[np.ndarray]:
        return iter([rng.integers(0, 255, (count, 8, 8, 3), np.uint8)] if count else [])

    models = mock.Mock(judge=mock.Mock(name="judge"), outside_judge=None)
    models.judge.name = "judge"
    inputs = Inputs(quality_report.stage(("base",)), load_profile("pocket"), mock.Mock(), models, folder=tmp_path)
    with (
        mock.patch.multiple(
            quality_report,
            _kept=lambda _: ["kept"] * counts[0],
            _images_of=lambda *_: parts(counts[0]),
            _reference=lambda _: parts(counts[1]),
            _ids=lambda *_: [],
            _base_ids=lambda _: [],
        ),
        mock.patch.object(features, "FeatureExtractor", lambda: features_of),
    ):
        made = quality_report.make(inputs)

    def not_a_number(text: str) -> float:
        raise AssertionError(f"{text} in a file of figures")

    for name in ("quality.json", "figures.json"):
        json.loads((tmp_path / name).read_text(), parse_constant=not_a_number)
    return dict(made.figures)


def test_counts_and_the_reason_stand_in_the_place_of_figures(found: dict, counts: tuple[int, int]) -> None:
    assert (found["generated"], found["reference"]) == counts
    assert not {"fid_2048", "fid_64", "kid", "precision", "recall"} & set(found)
    assert f"{counts[0]} generated and {counts[1]} reference images" in found["notes"][0]
    assert "at least 5 of each" in quality.too_few(*counts, load_profile("pocket").quality) in found["notes"][0]
    assert found["judge"]["renders"] == {"mean": None, "ci95": [None, None], "n": 0}


def test_pages_and_the_table_say_why(found: dict, counts: tuple[int, int]) -> None:
    section = quality_section({"kept images": found}, {})
    assert [type(block) for block in section.blocks] == [Note]
    figures = {"poses": 9, "images_made": 9, "kept": counts[0], "quality": found}
    lines = [line for line in main_figures(figures) if line[0].startswith("FID")]
    assert lines == [("FID, KID, IS", "–", f"{counts[0]} generated, {counts[1]} reference images are too few")]


def test_checks_of_figures_do_not_judge_what_there_is_not() -> None:
    checks = load_table_checks("quality_report").checks
    between = [check for check in checks if check.args.get("path", "").endswith(".value")]
    assert len(between) == 3
    assert all(check.args["unless"] == {"compared": False} for check in between)
    assert all(check.severity == "warn" for check in checks if "has_images" in check.name)
