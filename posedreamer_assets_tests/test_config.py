"""Profiles: what is written is what is read, and mistakes are named."""

from pathlib import Path

import pytest

from posedreamer_assets.config import RoundConfig, load_profile, profile_names, save_profile, write_whole
from posedreamer_assets.errors import ConfigError


@pytest.mark.parametrize("name", profile_names())
def test_a_saved_profile_reads_back_equal(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    save_profile(profile, tmp_path / "profile.yaml")
    assert load_profile(tmp_path / "profile.yaml") == profile


def test_setting_one_field_of_a_section_keeps_the_section_s_own_defaults() -> None:
    assert load_profile("pocket", {"judge.batch_size": 3}).judge.kind == load_profile("pocket").judge.kind == "heatmap"


def test_an_absent_section_can_be_filled_by_a_single_setting() -> None:
    profile = load_profile("pocket", {"outside_judge.kind": "onnx", "outside_judge.path": "movenet.onnx"})
    assert profile.outside_judge is not None
    assert profile.outside_judge.path == "movenet.onnx"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("poses.batch_sise", 3, "unknown key 'batch_sise'"),
        ("poses.batch_size", "many", "expected <class 'int'>, found 'many'"),
        ("poses.batch_size", True, "found True"),
        ("name.x", 1, "is a value, not a section"),
        ("cameras", 3, "expected a mapping"),
        ("generator.control", "edges", "generator: control: expected one of mesh, depth, normals, found 'edges'"),
        ("generator.control", ["mesh"], "expected one of mesh, depth, normals"),
        ("alignment.method", "dpo", "alignment: method: expected one of flow_dpo, none, found 'dpo'"),
        ("alignment.method", None, "expected one of flow_dpo, none, found None"),
        ("generator.backend", "sdxl", "sdxl predicts noise .* set alignment.method to none"),
        ("judge.crop", "half", "judge: crop: expected one of whole, label, found 'half'"),
        ("counter.kind", "yolo", "counter: kind: expected one of auto, centre, onnx, detr, found 'yolo'"),
        ("scenes.reference_batches", 0, "scenes.reference_batches is 0; expected 1 or more"),
        ("curriculum.rounds", [{"sise": 3}], "unknown key 'sise'"),
        ("curriculum.rounds", [3], "expected a mapping"),
        ("curriculum.rounds", 2, "found 2"),
        ("alignment.reference_every", -1, r"alignment\.reference_every is -1; expected 0 or more"),
        ("alignment.optimizer", "sgd", "expected one of adamw, adamw8bit, found 'sgd'"),
        ("generator.precision", "int4", "expected one of auto, bf16, fp8, int8, nf4, found 'int4'"),
        ("generator.bake", "yes", "expected one of auto, true, false, found 'yes'"),
        ("generator.precision", "fp8", "generator.precision is for large generators; found pocket"),
        ("generator.compile", True, "generator.compile is for large generators; found pocket"),
        ("alignment.val_share", 0.5, "are 1 together and leave no poses to train on"),
    ],
)
def test_a_mistake_is_named_with_what_was_found(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_profile("pocket", {key: value})


def test_a_profile_nested_beyond_reason_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("name: " + "[" * 20_000)
    with pytest.raises(ConfigError, match=r"deep\.yaml: not valid YAML"):
        load_profile(tmp_path / "deep.yaml")


def test_sdxl_aligned_by_flow_dpo_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"set alignment\.method to none"):
        load_profile("sdxl", {"alignment.method": "flow_dpo"})


def test_the_sdxl_profile_names_public_weights_a_depth_control_and_no_alignment() -> None:
    profile = load_profile("sdxl")
    assert profile.generator.model_path == "stabilityai/stable-diffusion-xl-base-1.0"
    assert profile.generator.control_lora_path == "diffusers/controlnet-depth-sdxl-1.0"
    assert (profile.generator.control, profile.alignment.off) == ("depth", True)


def test_the_zimage_profile_paints_over_depth_at_the_strength_its_controlnet_is_meant_for() -> None:
    profile = load_profile("zimage")
    assert (profile.generator.control, profile.generator.control_strength) == ("depth", 0.75)
    assert (profile.generator.guidance, profile.alignment.off) == (0.0, True)
    with pytest.raises(ConfigError, match=r"zimage takes captions .* set alignment\.method to none"):
        load_profile("zimage", {"alignment.method": "flow_dpo"})
    with pytest.raises(ConfigError, match=r"control_strength is -1; expected 0 to 2"):
        load_profile("zimage", {"generator.control_strength": -1})
    with pytest.raises(ConfigError, match=r"park_text is for flux, zimage, klein, qwenimage; found sdxl"):
        load_profile("sdxl", {"generator.memory": "park_text"})


def test_rounds_are_a_list_of_sections_whose_fields_have_defaults(tmp_path: Path) -> None:
    profile = load_profile("pocket", {"curriculum.rounds": [{"size": 5}, {"batches": 2, "size": 7}]})
    assert profile.curriculum.rounds == (RoundConfig(1, 5), RoundConfig(2, 7))
    save_profile(profile, tmp_path / "profile.yaml")
    assert load_profile(tmp_path / "profile.yaml") == profile
    assert load_profile("pocket", {"curriculum.rounds": []}).curriculum.rounds == ()


def test_an_integer_serves_where_a_float_is_expected() -> None:
    assert load_profile("pocket", {"cameras.focal_max": 3}).cameras.focal_max == 3.0


def test_a_written_file_has_the_permissions_of_any_new_file_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for text in ("first", "second"):
        write_whole(tmp_path / "below" / "page.html", text)
    (written,) = (tmp_path / "below").iterdir()
    assert written.read_text() == "second"
    assert written.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_some_renders_alone_are_refused_where_all_are_needed() -> None:
    few = {"scenes.reference_batches": 2}
    with pytest.raises(ConfigError, match="go by renders of every pose"):
        load_profile("pocket", {**few, "curation.min_render_oks": 0.5})
    with pytest.raises(ConfigError, match="students learn from renders"):
        load_profile("pocket", {**few, "students.study": "pocket"})


def test_precisions_that_nothing_is_trained_over_or_merged_into_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"flow_dpo cannot train over weights in fp8; set generator\.precision to bf16"
    ):
        load_profile("flux", {"generator.precision": "fp8"})
    with pytest.raises(ConfigError, match=r"in fp8, which generator\.precision auto may be; set"):
        load_profile("flux", {"generator.precision": "auto"})
    small = {"generator.precision": "fp8", "alignment.method": "none", "generator.control_lora_path": "lora"}
    with pytest.raises(ConfigError, match="a control LoRA is merged before weights are stored in fp8; set auto"):
        load_profile("flux", {**small, "generator.bake": False})
    assert load_profile("flux", {**small, "generator.bake": True}).generator.bake is True
    assert load_profile("zimage", {"generator.precision": "fp8", "generator.bake": False}).generator.precision == "fp8"
