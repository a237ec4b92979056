"""Which of several images of one pose shows the pose better."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline.control_images import control_column, control_images
from posedreamer_assets.pipeline.figures import mean, share
from posedreamer_assets.pipeline.sample_scores import OKS_OF, oks_of
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of, copied
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import ALIGN
from posedreamer_assets.tables.rows import array, make_table, same_rows, texts

TABLE = "preference_pairs"
STATUSES = ("pair", "small_gap", "weak_winner", "no_alignment")


def make(inputs: Inputs) -> Made:
    """Paint the candidates of each train and val pose and rank them; winners above losers are shown."""
    from posedreamer_assets.diffusion.pairs import make_pairs
    from posedreamer_assets.tables.images import encode_png

    profile, poses = inputs.profile, inputs.rows("pose_library")
    paired = np.array(texts(poses, "alignment_split")) != "test"
    poses = poses.filter(paired)
    if profile.alignment.off:
        return Made(_rows_without_candidates(poses, inputs.key))
    maps = inputs.rows("control_maps").filter(paired)
    same_rows(poses, maps)
    cfg, ids, captions = profile.alignment, texts(poses, "sample_id"), texts(poses, "caption")
    count = len(cfg.candidate_strengths)
    seeds = [[derive_seed(profile.seed, i, f"candidate-{k}") for k in range(count)] for i in ids]
    candidates = _paint(inputs, maps, captions, seeds)
    oks = np.stack([oks_of(inputs.models.ranker, candidates[:, k], maps)[0] for k in range(count)], axis=1)
    oks = np.nan_to_num(oks, nan=0.0)  # a body without a visible keypoint ranks nothing: equal candidates, no pair
    decisions = make_pairs(oks, cfg.min_gap, cfg.min_winner)
    winner, loser = (np.array([getattr(d, side) for d in decisions]) for side in ("winner", "loser"))
    rows = np.arange(len(ids))
    columns: dict[str, Any] = {
        "sample_id": ids,
        "partition_key": [inputs.key] * len(ids),
        "alignment_split": texts(poses, "alignment_split"),
        "status": [d.status for d in decisions],
        "candidate_oks": oks.tolist(),
        "candidate_seeds": seeds,
        "candidate_strengths": [list(cfg.candidate_strengths)] * len(ids),
        "winner": winner,
        "loser": loser,
        "winner_oks": oks[rows, winner],
        "loser_oks": oks[rows, loser],
        "candidate_images": [[encode_png(image) for image in of_pose] for of_pose in candidates],
        "caption": captions,
    }
    shown = np.concatenate([candidates[rows, winner][:6], candidates[rows, loser][:6]])
    return Made(make_table(columns, SCHEMAS[TABLE]), pictures=shown)


def _rows_without_candidates(poses: pa.Table, key: str) -> pa.Table:
    """A row for each pose, which says that nothing was painted of it."""
    count = poses.num_rows
    columns: dict[str, Any] = {
        "sample_id": texts(poses, "sample_id"),
        "partition_key": [key] * count,
        "alignment_split": texts(poses, "alignment_split"),
        "status": ["no_alignment"] * count,
        **{f"candidate_{name}": [[]] * count for name in ("oks", "seeds", "strengths", "images")},
        "caption": texts(poses, "caption"),
    }
    return make_table(columns, SCHEMAS[TABLE])


def _paint(inputs: Inputs, maps: pa.Table, captions: list[str], seeds: list[list[int]]) -> np.ndarray:
    """An image of each pose at each of the strengths: (n, k, h, w, 3)."""
    profile = inputs.profile
    controls = control_images(profile.generator, maps)
    generate = inputs.models.generator.generate
    strengths = enumerate(profile.alignment.candidate_strengths)
    return np.stack(
        [generate(controls, captions, [row[k] for row in seeds], control_strength=s) for k, s in strengths], axis=1
    )


def figures(rows: pa.Table, profile: Profile) -> dict[str, float]:
    """How many poses gave pairs, and how far their candidates are apart."""
    statuses = rows.column("status").to_pylist()
    counts = {f"status_{name}": statuses.count(name) for name in STATUSES}
    gap = array(rows, "winner_oks") - array(rows, "loser_oks")
    return {
        **counts,
        "pair_rate": share(counts["status_pair"], rows.num_rows),
        "mean_winner_oks": mean(rows, "winner_oks"),
        "mean_oks_gap": round(float(gap.mean()), 4) if rows.num_rows else math.nan,
    }


def origins(profile: Profile) -> Origins:
    """Candidates come from control image and caption, their ranks from the labels too."""
    drawn = (*all_of("control_maps", control_column(profile.generator)), *all_of("pose_library", "caption"))
    ranked = (*drawn, *all_of("control_maps", *OKS_OF))
    return {
        **copied("pose_library", "sample_id", "partition_key", "image_id", "alignment_split", "caption"),
        "candidate_images": drawn,
        **dict.fromkeys(("status", "candidate_oks", "winner", "loser", "winner_oks", "loser_oks"), ranked),
    }


def units(profile: Profile) -> int:
    """Each candidate is painted and looked at."""
    paired = round((1 - profile.alignment.test_share) * profile.poses.batch_size)
    return 1 if profile.alignment.off else paired * len(profile.alignment.candidate_strengths) * 2


def under(stage: Stage, profile: Profile) -> Stage:
    """The map that the generator is given; next to nothing without alignment, so that no setting of it paints again."""
    poses = Reads("pose_library", ("alignment_split", "caption"))
    if profile.alignment.off:
        return replace(stage, settings=("alignment.method",), reads=(poses,), checkpoints=(), files=(), seeded=False)
    maps = Reads("control_maps", tuple(dict.fromkeys((control_column(profile.generator), *OKS_OF))))
    return replace(stage, reads=(poses, maps))


STAGE = Stage(
    TABLE,
    "One row per alignment pose whose `alignment_split` is train or val: `alignment.candidate_strengths` images of it, ranked "
    "by OKS of the ranking detector; the best and the worst make a pair when they are far enough apart and the best is good "
    "enough (`status` says why not). Test poses are never paired. With `alignment.method` none nothing is painted, and every "
    "status is `no_alignment`.",
    make,
    "5",
    table=TABLE,
    groups=(ALIGN,),
    settings=(
        "alignment.method",
        "alignment.candidate_strengths",
        "alignment.min_gap",
        "alignment.min_winner",
        "generator",
        "ranker",
    ),
    files=("ranker",),
    reads=(Reads("pose_library", ("alignment_split", "caption")), Reads("control_maps", ("control", *OKS_OF))),
    checkpoints=("control_checkpoint",),
    origins=origins,
    figures=figures,
    units=units,
    under=under,
    ui_group="alignment",
    kinds=frozenset(("diffusers", "lance")),
    pool="gpu",
)
