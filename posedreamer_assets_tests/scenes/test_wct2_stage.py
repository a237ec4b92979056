"""D_Style by a network as a stage: rows, what they depend on, and refusals before anything is made."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from posedreamer_assets.checks import run_checks
from posedreamer_assets.cli import doctor
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.errors import ConfigError, PoseDreamerError, RenderError
from posedreamer_assets.pipeline import graph
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.refusals import refuse_unmakeable, require_renderer
from posedreamer_assets.pipeline.stage import Inputs, Stage
from posedreamer_assets.runtime.checking import Surroundings
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.scenes.wct2 import Wct2
from posedreamer_assets.scenes.wct2_file import Layout
from posedreamer_assets.tables.images import decode
from posedreamer_assets_tests.scenes.conftest import KEYS, SMALL, STUDY, Study


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones of the real layout, narrow."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "wct2.safetensors"
    save_file(Wct2(Layout((4, 6, 8, 8), joined=True)).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def stage() -> Stage:
    return graph(2, (STUDY,))["dm/styled_images"]


def asked(weights: Path) -> Profile:
    return load_profile("pocket", {**SMALL, "style.kind": "wct2", "style.weights": str(weights)})


def test_a_network_changes_people_alone_and_its_rows_pass_the_checks(study: Study, stage: Stage, weights: Path) -> None:
    profile = asked(weights)
    inputs = Inputs(stage, profile, Listed(Snapshot(profile, study.store)), Models(profile), KEYS["photo"])
    rows = stage.make(inputs).rows
    assert rows is not None and stage.table is not None
    around = Surroundings(study.store, profile, stage.table, KEYS["photo"])
    wrong = [outcome.name for outcome in run_checks(stage.table, rows, around) if not outcome.passed]
    assert set(wrong) <= {"mostly_stylised"}  # a warning: people of some pictures are small
    mixtures = {row["sample_id"]: row for row in study.rows("dm/scene_images").to_pylist()}
    in_closed_form = {row["sample_id"]: row for row in study.rows("dm/styled_images").to_pylist()}
    stylised = 0
    for row in rows.to_pylist():
        mixture, closed = mixtures[row["sample_id"]], in_closed_form[row["sample_id"]]
        before, after, inside = decode(mixture["image"]), decode(row["image"]), decode(mixture["instances"]) > 0
        assert np.array_equal(before[~inside], after[~inside]) and row["style_source"] == closed["style_source"]
        if row["status"] == "stylised":
            stylised += 1
            assert not np.array_equal(after, before) and not np.array_equal(after, decode(closed["image"]))
    assert stylised
    again = stage.make(inputs).rows
    assert again is not None and again.equals(rows)


def test_rows_in_closed_form_depend_on_no_network_and_others_on_the_bytes_of_its_file(
    study: Study, stage: Stage, weights: Path, tmp_path: Path
) -> None:
    def inputs(profile: Profile) -> dict[str, object]:
        return Snapshot(profile, study.store).inputs(stage, KEYS["photo"])

    plain, first = inputs(study.profile), inputs(asked(weights))
    assert plain["settings"] == {"style": {"min_pixels": 20}} and plain["files"] == {}  # as before there was a network
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(weights.read_bytes())
    assert inputs(asked(moved)) == first != plain
    save_file({name: one + 1 for name, one in load_file(weights).items()}, moved)
    assert inputs(asked(moved)) != first


def test_a_missing_file_is_refused_before_anything_is_made(stage: Stage, weights: Path, tmp_path: Path) -> None:
    gone = asked(tmp_path / "gone.safetensors")
    with pytest.raises(RenderError, match=r"style\.weights: no file .*gone\.safetensors: --set style\.weights=FILE"):
        refuse_unmakeable(gone, stage)
    others = [one for one in graph(2, (STUDY,)) if one.key != stage.key]
    require_renderer(gone, others)
    require_renderer(asked(weights), [stage])
    home = Home(tmp_path / "home")
    with pytest.raises(PoseDreamerError, match=r"style\.weights: no file"):
        run_main_job(
            home, gone, only=["body_model", *(s.key for s in others if "scene" in s.key or "photo" in s.key), stage.key]
        )
    assert not list(home.storage.glob("*.lance"))


def test_doctor_tells_a_files_widths_and_what_is_wrong_with_it(weights: Path, tmp_path: Path) -> None:
    found = doctor.look_at_style(asked(weights))
    assert found.ok and found.detail == f"{weights}: widths 4, 6, 8, 8, joined"
    broken = doctor._guarded("style weights", lambda: doctor.look_at_style(asked(tmp_path / "gone")))
    assert not broken.ok and "no file" in broken.detail


def test_a_file_is_looked_at_and_the_stage_described_without_pytorch(weights: Path) -> None:
    code = (
        "import sys; from posedreamer_assets.pipeline import styled_images; "
        "from posedreamer_assets.scenes.wct2_file import layout_of; "
        f"assert layout_of({str(weights)!r}).joined; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("given", [{"style.kind": "wct2"}, {"style.weights": "w.safetensors"}])
def test_kind_and_weights_go_together(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"style\.kind wct2 and style\.weights go together"):
        load_profile("pocket", given)
