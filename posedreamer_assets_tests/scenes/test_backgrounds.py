"""The user's backgrounds: a verdict on each image, scenes before kept ones alone, and what a change makes out of date."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.checks import run_checks
from posedreamer_assets.cli.run import run_main_job
from posedreamer_assets.cli.run_command import stages_of
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.pipeline import background_verdicts, graph_of
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.rounds import planned_keys, source_name
from posedreamer_assets.pipeline.stage import Inputs, Made
from posedreamer_assets.render.backgrounds import photo_background, procedural_background
from posedreamer_assets.runtime.checking import Surroundings, check_asset
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import Listed, make
from posedreamer_assets.scenes import background_files as files
from posedreamer_assets.scenes.background_files import KeptBackgrounds, background_files, batches_of, bytes_digest
from posedreamer_assets.scenes.stand_in import stand_in_photo
from posedreamer_assets.storage import LanceStore
from posedreamer_assets.tables.images import decode
from posedreamer_assets.tables.keys import BACKGROUND, SCENE, group_of, is_reserved
from posedreamer_assets_tests.scenes.conftest import KEYS, SMALL, STUDY, Study
from posedreamer_assets_tests.scenes.faults import Fault, Plant, changed, every, rolled

KEY, STAGE = "backgrounds-0000", background_verdicts.STAGE
PLACES = ("in a room", "in a studio", "on a street", "in a gym")
LEAST = 200
VERDICTS: Mapping[str, str] = {
    "Wood/b.png": "kept",
    "a.png": "kept",
    "again/a.png": "kept",
    "crowd.png": "has_people",
    "cut.jpg": "unreadable",
    "flat.webp": "too_small",
    "narrow.png": "too_small",
    "text.jpeg": "unreadable",
}


def place(number: int, width: int = 260, height: int = 220) -> np.ndarray:
    rng = np.random.default_rng(number)
    return procedural_background(PLACES[number % len(PLACES)], rng, width, height, height / 2, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> Path:
    root = tmp_path_factory.mktemp("backgrounds")
    (root / "Wood").mkdir()
    (root / "again").mkdir()
    for number, name in enumerate(("a.png", "Wood/b.png")):
        Image.fromarray(place(number)).save(root / name)
    shutil.copy(root / "a.png", root / "again" / "a.png")
    (root / "crowd.png").write_bytes(stand_in_photo(body, "photos-0000/000000", 0, 256).data)
    Image.fromarray(place(2, LEAST - 1, 400)).save(root / "narrow.png")
    Image.fromarray(place(3, 400, LEAST - 1)).save(root / "flat.webp")
    Image.fromarray(place(0)).save(root / "whole.jpg")
    (root / "cut.jpg").write_bytes((root / "whole.jpg").read_bytes()[:1500])
    (root / "whole.jpg").unlink()
    (root / "text.jpeg").write_text("no image")
    (root / "LICENSE.txt").write_text("not listed")
    return root


def asking(folder: Path | None, **more: object) -> Profile:
    own = {"scenes.backgrounds": folder and str(folder), "crowds.min_background_px": LEAST}
    return load_profile("pocket", {**SMALL, **own, **more})


def inputs_of(profile: Profile, store: LanceStore, key: str = KEY) -> Inputs:
    stage = STAGE if group_of(key) == BACKGROUND else graph_of(profile)["ds/scene_images"]
    return Inputs(stage, profile, Listed(Snapshot(profile, store)), Models(profile), key)


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return STAGE.make(inputs_of(asking(folder), LanceStore(str(tmp_path_factory.mktemp("none")))))


@pytest.fixture
def rows(made: Made) -> pa.Table:
    assert made.rows is not None
    return made.rows


def judge(profile: Profile, store: LanceStore) -> None:
    """Verdicts as a run makes them: stored and checked."""
    make(Snapshot(profile, store), STAGE, KEY)
    check_asset(store, STAGE, KEY, profile)


# Verdicts


def test_every_image_of_the_folder_has_a_verdict_with_its_reason(rows: pa.Table, folder: Path) -> None:
    found = {row["path"]: row for row in rows.to_pylist()}
    assert {name: row["reason"] for name, row in found.items()} == VERDICTS
    for name, row in found.items():
        assert row["keep"] == (VERDICTS[name] == "kept")
        assert row["digest"] == bytes_digest((folder / name).read_bytes())
        assert (row["people"] is None) == (VERDICTS[name] in ("too_small", "unreadable"))
        assert (row["width"] is None) == (VERDICTS[name] == "unreadable")
    assert (found["narrow.png"]["width"], found["narrow.png"]["height"]) == (LEAST - 1, 400)
    assert found["crowd.png"]["people"] >= 1 and found["a.png"]["people"] == 0
    assert rows.column("sample_id").to_pylist() == [f"{KEY}/{k:06d}" for k in range(len(VERDICTS))]
    assert background_verdicts.figures(rows, Profile()) == {
        "images_kept": 3,
        "images_too_small": 2,
        "images_has_people": 1,
        "images_unreadable": 2,
    }


def test_the_least_size_is_512_where_no_other_is_asked_for(folder: Path, tmp_path: Path) -> None:
    assert Profile().crowds.min_background_px == 512
    profile = asking(folder, **{"crowds.min_background_px": 512})
    found = STAGE.make(inputs_of(profile, LanceStore(str(tmp_path)))).rows
    assert found is not None and {*found.column("reason").to_pylist()} == {"too_small", "unreadable"}
    assert found.column("people").null_count == found.num_rows
    with pytest.raises(ConfigError, match=r"crowds\.min_background_px is 0; expected 1 or more"):
        load_profile("pocket", {"crowds.min_background_px": 0})


def test_the_contact_sheet_frames_kept_images_and_those_with_people(made: Made) -> None:
    assert made.pictures is not None and made.pictures.shape == (4, 192, 192, 3)
    corners = [tuple(picture[0, 0].tolist()) for picture in made.pictures]
    assert corners == [background_verdicts._FRAMES["kept"]] * 3 + [background_verdicts._FRAMES["has_people"]]


def test_parts_of_a_batch_give_the_rows_of_the_whole(
    folder: Path, rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_verdicts, "_PART", 2)
    found = STAGE.make(inputs_of(asking(folder), LanceStore(str(tmp_path)))).rows
    assert found is not None
    for name in rows.column_names:
        if name != "people_score":  # convolutions of other batches round differently
            assert found.column(name).equals(rows.column(name)), name
    scores = [table.column("people_score").to_numpy() for table in (found, rows)]
    assert np.allclose(*scores, atol=1e-5, equal_nan=True)


# Checks


def failed(profile: Profile, store: LanceStore, rows: pa.Table) -> dict[str, str]:
    around = Surroundings(store, profile, "backgrounds", KEY)
    return {o.name: o.severity for o in run_checks("backgrounds", rows, around) if not o.passed}


def moved(name: str, reason: str) -> Plant:
    return changed(name, lambda value: None, where=lambda row: row["reason"] == reason)


FAULTS = (
    Fault("a reason that nobody knows", STAGE.key, "accepted_values__reason", changed("reason", lambda v: "ugly")),
    Fault("somebody in an image that is kept", STAGE.key, "verdict_follows_size_and_people",
          changed("people", lambda v: 2, where=lambda row: row["keep"])),
    Fault("a small image that is kept", STAGE.key, "verdict_follows_size_and_people",
          changed("width", lambda v: LEAST - 1, where=lambda row: row["keep"])),
    Fault("a large image called too small", STAGE.key, "verdict_follows_size_and_people",
          changed("width", lambda v: 900, where=lambda row: row["path"] == "narrow.png")),
    Fault("an image that nobody was counted in", STAGE.key, "verdict_follows_size_and_people", moved("people", "kept")),
    Fault("verdicts of other images", STAGE.key, "verdict_follows_size_and_people", rolled("reason", "keep")),
    Fault("refused and kept", STAGE.key, "kept_rows_have_no_reason_against",
          changed("keep", lambda v: True, where=lambda row: row["reason"] == "too_small")),
    Fault("kept bytes that nothing tells apart", STAGE.key, "not_null__digest", moved("digest", "kept")),
    Fault("one image twice", STAGE.key, "unique__path", every("path", lambda v: "a.png")),
    Fault("a sure counter", STAGE.key, "between__people_score",
          changed("people_score", lambda v: 1.5, where=lambda row: row["keep"])),
    Fault("all refused", STAGE.key, "something_is_kept", every("keep", lambda v: False)),
)  # fmt: skip


def test_of_true_rows_duplicates_alone_are_told_and_as_a_warning(rows: pa.Table, folder: Path, tmp_path: Path) -> None:
    profile, store = asking(folder), LanceStore(str(tmp_path))
    assert failed(profile, store, rows) == {"images_unique": "warn"}
    once = rows.filter(pa.array(["again" not in path for path in rows.column("path").to_pylist()]))
    assert failed(profile, store, once) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault: Fault, rows: pa.Table, folder: Path, tmp_path: Path) -> None:
    assert fault.check in failed(asking(folder), LanceStore(str(tmp_path)), fault.plant(rows))


# What scenes are drawn before


@pytest.fixture
def judged(study: Study, rows: pa.Table, folder: Path, tmp_path: Path) -> tuple[Profile, LanceStore]:
    """The study's layouts, and verdicts on the folder's images."""
    profile, store = asking(folder), LanceStore(str(tmp_path / "store"))
    layouts = study.rows("ds/scene_layouts")
    store.replace_partition("scene_layouts", KEYS["scene"], layouts.drop_columns(["row_digest"]), input_digest="made")
    judge(profile, store)
    return profile, store


def test_where_all_images_are_kept_crops_are_those_of_the_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("b.png", "a-b.png", "a/z.png", "a/B.jpg", "Z.webp")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(place(number)).save(tmp_path / name)
    names = [file.name for file in background_files(str(tmp_path))]
    kept = KeptBackgrounds(tmp_path, {name: bytes_digest((tmp_path / name).read_bytes()) for name in reversed(names)})
    for seed in range(12):
        crop = kept.crop(np.random.default_rng(seed), 64, 48)
        wanted = photo_background(str(tmp_path), np.random.default_rng(seed), 64, 48)
        assert crop.shape == (48, 64, 3) and np.array_equal(crop, wanted)


def test_scenes_are_drawn_before_kept_images_alone(judged: tuple[Profile, LanceStore], folder: Path) -> None:
    profile, store = judged
    inputs = inputs_of(profile, store, KEYS["scene"])
    kept = background_verdicts.kept_backgrounds(inputs)
    assert kept.names == ["Wood/b.png", "a.png", "again/a.png"]
    made = inputs.stage.make(inputs)
    assert made.rows is not None
    for row in made.rows.to_pylist():
        rng = np.random.default_rng(row["seed"])
        crop = kept.crop(rng, row["width"], row["height"]).astype(int)
        picture, nobody = decode(row["image"]).astype(int), decode(row["instances"]) == 0
        # Nobody's pixels are the background's, or darker by a shadow and by rounding.
        assert nobody.any() and (picture - crop)[nobody].max() <= 2
        assert np.mean(np.abs(picture - crop)[nobody].max(axis=1) <= 2) > 0.5


def test_a_folder_of_which_nothing_is_kept_is_one_line_that_says_why(
    study: Study, body: BodyModel, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "all").mkdir()
    for name in ("crowd.png", "text.jpeg", "narrow.png", "flat.webp"):
        shutil.copy(folder / name, tmp_path / "all" / name)
    profile, store = asking(tmp_path / "all"), LanceStore(str(tmp_path / "store"))
    judge(profile, store)
    with pytest.raises(ConfigError) as caught:
        background_verdicts.kept_backgrounds(inputs_of(profile, store, KEYS["scene"]))
    text = str(caught.value)
    assert "none of 4 images" in text and "(2 too_small, 1 has_people, 1 unreadable)" in text and "\n" not in text


@pytest.mark.parametrize("change", ["bytes", "gone"])
def test_a_file_that_is_another_one_by_now_is_not_drawn(folder: Path, tmp_path: Path, change: str) -> None:
    shutil.copy(folder / "a.png", tmp_path)
    kept = KeptBackgrounds(tmp_path, {"a.png": bytes_digest((tmp_path / "a.png").read_bytes())})
    if change == "gone":
        (tmp_path / "a.png").unlink()
    else:
        shutil.copy(folder / "crowd.png", tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"a\.png (has changed|cannot be read).*run again"):
        kept.crop(np.random.default_rng(0), 32, 32)


def test_a_missing_folder_one_without_images_and_names_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scenes\.backgrounds: .*none is no folder"):
        planned_keys(asking(tmp_path / "none"), (BACKGROUND,))
    with pytest.raises(ConfigError, match=r"scenes\.backgrounds: no images in"):
        background_files(str(tmp_path))
    Image.fromarray(place(0)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    with pytest.raises(ConfigError, match="is not UTF-8; rename the file"):
        background_files(str(tmp_path))


# Batches


def some_files(count: int) -> list[files.BackgroundFile]:
    return [files.BackgroundFile(f"{k:05d}.jpg", 10, k) for k in range(count)]


def test_a_batch_has_a_thousand_images_at_most_and_no_image_is_lost() -> None:
    for count in (1, 999, 1000, 1001, 5000):
        every_file = some_files(count)
        batches = batches_of(every_file)
        assert sorted((f for own in batches.values() for f in own), key=lambda f: f.name) == every_file
        assert max(map(len, batches.values())) <= 1000
        assert len(batches) <= 1 if count <= 1000 else len(batches) in (2, 4, 8, 16)
    assert list(batches_of(some_files(1000))) == [0]


def test_an_image_more_changes_its_own_batch_alone() -> None:
    before = batches_of(some_files(5000))
    after = batches_of([*some_files(5000), files.BackgroundFile("new.jpg", 10, 0)])
    assert [key for key in after if after[key] != before[key]] == [
        key for key, own in after.items() if any(f.name == "new.jpg" for f in own)
    ]


# The graph, and what is out of date


def test_without_a_folder_nothing_of_this_is_there_and_scenes_depend_on_what_they_did() -> None:
    plain = asking(None)
    assert STAGE.key not in {stage.key for stage in graph_of(plain)}
    assert planned_keys(plain, (BACKGROUND, SCENE)) == ["scenes-0000"]
    stage = graph_of(plain)["ds/scene_images"]
    assert (stage.files, [reads.table for reads in stage.reads]) == (("backgrounds",), ["scene_layouts"])
    assert is_reserved("backgrounds") and group_of("backgrounds-0012") == BACKGROUND
    named = replace(plain, poses=replace(plain.poses, source="/somewhere/backgrounds"))
    assert source_name(named) == "poses-backgrounds"


def test_with_a_folder_verdicts_come_before_scenes(folder: Path) -> None:
    profile = asking(folder)
    assert planned_keys(profile, (BACKGROUND,)) == [KEY]
    of = graph_of(profile)
    assert (STAGE, False) in of.upstream(of["ds/scene_images"])
    keys = [stage.key for stage in of]
    assert keys.index(STAGE.key) < keys.index("ds/scene_images")
    assert set(stages_of(STUDY, profile)) - set(stages_of(STUDY, asking(None))) == {STAGE.key}
    off = load_profile("pocket", {"scenes.backgrounds": str(folder)})
    assert STAGE.key not in {stage.key for stage in graph_of(off)}, "rendered_scenes alone takes the folder as it is"


def digests(profile: Profile, store: LanceStore, batches: int) -> dict[str, str]:
    snapshot = Snapshot(profile, store)
    keys = [f"backgrounds-{k:04d}" for k in range(batches)]
    return {key: snapshot.input_digest(STAGE, key) for key in keys}


def test_what_changes_in_the_folder_makes_its_batch_out_of_date_and_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST", 5)
    own, store = tmp_path / "own", LanceStore(str(tmp_path / "store"))
    shutil.copytree(folder, own)
    profile = asking(own)
    batches = batches_of(background_files(str(own)))
    assert planned_keys(profile, (BACKGROUND,)) == [f"backgrounds-{k:04d}" for k in batches] and len(batches) > 1
    before = digests(profile, store, len(batches))
    Image.fromarray(place(7)).save(own / "a.png")
    after = digests(profile, store, len(batches))
    (changed_key,) = [key for key in before if before[key] != after[key]]
    assert "a.png" in [file.name for file in batches[int(changed_key[-4:])]]
    (own / "LICENSE.txt").write_text("other words")
    assert digests(profile, store, len(batches)) == after


def test_scenes_are_out_of_date_after_other_bytes_and_not_after_another_time(
    judged: tuple[Profile, LanceStore], folder: Path, tmp_path: Path
) -> None:
    _, store = judged
    shutil.copytree(folder, tmp_path / "own")
    profile = asking(tmp_path / "own")

    def scenes() -> str:
        judge(profile, store)
        snapshot = Snapshot(profile, store)
        assert snapshot.is_current(STAGE, KEY)
        return snapshot.input_digest(snapshot.graph["ds/scene_images"], KEYS["scene"])

    before = scenes()
    os.utime(tmp_path / "own" / "a.png", (1, 1))
    assert not Snapshot(profile, store).is_current(STAGE, KEY)
    assert scenes() == before
    Image.fromarray(place(7)).save(tmp_path / "own" / "a.png")
    assert scenes() != before


def test_the_least_size_and_the_counter_concern_verdicts_alone(folder: Path, tmp_path: Path) -> None:
    store, profile = LanceStore(str(tmp_path)), asking(folder)
    larger = asking(folder, **{"crowds.min_background_px": 300})
    surer = asking(folder, **{"counter.threshold": 0.9})
    for other in (larger, surer):
        one, two = Snapshot(profile, store), Snapshot(other, store)
        assert one.input_digest(STAGE, KEY) != two.input_digest(STAGE, KEY)
        for key in ("ds/scene_layouts", "dm/scene_layouts", "photos/annotated_photos"):
            partition = KEYS["scene" if key.startswith("ds") else "photo"]
            assert one.input_digest(one.graph[key], partition) == two.input_digest(two.graph[key], partition)


@pytest.mark.slow
def test_a_run_with_a_folder_makes_verdicts_and_is_up_to_date_afterwards(folder: Path, tmp_path: Path) -> None:
    home, profile = Home(tmp_path), asking(folder)
    wanted = [key for key in stages_of(STUDY, profile) if key == "body_model" or key.startswith("ds/")]
    first = run_main_job(home, profile, only=wanted)
    assert {timing.stage: timing.made for timing in first.timings} == dict.fromkeys(wanted, 1)
    assert not any(timing.made for timing in run_main_job(home, profile, only=wanted).timings)
    store = home.store()
    assert store.read("backgrounds", [KEY]).num_rows == len(VERDICTS)
