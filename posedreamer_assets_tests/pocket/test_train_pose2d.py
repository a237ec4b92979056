"""The baseline of the 2D pose student: stand-ins, training that goes on, and what it leaves behind."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from posedreamer_assets.body.model import load_body
from posedreamer_assets.config import Pose2dConfig
from posedreamer_assets.people2d.network import load_baseline
from posedreamer_assets.pocket import train_pose2d
from posedreamer_assets.pocket.shards import ShardError
from posedreamer_assets.pocket.stand_ins import _SEEDS, TEST, TRAIN, photo_shard, read_photo_shard, source_of
from posedreamer_assets.pocket.train_pose2d import BaselineTraining, read_photos, render_photos, train_baseline
from posedreamer_assets.scenes.stand_in import stand_in_photo
from posedreamer_assets.tables.images import decode_rgb
from posedreamer_assets.training.log import read_log

PHOTOS = 3
SMALL = Pose2dConfig(size=64, width=8, batch=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    render_photos(folder, PHOTOS)
    return folder


def test_stand_ins_come_back_as_they_were_drawn(photos: Path) -> None:
    pictures = read_photos(photos, TRAIN, PHOTOS)
    assert len(pictures) == PHOTOS
    drawn = stand_in_photo(load_body(), f"{TRAIN}-000/{1:06d}", _SEEDS[TRAIN], 288)
    np.testing.assert_array_equal(pictures[1].image, decode_rgb(drawn.data))
    np.testing.assert_array_equal(pictures[1].known, drawn.people.mpii_labelled)
    np.testing.assert_allclose(pictures[1].joints, drawn.people.mpii, atol=1e-4)
    ignored = pictures[1].ignore
    np.testing.assert_array_equal(np.zeros((288, 288), bool) if ignored is None else ignored, drawn.ignore)
    people = source_of(pictures)
    assert all(pictures[k].known[p].sum() >= 4 for k, p in people.people)


def test_nobody_is_measured_on_what_was_learnt(photos: Path) -> None:
    learnt, measured = (read_photo_shard(photo_shard(photos, split, 0)) for split in (TRAIN, TEST))
    assert not any(np.array_equal(a.image, b.image) for a in learnt for b in measured)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    photo_shard(tmp_path, TRAIN, 0).write_bytes(b"nothing")
    with pytest.raises(ShardError, match=r"pose2d-train-000\.npz: no shard of stand-ins"):
        read_photos(tmp_path, TRAIN, PHOTOS)


def test_training_goes_on_and_ends_as_if_it_had_not_stopped(photos: Path, tmp_path: Path) -> None:
    # Rates follow the share of the budget: a stop that is no end has the same budget as the whole.
    whole = BaselineTraining(max_steps=4, photos=PHOTOS, learning_rate=1e-3)
    figures = train_baseline(photos, tmp_path / "whole", whole, SMALL)
    assert set(figures) >= {"map", "map_low", "map_high", "head", "ankle"} and figures["people"] > 0

    torch.manual_seed(whole.seed)
    first = train_pose2d._Run(photos, tmp_path / "parts", whole, SMALL)
    for step in range(2):
        first.one_step(step / 4)
        first.progress.step += 1
    first.checkpoint()
    train_baseline(photos, tmp_path / "parts", whole, SMALL)
    ends = [load_baseline(dataclasses.replace(SMALL, baseline=str(tmp_path / name))) for name in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "| steps of 4 crops | 4 |" in card and str(tmp_path) not in card
    assert read_log(tmp_path / "whole" / "training.jsonl")[-1]["step"] == 4
