"""Preference pairs and the DPO adapter, from rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets import images as codec
from posedreamer_assets.batches.models import detector_of, generator_of
from posedreamer_assets.batches.scores import oks_of
from posedreamer_assets.config import Profile
from posedreamer_assets.diffusion.pairs import make_pairs
from posedreamer_assets.records import PREFERENCE_PAIRS
from posedreamer_assets.rows import images, make_table, same_rows, texts
from posedreamer_assets.seeds import derive_seed


def make_pair_rows(profile: Profile, poses: pa.Table, maps: pa.Table, key: str) -> tuple[pa.Table, np.ndarray]:
    """Rows of `records.PREFERENCE_PAIRS` for the train and val poses, and winners beside losers for looking at."""
    same_rows(poses, maps)
    paired = pc.not_equal(poses.column("split"), "test")
    poses, maps = poses.filter(paired), maps.filter(paired)
    ids, captions, count = texts(poses, "sample_id"), texts(poses, "caption"), profile.alignment.candidates
    seeds = [[derive_seed(profile.seed, i, f"candidate-{k}") for k in range(count)] for i in ids]
    candidates = generate_candidates(profile, images(maps, "control"), captions, seeds)
    ranker = detector_of(profile.ranker, profile.image)
    oks = np.stack([oks_of(ranker, candidates[:, k], maps)[0] for k in range(count)], axis=1)
    decisions = make_pairs(oks, profile.alignment.min_gap, profile.alignment.min_winner)
    winner = np.array([d.winner for d in decisions])
    loser = np.array([d.loser for d in decisions])
    rows = np.arange(len(ids))
    best, worst = candidates[rows, winner], candidates[rows, loser]
    columns: dict[str, Any] = {
        "sample_id": ids,
        "partition_key": [key] * len(ids),
        "split": texts(poses, "split"),
        "status": [d.status for d in decisions],
        "candidate_oks": oks.tolist(),
        "candidate_seeds": seeds,
        "winner": winner,
        "loser": loser,
        "winner_oks": oks[rows, winner],
        "loser_oks": oks[rows, loser],
        "winner_image": [codec.encode_png(image) for image in best],
        "loser_image": [codec.encode_png(image) for image in worst],
        "caption": captions,
    }
    return make_table(columns, PREFERENCE_PAIRS), np.concatenate([best[:6], worst[:6]])


def generate_candidates(
    profile: Profile, controls: np.ndarray, captions: list[str], seeds: list[list[int]]
) -> np.ndarray:
    """Several images of each pose: (n, k, h, w, 3)."""
    generator = generator_of(profile.generator, profile.image)
    count = len(seeds[0]) if seeds else 0
    flat = generator.generate(
        np.repeat(controls, count, axis=0),
        [caption for caption in captions for _ in range(count)],
        [seed for row in seeds for seed in row],
    )
    return flat.reshape(len(controls), count, *flat.shape[1:])
