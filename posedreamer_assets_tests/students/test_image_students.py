"""A study whose students see images, tiny, through its stages; and what older students do not notice of it."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.config import Profile, UserTestSet
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.executors import step_tags
from posedreamer_assets.errors import RecipeError, StudentError
from posedreamer_assets.pipeline import graph, graph_of, student_scores
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.refusals import refuse_unmakeable, require_models
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.pipeline.student_study import CONTRASTS, SPEC, student_key, study_setting
from posedreamer_assets.progress import watching
from posedreamer_assets.report.html import Note
from posedreamer_assets.report.students import section_of
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.make import Listed, make
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.students import vit
from posedreamer_assets.students.labels import labels_of
from posedreamer_assets.students.person_crops import crops_of, labels_in
from posedreamer_assets.students.person_pictures import Pictures
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.students.spec import PRECISIONS, StudentSpec
from posedreamer_assets.students.study_files import parse_study
from posedreamer_assets.students.vit import student_of
from posedreamer_assets.tables.rows import array, bodies, cameras
from posedreamer_assets.training.precision import NAMES
from posedreamer_assets_tests.students.outside_files import coco_set
from posedreamer_assets_tests.students.small import make_stages, with_study
from posedreamer_assets_tests.students.test_train_images import Kill
from posedreamer_assets_tests.students.test_user_test_sets import with_sets

TINY = (
    "{arch: vit-tiny, init: random, train_backbone: true, image_size: [64, 48], steps: 24, batch_size: 4, "
    "learning_rate: 1.0e-3}"
)
KEY = student_key("rendered", 0, 1)
STAGES = ("hmr_student", "student_scores", "hmr_benchmark")


def seeing(profile: Profile, folder: Path) -> Profile:
    text = Path(profile.students.study).read_text().replace("{steps: 24, batch_size: 4, copies: 2}", TINY)
    return with_study(profile, folder, text)


@pytest.fixture(scope="module")
def images(study: tuple[LanceStore, Profile], tmp_path_factory: pytest.TempPathFactory) -> tuple[LanceStore, Profile]:
    """The tiny study again, with students that see images."""
    place = tmp_path_factory.mktemp("images")
    shutil.copytree(study[0].root, place / "storage")
    store, profile = LanceStore(str(place / "storage")), seeing(study[1], place)
    made = make_stages(store, profile, STAGES)
    assert len(made) == 2 * 6 + 1, "manifests and test images are those that there were"
    return store, profile


def test_students_learn_from_images_and_are_scored_on_images(images: tuple[LanceStore, Profile]) -> None:
    store, profile = images
    snapshot = Snapshot(profile, store)
    for name in STAGES:
        assert make_stages(store, profile, (name,)) == [], "they are up to date, and passed their checks"
    rows = store.read("hmr_student", [KEY])
    assert rows.column("backbone").to_pylist() == ["random"] and rows.column("samples_seen").to_pylist() == [96]
    student = student_of(rows.column("weights")[0].as_py(), "vit-tiny", (64, 48))
    assert not student.training
    scores = store.read("student_scores", [KEY])
    assert set(scores.column("test_set").to_pylist()) == {"bench-looks", "bench-renders", "bench-generated"}
    upright = array(scores, "constant_pve_mm").mean()
    assert array(scores, "pve_mm").mean() < 1.5 * upright, "after 24 steps not worse than not to look, by far"
    found = snapshot.checkpoint(snapshot.graph["hmr_benchmark"])
    assert found is not None and found.metrics["arch"] == "vit-tiny" and found.metrics["init"] == "random"
    section = section_of(found.metrics, pocket=False)
    (said,) = (block.text for block in section.blocks if isinstance(block, Note) and "samples" in block.text)
    assert "is a vit-tiny and starts from random" in said and "fine-tuned" not in said


def test_no_features_are_cached_and_steps_ask_for_gpus(
    images: tuple[LanceStore, Profile], study: tuple[LanceStore, Profile]
) -> None:
    graph, before = graph_of(images[1]), graph_of(study[1])
    gone = {stage.key for stage in before} - {stage.key for stage in graph}
    assert gone == {f"{name}/student_features" for name in ("base", "hard", "hard2", "benchmark")}
    assert before["hmr_student"].pool is None
    for name in ("hmr_student", "student_scores"):
        tags = step_tags(graph[name].pool, Deployment(gpus=4))
        assert tags["dagster-k8s/config"]["container_config"]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    above = {stage.name for stage, _ in graph.upstream(graph["hmr_student"])}
    assert {"rendered_scenes", "raw_generations", "training_manifests"} <= above


@pytest.mark.parametrize("extras", [(), ("unaligned", "domains")], ids=["rounds", "all"])
def test_lineage_names_what_the_stages_read(images: tuple[LanceStore, Profile], extras: tuple[str, ...]) -> None:
    found = {stage.key: stage for stage in graph(2, (*extras, "image_students"))}
    for stage in (found["hmr_student"], found["student_scores"]):
        declared = {(reads.table, column) for reads in stage.reads for column in reads.columns}
        origins = stage.origins(images[1])
        assert {one for of in origins.values() for one in of} <= declared
        assert not stage.one_core and stage.pool == "gpu"
    learnt = {reads.table: reads.groups for reads in found["hmr_student"].reads if reads.columns == ("image",)}
    groups = ("base", "hard", *(("domain",) if extras else ()))
    plain = {"rendered_scenes": ("base",), "raw_generations": groups}
    assert learnt == {**plain, **({"unaligned_generations": ("base",)} if extras else {})}


def test_the_same_student_again_has_the_same_weights_also_after_a_kill(images: tuple[LanceStore, Profile]) -> None:
    store, profile = images
    snapshot = Snapshot(profile, store)
    stage = snapshot.graph["hmr_student"]
    before = store.read("hmr_student", [KEY]).column("weights")[0].as_py()
    again = stage.make(Inputs(stage, profile, Listed(snapshot), Models(profile), KEY)).rows
    assert again is not None and again.column("weights")[0].as_py() == before
    with pytest.raises(KeyboardInterrupt), watching(Kill(20)):
        make(snapshot, stage, KEY, force=True)
    (left,) = (store.checkpoint_folders.local / "unfinished" / "hmr_student" / KEY).iterdir()
    assert (left / "pictures.npy").exists() and left.name == snapshot.input_digest(stage, KEY)
    make(snapshot, stage, KEY, force=True)
    assert store.read("hmr_student", [KEY]).column("weights")[0].as_py() == before
    assert not left.exists()


def test_the_truth_before_the_crops_cameras_scores_the_floor(
    images: tuple[LanceStore, Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who says of each crop what is true in it, is as good as one can be with hands at rest."""
    store, profile = images
    snapshot = Snapshot(profile, store)
    stage = snapshot.graph["student_scores"]
    inputs = Inputs(stage, profile, Listed(snapshot), Models(profile), KEY)
    tests = inputs.rows("benchmark_images")
    before = cameras(tests)
    labels = labels_of(inputs.models.body, bodies(tests), before)
    crops = crops_of(student_scores._boxes(inputs, tests), before.focal_px, before.principal_px, (64, 48))
    true = labels_in(labels, crops, (64, 48))

    def knowing(student: object, pictures: Pictures) -> Predictions:
        assert np.allclose(pictures.labels.focal_px, true.focal_px)
        return Predictions(true.rotations, true.betas, true.pelvis_cam_m)

    monkeypatch.setattr(vit, "predict_pictures", knowing)
    rows = stage.make(inputs).rows
    assert rows is not None
    assert np.allclose(array(rows, "pve_mm"), array(rows, "floor_pve_mm"), atol=0.01)
    assert array(rows, "orient_deg").max() < 0.1 and array(rows, "betas_l1").max() < 1e-5
    assert np.allclose(array(rows, "predicted_pelvis_m"), labels.pelvis_cam_m, atol=1e-5)
    turned = Predictions(true.rotations, true.betas, true.pelvis_cam_m).rotations[:, 0] - labels.rotations[:, 0]
    assert np.abs(turned).max() > 0.01, "crops look elsewhere than images"


def test_a_changed_spec_makes_all_students_out_of_date(images: tuple[LanceStore, Profile], tmp_path: Path) -> None:
    store, profile = images
    for old, new in (
        ("vit-tiny", "vit-s"),
        ("[64, 48]", "[64, 64]"),
        ("random, train", "random, precision: float32, train"),
    ):
        changed = with_study(profile, tmp_path, Path(profile.students.study).read_text().replace(old, new))
        snapshot = Snapshot(changed, store)
        assert not snapshot.is_current(snapshot.graph["hmr_student"], KEY), new


def test_people_of_a_users_own_files_are_predicted_from_their_boxes(
    images: tuple[LanceStore, Profile], tmp_path: Path
) -> None:
    shutil.copytree(images[0].root, tmp_path / "storage")
    (tmp_path / "snaps").mkdir()
    snaps = UserTestSet("snaps", "coco", str(coco_set(tmp_path / "snaps")), str(tmp_path / "snaps/images"), least_px=40)
    store, profile = LanceStore(str(tmp_path / "storage")), with_sets(images[1], snaps)
    made = make_stages(store, profile, ("user/benchmark_images", "training_manifests", *STAGES))
    assert "hmr_student" not in {name for name, _ in made}
    rows = store.read("student_scores", [KEY])
    own = np.array([name.startswith("bench-user-") for name in rows.column("test_set").to_pylist()])
    assert own.any() and np.isfinite(array(rows, "predicted_rotations")).all()


def test_students_on_features_depend_on_what_they_did_before() -> None:
    """Their settings are spelt out: another key or value would make every student of every home out of date."""
    expected: Mapping[str, object] = {
        "init": "shipped:ranker",
        "steps": 250,
        "batch_size": 48,
        "learning_rate": 1.5e-3,
        "copies": 4,
        "dropout": 0.2,
    }
    assert StudentSpec().settings() == expected
    tiny = replace(StudentSpec(), arch="vit-tiny", init="random", train_backbone=True)
    assert {"arch", "revision", "train_backbone", "image_size", "precision"} <= set(tiny.settings())
    assert not {"copies", "dropout"} & set(tiny.settings()), "which say nothing of it"


def test_a_study_on_features_has_the_settings_that_it_had(study: tuple[LanceStore, Profile]) -> None:
    _, profile = study
    spec = {
        "init": "shipped:ranker",
        "steps": 24,
        "batch_size": 4,
        "learning_rate": 1.5e-3,
        "copies": 2,
        "dropout": 0.2,
    }
    assert study_setting(profile, SPEC, KEY) == {**spec, "reseed": False}
    assert study_setting(profile, CONTRASTS, "")["student"] == spec


RECIPES = "recipes:\n  a: {use: [{table: rendered_scenes}], size: 3}\n"


@pytest.mark.parametrize(
    ("given", "line", "words"),
    [
        ("arch: vit-x", 2, "arch: expected one of pose-head, vit-tiny, vit-s, vit-b, vit-l, found 'vit-x'"),
        ("arch: vit-s", 1, "init: shipped:ranker is no vision transformer"),
        ("arch: vit-s\n  init: random", 1, "train_backbone: a random backbone that does not learn shows nothing"),
        (
            "arch: vit-s\n  init: a/b\n  image_size: [250, 192]",
            4,
            r"image_size: expected height and width, multiples of 16",
        ),
        ("arch: vit-s\n  init: a/b\n  image_size: 256", 4, "found 256"),
        (
            "arch: vit-s\n  init: a/b\n  precision: half",
            4,
            "precision: expected one of auto, bfloat16, float32, found 'half'",
        ),
        ("steps: 9\n  train_backbone: true", 3, "train_backbone: pose-head sees cached features"),
        ("revision: main", 2, "revision: pose-head sees cached features"),
    ],
)
def test_a_mistake_in_the_section_is_told_with_its_line(given: str, line: int, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_study(f"student:\n  {given}\n{RECIPES}", "study.yaml", "study")
    assert str(caught.value).startswith(f"study.yaml:{line}: ") and words in str(caught.value)


def test_a_section_of_a_student_that_sees_images_is_read() -> None:
    text = "student: {arch: vit-l, init: a/b, revision: abc, train_backbone: true, image_size: [256, 192], precision: bfloat16}\n"
    spec = parse_study(text + RECIPES, "study.yaml", "study").student
    assert spec.image_size == (256, 192) and spec.sees_images
    assert StudentSpec(**{**asdict(spec), "image_size": list(spec.image_size)}) == spec
    assert PRECISIONS == NAMES


def test_an_init_that_is_nowhere_is_told_before_anything_is_made(
    images: tuple[LanceStore, Profile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = Path(images[1].students.study).read_text()
    for init, words in (
        ("no-one/no-model", r"student\.init: no-one/no-model is not on this computer, and HF_HUB_OFFLINE"),
        (str(tmp_path / "none"), r"student\.init: no folder .*none, which is no name on the model hub"),
    ):
        profile = with_study(images[1], tmp_path, text.replace("init: random", f"init: {init}"))
        with pytest.raises(StudentError, match=words):
            refuse_unmakeable(profile, graph_of(profile)["hmr_student"])
        with pytest.raises(StudentError, match=words):
            require_models(profile)
    require_models(images[1])
