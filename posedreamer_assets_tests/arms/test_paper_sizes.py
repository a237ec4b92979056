"""The study at the paper's sizes: what the profile says, and what is refused before anything is made."""

import dataclasses
import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from posedreamer_assets.cli.doctor_studies import look_at_photographs, look_at_pose2d
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.cli.run_command import stages_of, study_settings
from posedreamer_assets.config import Pose2dConfig, Profile, load_profile
from posedreamer_assets.defs.local import side_by_side
from posedreamer_assets.defs.local.side_by_side import processes_for
from posedreamer_assets.errors import ConfigError, PhotoError, PoseDreamerError, StudentError
from posedreamer_assets.people2d.network import PoseNet, load_baseline
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.refusals import refuse_unmakeable
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.outside_files import file_digest
from posedreamer_assets_tests.scenes.conftest import STUDY

_VGG19 = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
_VGG19 |= {16: (256, 256), 19: (512, 256), 21: (512, 512)}


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of VGG19's first layers, of which each is its number everywhere."""
    file = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    weights = {f"features.{k}.weight": torch.full((*sides, 3, 3), float(k)) for k, sides in _VGG19.items()}
    save_file(weights | {f"features.{k}.bias": torch.full(sides[:1], -float(k)) for k, sides in _VGG19.items()}, file)
    return file


def photographs(folder: Path, count: int = 2) -> dict[str, object]:
    """Settings of so many photographs of 32 x 32 pixels with somebody in each."""
    (folder / "images").mkdir()
    images = [{"id": k, "file_name": f"{k}.png", "width": 32, "height": 32} for k in range(count)]
    people = [
        {"id": k, "image_id": k, "keypoints": [5, 5, 2] * 17, "bbox": [1, 1, 9, 9], "iscrowd": 0} for k in range(count)
    ]
    for image in images:
        Image.new("RGB", (32, 32)).save(folder / "images" / str(image["file_name"]))
    file = folder / "people.json"
    file.write_text(json.dumps({"images": images, "annotations": people}))
    return {"photos.kind": "coco", "photos.path": str(folder / "images"), "photos.annotations": str(file)}


def paper(**settings: object) -> Profile:
    return load_profile(STUDY, {**study_settings(STUDY), **settings})


def test_the_profile_is_of_the_paper_s_sizes() -> None:
    profile = paper()
    cfg, teacher = profile.pose2d, profile.teacher
    assert (cfg.layout, cfg.stages, cfg.size, cfg.batch, cfg.frozen) == ("vgg19", 6, 368, 32, 4)
    assert (cfg.rotate_deg, cfg.scale_min, cfg.scale_max, round(cfg.shift_share * cfg.size)) == (45, 0.4, 1.6, 50)
    assert (teacher.groups, teacher.window, teacher.history, teacher.alpha, teacher.narrow) == (10, 20, 10, 0.01, 1)
    assert profile.crowds.size == 640 and profile.mixed.variants == 5
    assert profile.photos.batch_size * profile.learning_to_train.photo_batches >= 15_956 + 343, "all of its photographs"
    assert cfg.baseline is None and cfg.vgg19 is None, "weights are the user's"


@pytest.mark.parametrize(
    ("lost", "kind", "told"),
    [
        ({"photos.path": None}, PhotoError, r"photos.kind coco needs photographs: --set photos.path=FOLDER"),
        ({"photos.path": "/nowhere"}, PhotoError, r"photos.path: nothing at /nowhere"),
        ({"photos.annotations": "/nowhere.json"}, PhotoError, r"photos.annotations: nothing at /nowhere.json"),
        ({"photos.kind": "mpii"}, PhotoError, r"not MPII's file of annotations.*read with photos.kind=coco"),
        ({f"{STUDY}.photo_batches": 2}, PhotoError, r"2 photographs with annotated people.*photo_batches=1 takes all"),
        ({"pose2d.vgg19": None}, StudentError, r"--set pose2d.baseline=FOLDER .*--set pose2d.vgg19=FILE"),
        ({"pose2d.vgg19": "/nowhere"}, StudentError, r"pose2d.vgg19: nothing at /nowhere"),
        ({"pose2d.baseline": "/nowhere"}, StudentError, r"pose2d.baseline: no model.safetensors in /nowhere"),
        ({"pose2d.baseline": "shipped:pose2d"}, StudentError, r"does not fit layout vgg19, width 24, 6 stages"),
    ],
)
def test_files_that_are_missing_or_wrong_are_told_in_one_line_before_anything_is_made(
    tmp_path: Path, vgg19: Path, lost: dict[str, object], kind: type[PoseDreamerError], told: str
) -> None:
    settings = {**photographs(tmp_path), f"{STUDY}.photo_batches": 1, "pose2d.vgg19": str(vgg19), **lost}
    profile, home = paper(**settings), Home(tmp_path / "home")
    with pytest.raises(kind, match=told) as found:
        run_main_job(home, profile, only=stages_of(STUDY, profile))
    assert "\n" not in str(found.value)
    assert home.store().checkpoint("body_model") is None, "the first stage"


def test_photographs_that_are_not_there_are_counted(tmp_path: Path) -> None:
    settings = photographs(tmp_path, 3)
    profile = paper(**settings, **{f"{STUDY}.photo_batches": 1})
    assert look_at_photographs(profile).detail.startswith("3 with annotated people in ")
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(PhotoError, match=r"photos\.path: 1 of 3 photographs are not there, such as .*1\.png"):
        look_at_photographs(profile)


def test_a_step_of_the_ui_is_refused_by_the_same_words(tmp_path: Path, vgg19: Path) -> None:
    profile = paper()
    stages = graph_of(profile)
    with pytest.raises(PhotoError, match=r"photos\.kind mpii needs photographs"):
        refuse_unmakeable(profile, stages["photos/annotated_photos"])
    with pytest.raises(StudentError, match="no weights to start from"):
        refuse_unmakeable(profile, stages["pose2d_baseline"])
    refuse_unmakeable(profile, stages["ds/scene_layouts"])  # which reads neither
    named = paper(**{**photographs(tmp_path), "pose2d.vgg19": str(vgg19)})
    refuse_unmakeable(named, stages["photos/annotated_photos"])
    refuse_unmakeable(named, stages["pose2d_baseline"])


def test_photographs_of_no_kind_and_a_pocket_network_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"photos\.kind is stand_in"):
        load_profile("pocket", {"photos.path": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"pose2d\.baseline null is for layout vgg19; found pocket"):
        load_profile("pocket", {"pose2d.baseline": None})


def test_so_large_networks_are_trained_side_by_side_where_there_is_memory_for_each() -> None:
    profile, pocket = paper(), load_profile("pocket", study_settings(STUDY))
    stages = graph_of(profile)
    with (
        mock.patch.object(side_by_side, "usable_cores", return_value=16),
        mock.patch("psutil.virtual_memory", return_value=mock.Mock(available=20e9)),
        mock.patch("posedreamer_assets.diffusion.memory.gpu_gb", return_value=None),
    ):
        assert processes_for(stages["pose2d_students"], 1000, profile) == 3  # of 6 GB each, as measured
        assert processes_for(stages["pose2d_students"], 1000, pocket) == 10
        assert 1 < processes_for(stages["pose2d_predictions"], 1000, profile) < 10


def test_a_start_from_vgg19_has_its_layers_and_others_that_are_always_the_same(vgg19: Path) -> None:
    cfg = Pose2dConfig(layout="vgg19", stages=1, baseline=None, vgg19=str(vgg19))
    torch.manual_seed(5)
    one = load_baseline(cfg)
    torch.manual_seed(6)
    again = load_baseline(cfg)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    network = PoseNet(cfg)
    network.load_state_dict(one)
    convolutions = [layer for layer in network.features.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [float(layer.weight.detach().mean()) for layer in convolutions[:10]] == list(_VGG19)
    drawn = [value for name, value in one.items() if name.startswith("stages")]
    assert drawn and all(float(value.std()) > 0 for value in drawn if value.ndim == 4)
    assert look_at_pose2d(dataclasses.replace(paper(), pose2d=cfg)).ok


def test_baseline_and_taught_arms_depend_on_the_bytes_of_vgg19(vgg19: Path) -> None:
    asked = paper(**{"pose2d.vgg19": str(vgg19)})
    named = paper(**{"pose2d.vgg19": str(vgg19), "pose2d.baseline": "shipped:pose2d"})
    narrow = paper(**{"pose2d.vgg19": str(vgg19), "teacher.narrow": 4})
    for name, profile, depends in (
        ("pose2d_baseline", asked, True),
        ("pose2d_baseline", named, False),
        ("pose2d_students", named, True),
        ("pose2d_students", narrow, False),
    ):
        stage = graph_of(profile)[name]
        assert ("vgg19" in stage.under(stage, profile).files) == depends, (name, profile.pose2d)
    assert file_digest(asked, "vgg19") and file_digest(asked, "pose2d") is None


def test_photographs_in_another_folder_change_nothing_and_other_ones_do(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    settings = photographs(tmp_path / "here")
    there = {name: str(value).replace("/here/", "/there/") for name, value in settings.items()}
    store = Home(tmp_path / "home").store()

    def digest(settings: dict[str, object] | dict[str, str]) -> str:
        snapshot = Snapshot(paper(**settings, **{"learning_to_train.photo_batches": 1}), store)
        return snapshot.input_digest(snapshot.graph["photos/annotated_photos"], "photos-0000")

    before = digest(settings)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert digest(there) == before
    Image.new("RGB", (32, 32), "red").save(tmp_path / "there/images/1.png")
    assert digest(there) != before
