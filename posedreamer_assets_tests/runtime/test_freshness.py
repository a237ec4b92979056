"""Input digests: what makes a partition out of date, and what does not."""

import dataclasses
from pathlib import Path

import pytest

from posedreamer_assets.body.model import FREE_BODY_PATH
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import STUDIES, graph
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.runtime.freshness import NOT_CONTENT, Snapshot
from posedreamer_assets.runtime.freshness import setting as content_of
from posedreamer_assets.runtime.outside_files import file_digest
from posedreamer_assets.storage import LanceStore


def _digest(tmp_path: Path, profile: Profile, name: str) -> str:
    """Of the first partition of a stage that reads nothing yet."""
    snapshot = Snapshot(profile, LanceStore(str(tmp_path)))
    stage = snapshot.graph[name]
    keys = {"base": "procedural-0000", "align": "align-procedural-0000", "hard": "hard-0000", "hard2": "hard2-0000"}
    return snapshot.input_digest(stage, keys[stage.groups[0]] if stage.partitioned else None)


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
        ("counter.threshold", 0.5, "base/sample_scores"),
        ("curation.min_oks", 0.5, "dataset_release"),
        ("body.model_path", str(FREE_BODY_PATH), "body_model"),
        ("curriculum.rounds", [{"size": 7}], "hard/hard_samples"),
        ("curriculum.pool_size", 77, "hard/hard_samples"),
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
    for stage in snapshot.graph:
        keys = planned_keys(snapshot.profile, stage.groups) or [None]
        assert len(digest(snapshot.inputs(stage, keys[0]))) == 32


def test_another_round_changes_nothing_of_the_rounds_before_it(tmp_path: Path) -> None:
    off = {"students.study": "none"}
    two = load_profile("pocket", {"curriculum.rounds": [{"size": 5}], **off})
    three = load_profile("pocket", {"curriculum.rounds": [{"size": 5}, {"size": 9}], **off})
    for stage in Snapshot(two, LanceStore(str(tmp_path))).graph:
        if stage.key not in ("dataset_release", "quality_report"):
            assert _digest(tmp_path, two, stage.key) == _digest(tmp_path, three, stage.key), stage.key


def test_every_setting_of_content_is_named_by_a_stage() -> None:
    """Else rows would be taken for up to date after it has changed."""
    named = {name for stage in graph(2, tuple(STUDIES)) for name in stage.settings}
    sections = {field.name for field in dataclasses.fields(Profile)} - {"name", "seed"}
    for section in sections - NOT_CONTENT:
        if section in named:
            continue
        fields = {f"{section}.{field.name}" for field in dataclasses.fields(getattr(Profile(), section))}
        fields -= {"students.study", "students.test_sets"}  # of which each stage names the parts that it depends on
        assert fields - NOT_CONTENT <= named, fields - NOT_CONTENT - named


def test_a_control_network_with_other_weights_makes_the_generator_again(tmp_path: Path) -> None:
    weights = tmp_path / "net" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir()
    profile = load_profile("sdxl", {"generator.control_lora_path": str(weights.parent)})
    weights.write_bytes(b"one")
    before = _digest(tmp_path, profile, "control_checkpoint")
    weights.write_bytes(b"others")
    assert _digest(tmp_path, profile, "control_checkpoint") != before
    assert file_digest(load_profile("sdxl"), "generator_control") == "diffusers/controlnet-depth-sdxl-1.0"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    profile = load_profile("pocket", {"judge.path": str(tmp_path / "none.onnx")})
    with pytest.raises(ConfigError, match=r"judge: .*none\.onnx does not exist"):
        file_digest(profile, "judge")


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("generator.model_path", ("control_checkpoint", "preference_pairs", "dpo_checkpoint", "base/raw_generations")),
        ("judge.path", ("dpo_checkpoint", "base/sample_scores", "quality_report")),
        ("ranker.path", ("preference_pairs", "base/sample_scores")),
        ("counter.path", ("base/sample_scores",)),
        ("body.model_path", ("body_model", "pose_library")),
        ("scenes.backgrounds", ("rendered_scenes",)),
        ("quality.reference", ("quality_report",)),
    ],
)
def test_weights_in_another_folder_change_nothing_and_other_bytes_do(
    tmp_path: Path, setting: str, stages: tuple[str, ...]
) -> None:
    for place, content in (("here", b"same"), ("there", b"same"), ("others", b"else")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.safetensors").write_bytes(content)
    here, there, others = (load_profile("pocket", {setting: str(tmp_path / p)}) for p in ("here", "there", "others"))
    store = tmp_path / "store"
    for stage in stages:
        assert _digest(store, here, stage) == _digest(store, there, stage), stage
    assert _digest(store, here, stages[0]) != _digest(store, others, stages[0])


def test_another_revision_on_the_hub_is_another_generator(tmp_path: Path) -> None:
    first, second = (load_profile("sdxl", {"generator.revision": revision}) for revision in ("v1", "v2"))
    assert _digest(tmp_path, first, "control_checkpoint") != _digest(tmp_path, second, "control_checkpoint")


def test_settings_of_memory_and_speed_change_no_digest_and_a_precision_does(tmp_path: Path) -> None:
    stages = ("control_checkpoint", "preference_pairs", "dpo_checkpoint", "base/raw_generations")
    without = {"alignment.method": "none"}
    before = {stage: _digest(tmp_path, load_profile("flux", without), stage) for stage in stages}
    for name, value in (
        ("bake", True), ("compile", True), ("attention", "flash_3"), ("memory", "park_text"), ("precision", "bf16"),
    ):  # fmt: skip
        profile = load_profile("flux", {f"generator.{name}": value, **without})
        assert {stage: _digest(tmp_path, profile, stage) for stage in stages} == before, name
    for name, value in (("precision", "fp8"), ("precision", "auto"), ("attention", "sage")):
        profile = load_profile("flux", {f"generator.{name}": value, **without})
        for stage in ("control_checkpoint", "base/raw_generations"):  # others have nothing to paint without alignment
            assert _digest(tmp_path, profile, stage) != before[stage], (name, stage)


def test_the_settings_of_a_generator_are_digested_as_before_there_were_precisions() -> None:
    assert content_of(load_profile("flux"), "generator").keys() == {
        "backend", "model_path", "control_lora_path", "revision", "control", "control_strength", "steps", "guidance", "dtype",
    }  # fmt: skip
