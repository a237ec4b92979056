"""The command line: help, errors in one line, and commands that need no models."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.doctor import look_at_training
from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import AlignmentError, DetectorError
from posedreamer_assets.pipeline.refusals import require_models
from posedreamer_assets.runtime.home import Home


def _run(*arguments: str):
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize("command", [(), ("run",), ("doctor",), ("view",), ("train-pocket",), ("checks",), ("status",)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = _run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output


@pytest.mark.parametrize("option", ["--port", "--pages-port"])
def test_dev_at_a_port_that_is_taken_is_one_line_and_touches_nothing(option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        free = [] if option == "--port" else ["--port", "0"]
        result = _run("dev", *free, option, str(port), "--home", str(tmp_path / "home"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"posedreamer: ConfigError: {option} {port} cannot be served at")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--set", "poses.bathces=3"), "unknown key 'bathces'"),
        (("run", "--set", "seed"), "expected KEY=VALUE"),
        (("run", "--set", "seed=x"), "expected"),
        (("dev", "--port", "70000"), "--port 70000 cannot be served at"),
        (("run", "--profile", "nope"), "no profile 'nope'"),
        (
            ("run", "--set", "poses.align_batches=0"),
            "poses.align_batches is 0; expected 1 or more; alignment learns from them",
        ),
        (("run", "--set", "poses.batches=0"), "poses.batches is 0"),
        (("run", "--set", "curriculum.rounds=[{size: 0}]"), "curriculum.rounds[0].size is 0"),
        (("view", "nothing"), "no table or asset 'nothing'"),
        (("view", "pose_library"), "no partitions"),
        (("checks", "run", "pose_library"), "holds nothing yet"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    result = _run(*arguments, "--home", str(tmp_path))
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.startswith("posedreamer: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_status_of_an_empty_home_lists_every_table(tmp_path: Path) -> None:
    result = _run("status", "--home", str(tmp_path))
    assert result.exit_code == 0
    assert "quality_report" in result.output
    assert "up to date" not in result.output


def test_status_can_prepare_a_home_for_dagster(tmp_path: Path) -> None:
    _run("status", "--home", str(tmp_path), "--prepare")
    assert (tmp_path / "dagster" / "dagster.yaml").is_file()


def test_prepare_keeps_an_edited_dagster_yaml(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    (tmp_path / "dagster" / "dagster.yaml").write_text("# mine\n")
    home.prepare()
    assert (tmp_path / "dagster" / "dagster.yaml").read_text() == "# mine\n"


def test_check_files_are_well_formed() -> None:
    result = _run("checks", "validate")
    assert result.exit_code == 0, result.output
    assert "well-formed" in result.output


def test_doctor_names_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "SMPLX_NEUTRAL.npz")
    result = _run("doctor", "--home", str(tmp_path), "--set", f"body.model_path={json.dumps(missing)}")
    line = next(text for text in result.output.splitlines() if "body model" in text)
    assert line.startswith("missing")
    assert "smpl-x.is.tue.mpg.de" in result.output
    assert result.exit_code == 1


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(("name", "model"), [("sdxl", "stable-diffusion-xl-base-1.0"), ("zimage", "Z-Image-Turbo")])
def test_a_run_without_its_models_is_refused_before_a_pose_is_made(tmp_path: Path, name: str, model: str) -> None:
    result = _run("run", "--profile", name, "--home", str(tmp_path / "home"))
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"{model} is not on this computer" in result.stderr
    assert Home(tmp_path / "home").store().partitions("pose_library") == {}


def test_a_run_without_its_judge_is_refused_before_a_pose_is_made(tmp_path: Path) -> None:
    judge = ("--set", "judge.kind=onnx", "--set", f"judge.path={json.dumps(str(tmp_path / 'absent.onnx'))}")
    result = _run("run", "--home", str(tmp_path / "home"), *judge)
    assert result.exit_code == 1
    assert f"judge.path: nothing at {tmp_path / 'absent.onnx'}" in result.stderr
    assert Home(tmp_path / "home").store().partitions("pose_library") == {}


@pytest.mark.usefixtures("no_hub")
def test_doctor_tells_licence_and_memory_of_a_large_generator_without_loading_it(tmp_path: Path) -> None:
    result = _run("doctor", "--profile", "flux", "--home", str(tmp_path))
    lines = {line[9:27].strip(): line for line in result.output.splitlines()}
    assert "Non-Commercial" in lines["generator licence"]
    assert "33.7 GB of weights" in lines["generator memory"]
    assert "24 GiB: 25.5 GB with memory=park_text, batch_size=2; 48 GiB: " in lines["generator memory"]
    assert (
        "fp8 25.1 of weights, peak 26.9 GB (resident) or 15.4 of weights, peak 17.2 GB (park_text)"
        in lines["generator memory"]
    )
    assert lines["generator weights"].startswith("missing")
    assert "usyd-community/vitpose-plus-base: HF_HUB_OFFLINE" in lines["judging detector"]
    assert "PekingU/rtdetr_r50vd: HF_HUB_OFFLINE" in lines["person counter"]
    assert result.exit_code == 1


@pytest.mark.usefixtures("no_hub")
def test_doctor_plans_training_where_it_is_asked_or_where_a_gpu_is_and_refuses_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flux = load_profile("flux")
    assert "--training" in look_at_training(flux, asked=False).remedy
    asked = look_at_training(flux, asked=True)
    assert "24 GiB: " in asked.detail and "(network 23.8, adapter 3.0, activations" in asked.detail
    assert not asked.required
    for room_gb, mark in ((40.0, "ok"), (27.0, "missing")):
        monkeypatch.setattr("posedreamer_assets.diffusion.memory.gpu_gb", lambda room_gb=room_gb: room_gb)
        found = look_at_training(flux, asked=False)
        assert found.mark == mark and f"the GPU has {room_gb:.1f} GB" in found.detail
    assert "--set generator.precision=int8 needs" in found.remedy and "\n" not in found.remedy
    off = load_profile("flux", {"alignment.method": "none"})
    assert look_at_training(off, asked=True).mark != "missing", "who does not align needs no room for it"
    monkeypatch.setattr("posedreamer_assets.diffusion.sources.require", lambda _: None)
    require_models(off, ["generator"])
    with pytest.raises(AlignmentError, match="alignment: needs"):
        require_models(flux, ["generator"])


def test_photographs_are_not_judged_by_a_detector_of_renderings_unless_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posedreamer_assets.diffusion.sources.require", lambda _: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shipped = {
        "judge.kind": "heatmap",
        "judge.path": "shipped:judge",
        "counter.kind": "auto",
        "counter.path": "shipped:counter",
    }
    with pytest.raises(DetectorError, match="seen renderings alone"):
        require_models(load_profile("sdxl", shipped))
    require_models(load_profile("sdxl", {**shipped, "judge.on_photographs": True}))
    with pytest.raises(DetectorError, match=r"ranker\.path"):
        require_models(load_profile("flux", {**shipped, "judge.on_photographs": True, "ranker.path": "shipped:ranker"}))
    (tmp_path / "movenet.onnx").touch()
    movenet = {"judge.kind": "onnx", "judge.path": str(tmp_path / "movenet.onnx")}
    require_models(load_profile("sdxl", {**shipped, **movenet}))
    with pytest.raises(
        DetectorError, match=r"counter\.path: PekingU/rtdetr_r50vd is not on this computer, and HF_HUB_OFFLINE"
    ):
        require_models(load_profile("sdxl", movenet))
