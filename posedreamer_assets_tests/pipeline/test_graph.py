"""Input digests: what makes a partition out of date, and what does not."""

from pathlib import Path

import pytest

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline.graph import STAGES, Snapshot, file_digest, planned_keys, source_name
from posedreamer_assets.storage import LanceStore


def _digest(tmp_path: Path, profile: Profile, stage: str, key: str | None = "procedural-0000") -> str:
    return Snapshot(profile, LanceStore(str(tmp_path))).input_digest(STAGES[stage], key)


@pytest.mark.parametrize(
    ("setting", "value"), [("poses.batches", 9), ("generator.batch_size", 3), ("generator.device", "cpu")]
)
def test_settings_of_speed_and_amount_change_no_digest(tmp_path: Path, setting: str, value: object) -> None:
    plain, other = load_profile("pocket"), load_profile("pocket", {setting: value})
    for stage in ("pose_library", "base/raw_generations"):
        assert _digest(tmp_path, plain, stage) == _digest(tmp_path, other, stage)


@pytest.mark.parametrize(
    ("setting", "value", "stage"),
    [
        ("seed", 7, "pose_library"),
        ("cameras.focal_max", 3.0, "pose_library"),
        ("generator.steps", 5, "base/raw_generations"),
        ("generator.control", "depth", "base/raw_generations"),
        ("generator.control", "depth", "preference_pairs"),
        ("alignment.method", "none", "preference_pairs"),
        ("alignment.method", "none", "dpo_checkpoint"),
        ("curation.min_oks", 0.5, "base/filtered_dataset"),
        ("curriculum.pool_size", 77, "hard_samples"),
    ],
)
def test_settings_of_content_change_the_digest(tmp_path: Path, setting: str, value: object, stage: str) -> None:
    plain, other = load_profile("pocket"), load_profile("pocket", {setting: value})
    assert _digest(tmp_path, plain, stage) != _digest(tmp_path, other, stage)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("alignment.beta", 7.0), ("alignment.min_gap", 0.2), ("judge.path", "shipped:ranker"), ("generator.steps", 5)],
)
def test_alignment_that_is_off_depends_on_no_setting_of_alignment(tmp_path: Path, setting: str, value: object) -> None:
    off = {"alignment.method": "none"}
    for stage in ("preference_pairs", "dpo_checkpoint"):
        plain, other = (load_profile("pocket", settings) for settings in (off, {**off, setting: value}))
        assert _digest(tmp_path, plain, stage) == _digest(tmp_path, other, stage)
    assert _digest(tmp_path, load_profile("pocket"), "dpo_checkpoint") != _digest(
        tmp_path, load_profile("pocket", {setting: value}), "dpo_checkpoint"
    )


def test_every_named_setting_exists_in_the_profile(tmp_path: Path) -> None:
    snapshot = Snapshot(load_profile("pocket"), LanceStore(str(tmp_path)))
    for stage in STAGES.values():
        keys = planned_keys(snapshot.profile, stage.group) or [None]
        assert len(digest(snapshot.inputs(stage, keys[0]))) == 32


def test_alignment_and_base_batches_are_disjoint() -> None:
    profile = load_profile("pocket")
    assert not set(planned_keys(profile, "base")) & set(planned_keys(profile, "align"))
    assert set(planned_keys(profile, "pose")) == {*planned_keys(profile, "base"), *planned_keys(profile, "align")}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("My Mocap (v2)", "my-mocap-v2"), ("hard", "poses-hard"), ("align-x", "poses-align-x"), ("日本", "poses")],
)
def test_a_folder_name_becomes_a_source_that_no_other_group_claims(tmp_path: Path, folder: str, name: str) -> None:
    assert source_name(load_profile("pocket", {"poses.source": str(tmp_path / folder)})) == name


def test_a_control_network_with_other_weights_makes_the_generator_again(tmp_path: Path) -> None:
    weights = tmp_path / "net" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir()
    profile = load_profile("sdxl", {"generator.control_lora_path": str(weights.parent)})
    weights.write_bytes(b"one")
    before = _digest(tmp_path, profile, "control_checkpoint", None)
    weights.write_bytes(b"others")
    assert _digest(tmp_path, profile, "control_checkpoint", None) != before
    assert file_digest(load_profile("sdxl"), "generator_control") == "diffusers/controlnet-depth-sdxl-1.0"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    profile = load_profile("pocket", {"judge.path": str(tmp_path / "none.onnx")})
    with pytest.raises(ConfigError, match=r"judge: .*none\.onnx does not exist"):
        file_digest(profile, "judge")
