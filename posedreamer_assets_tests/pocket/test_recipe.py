"""The pocket models, from renders to weights that take the shipped ones' places."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.people2d.network import load_baseline
from posedreamer_assets.people2d.predict import find_people, load_network
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pocket.recipe import ship

pytestmark = pytest.mark.slow

SMALL = (
    "--scenes 96 --generator-minutes 0.05 --detector-minutes 0.02 --photos 4 --pose2d-minutes 0.02 --threads 1".split()
)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")
def test_one_command_trains_models_that_take_the_shipped_ones_places(tmp_path: Path) -> None:
    trained, shipped = tmp_path / "trained", tmp_path / "shipped"
    done = CliRunner().invoke(
        cli, ["train-pocket", "--home", str(tmp_path / "home"), "--out", str(trained), *SMALL], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output

    sizes = ship(trained, shipped)

    assert set(sizes) == {"generator", "judge", "ranker", "counter", "segmenter", "pose2d"}
    for name in sizes:
        card = (shipped / name / "README.md").read_text()
        assert "Retrain" in card and str(tmp_path) not in card
    ours = {
        "generator.model_path": str(shipped / "generator"),
        "ranker.path": str(shipped / "ranker"),
        "judge.path": str(shipped / "judge"),
    }
    profile = load_profile("pocket", ours)
    controls = np.zeros((2, 128, 128, 3), np.uint8)
    controls[:, 32:96, 48:80] = 200
    painted = Models(profile).generator.generate(controls, ["a person", "a person"], [1, 2])
    assert painted.shape == controls.shape
    student = dataclasses.replace(profile.pose2d, baseline=str(shipped / "pose2d"))
    found = find_people(load_network(load_baseline(student), student), painted[0], student)
    assert found.joints.shape[1:] == (16, 2)
    for detector in (Models(profile).ranker, Models(profile).judge):
        assert detector.detect(painted).shape == (2, 17, 3)


def test_a_model_that_was_not_trained_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="generator is missing"):
        ship(tmp_path, tmp_path / "shipped")
