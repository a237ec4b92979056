"""Pairs out of tables, and online Flow-DPO: what is painted by whom, and where each round begins."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.diffusion.dpo import train_dpo
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.pipeline.alignment_pairs import WITHOUT_PIXELS, pair_data, renewed_pairs, train_in_rounds
from posedreamer_assets.pipeline.dpo_checkpoint import STAGE
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets_tests.diffusion.conftest import draw_discs, tiny_config, tiny_folder  # noqa: F401 - a fixture

SETTINGS = {
    "alignment.batch_size": 2, "alignment.steps": 5, "alignment.reference_every": 2, "alignment.eval_every": 1,
    "alignment.lora_rank": 2, "alignment.learning_rate": 5e-3, "alignment.max_epochs": 100.0, "alignment.min_gap": 0.1,
    "alignment.candidate_strengths": [1.0, 0.0],
}  # fmt: skip
POSES = 6


class Red:
    """A ranker that sees how red an image is."""

    def detect(self, images: np.ndarray) -> np.ndarray:
        found = np.zeros((len(images), 17, 3), np.float32)
        found[..., 0] = images[..., 0].mean((1, 2))[:, None]
        return found


def tables() -> tuple[pa.Table, pa.Table]:
    """Control maps and preference pairs of discs; the first candidate is the disc, the second its inverse."""
    images, controls, captions = draw_discs(POSES)
    ids = [f"align-procedural-0000/{i:06d}" for i in range(POSES)]
    maps = pa.table(
        {
            "sample_id": ids[::-1],
            "control": [encode_png(one) for one in controls[::-1]],
            "keypoints_2d": pa.array([[100.0] * 34] * POSES, pa.list_(pa.float32(), 34)),
            "keypoints_visible": pa.array([[True] * 17] * POSES, pa.list_(pa.bool_(), 17)),
            "body_pixels": [4_000_000] * POSES,
        }
    )
    pairs = pa.table(
        {
            "sample_id": ids,
            "alignment_split": ["val", "val", "train", "train", "train", "train"],
            "status": ["pair", "pair", "pair", "pair", "small_gap", "pair"],
            "caption": captions,
            "candidate_oks": [[0.9, 0.2], [0.8, 0.6], [0.9, 0.1], [0.2, 0.8], [0.9, 0.89], [0.7, 0.1]],
            "candidate_images": [[encode_png(one), encode_png(255 - one)] for one in images],
        }
    )
    return maps, pairs


@pytest.fixture
def profile(tiny_folder: Path) -> Profile:  # noqa: F811 - the fixture
    profile = load_profile("pocket", SETTINGS)
    return replace(profile, generator=tiny_config(tiny_folder))


def inputs_of(profile: Profile, folder: Path) -> Any:
    """Inputs of the stage; `taken` notes how many rows of which table were taken at a time."""
    _, pairs = tables()
    taken: list[tuple[str, int, tuple[str, ...]]] = []

    def take(table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        taken.append((table, len(ids), tuple(columns)))
        place = {name: i for i, name in enumerate(pairs.column("sample_id").to_pylist())}
        return pairs.take(pa.array([place[name] for name in ids])).select(list(columns))

    from posedreamer_assets_tests.diffusion.conftest import IMAGE

    generator = PocketGenerator.load(profile.generator, IMAGE)
    models = SimpleNamespace(generator=generator, local_generator=generator, ranker=Red())
    return SimpleNamespace(profile=profile, take=take, taken=taken, models=models, place=folder, unfinished=None)


def test_pixels_are_taken_when_they_are_asked_for_and_are_those_of_the_pair(profile: Profile, tmp_path: Path) -> None:
    inputs, (maps, pairs) = inputs_of(profile, tmp_path), tables()
    data = pair_data(inputs, maps, pairs.select(["sample_id", *WITHOUT_PIXELS]))
    assert inputs.taken == []
    images, controls, captions = draw_discs(POSES)
    used = [0, 1, 2, 3, 5]  # 4 is no pair
    assert data.captions == [captions[i] for i in used]
    numbers = zip(data.poses, data.winners, data.losers, data.validation, strict=True)
    found = {(used[pose], int(winner), int(loser)): bool(held_out) for pose, winner, loser, held_out in numbers}
    assert found == {(0, 0, 1): True, (1, 0, 1): True, (2, 0, 1): False, (3, 1, 0): False, (5, 0, 1): False}
    pixels = data.read(np.array([4, 1]))
    assert inputs.taken == [("preference_pairs", 2, ("candidate_images",))]
    assert np.array_equal(pixels.controls, controls[[5, 1]])
    assert np.array_equal(pixels.candidates[:, 0], images[[5, 1]])
    assert np.array_equal(pixels.candidates[:, 1], 255 - images[[5, 1]])


def test_no_pair_at_all_is_an_error(profile: Profile, tmp_path: Path) -> None:
    inputs, (maps, pairs) = inputs_of(profile, tmp_path), tables()
    with pytest.raises(AlignmentError, match="no pose gave a pair"):
        pair_data(inputs, maps, pairs.slice(4, 1))


def test_candidates_are_painted_anew_by_the_adapter_and_once(profile: Profile, tmp_path: Path) -> None:
    inputs, (maps, pairs) = inputs_of(profile, tmp_path), tables()
    loose = replace(profile, alignment=replace(profile.alignment, min_gap=0.0, min_winner=0.0))
    inputs.profile = loose
    generator = inputs.models.generator
    first = train_dpo(pair_data(inputs, maps, pairs), generator, loose.alignment, 0, tmp_path / "first")
    painted: list[tuple[Path, float]] = []
    generate = generator.generate

    def noted(*args: Any, **given: Any) -> np.ndarray:
        painted.append((given["adapter_path"], given["control_strength"]))
        return generate(*args, **given)

    generator.generate = noted
    data = renewed_pairs(inputs, maps, pairs, tmp_path / "first", 1, tmp_path / "round")
    assert painted == [(tmp_path / "first", 1.0), (tmp_path / "first", 0.0)]
    before = data.read(np.array([0, 2]))
    again = renewed_pairs(inputs, maps, pairs, tmp_path / "first", 1, tmp_path / "round")
    assert len(painted) == 2, "what lies there is not painted again"
    assert np.array_equal(before.candidates, again.read(np.array([0, 2])).candidates)
    generator.generate = generate
    assert first.best_step > 0
    other = renewed_pairs(inputs, maps, pairs, tmp_path / "first", 2, tmp_path / "round-2")
    assert not np.array_equal(before.candidates, other.read(np.array([0, 2])).candidates), "noise of its own"


def test_each_round_begins_where_the_one_before_ended(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posedreamer_assets.pipeline import alignment_pairs

    inputs, (maps, pairs) = inputs_of(profile, tmp_path / "out"), tables()
    inputs.place.mkdir()
    inputs.unfinished = tmp_path / "unfinished"
    first = pair_data(inputs, maps, pairs)
    painters: list[Path] = []

    def renewed(inputs: Any, maps: Any, pairs: Any, adapter: Path, number: int, folder: Path) -> Any:
        painters.append(adapter)
        return first

    monkeypatch.setattr(alignment_pairs, "renewed_pairs", renewed)
    result, said = train_in_rounds(cast(Any, inputs), maps, pairs, first, 0)
    rounds = [tmp_path / "unfinished" / f"round-{i}" for i in range(3)]
    assert painters == rounds[:2]
    assert [one["steps"] for one in said["rounds"]] == [2, 2, 1]
    names = ("pytorch_lora_weights.safetensors", "trajectory.json")
    assert all((inputs.place / name).read_bytes() == (rounds[2] / name).read_bytes() for name in names)
    assert result.adapter_path == inputs.place / names[0]
    begun = [json.loads((place / names[1]).read_text())["validations"][0] for place in rounds]
    assert all(one["margin"] == 0.0 for one in begun)
    assert len({one["reference_winner_error"] for one in begun}) == 3, "the reference moves"


def test_the_ranker_counts_where_it_ranks() -> None:
    offline, online = (STAGE.under(STAGE, load_profile("pocket", {"alignment.reference_every": n})) for n in (0, 20))
    assert "ranker" not in offline.settings and "ranker" not in offline.files
    assert "ranker" in online.settings and "ranker" in online.files
