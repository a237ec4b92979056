"""Preference pairs and the DPO adapter, from rows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posedreamer_assets.config import GeneratorConfig, Profile
from posedreamer_assets.diffusion.dpo import PairData, train_dpo
from posedreamer_assets.diffusion.generator import Generator
from posedreamer_assets.diffusion.pairs import all_pairs, make_pairs
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.metrics.intervals import bootstrap_mean
from posedreamer_assets.pipeline.controls import control_images
from posedreamer_assets.pipeline.models import detector_of, generator_of
from posedreamer_assets.pipeline.sample_scores import oks_of
from posedreamer_assets.scoring.detectors import KeypointDetector
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables import images as codec
from posedreamer_assets.tables.fields import PREFERENCE_PAIRS
from posedreamer_assets.tables.rows import make_table, same_rows, texts

if TYPE_CHECKING:
    from posedreamer_assets.storage import CheckpointInfo

SHOWN_POSES = 8
NO_CANDIDATES = "no_alignment"  # `preference_pairs.status`
UNALIGNED = {
    "method": "none",
    "note": "no alignment: the generator is used as it is",
}  # a checkpoint without an adapter


def make_pair_rows(profile: Profile, poses: pa.Table, maps: pa.Table, key: str) -> tuple[pa.Table, np.ndarray]:
    """Rows of `records.PREFERENCE_PAIRS` for the train and val poses, and winners beside losers for looking at."""
    same_rows(poses, maps)
    paired = np.array(texts(poses, "split")) != "test"
    poses, maps = poses.filter(paired), maps.filter(paired)
    if profile.alignment.off:
        return _rows_without_candidates(poses, key), np.zeros((0, 1, 1, 3), np.uint8)
    ids, captions, strengths = texts(poses, "sample_id"), texts(poses, "caption"), profile.alignment.candidate_strengths
    count = len(strengths)
    seeds = [[derive_seed(profile.seed, i, f"candidate-{k}") for k in range(count)] for i in ids]
    candidates = generate_candidates(profile, control_images(profile.generator, maps), captions, seeds)
    ranker = detector_of(profile.ranker, profile.image)
    oks = np.stack([oks_of(ranker, candidates[:, k], maps)[0] for k in range(count)], axis=1)
    oks = np.nan_to_num(oks, nan=0.0)  # a body without a visible keypoint ranks nothing: equal candidates, no pair
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
        "candidate_strengths": [list(strengths)] * len(ids),
        "winner": winner,
        "loser": loser,
        "winner_oks": oks[rows, winner],
        "loser_oks": oks[rows, loser],
        "candidate_images": [[codec.encode_png(image) for image in of_pose] for of_pose in candidates],
        "winner_image": [codec.encode_png(image) for image in best],
        "loser_image": [codec.encode_png(image) for image in worst],
        "caption": captions,
    }
    return make_table(columns, PREFERENCE_PAIRS), np.concatenate([best[:6], worst[:6]])


def _rows_without_candidates(poses: pa.Table, key: str) -> pa.Table:
    """A row for each pose, which says that nothing was painted of it."""
    count = poses.num_rows
    columns: dict[str, Any] = {
        "sample_id": texts(poses, "sample_id"),
        "partition_key": [key] * count,
        "split": texts(poses, "split"),
        "status": [NO_CANDIDATES] * count,
        **{f"candidate_{name}": [[]] * count for name in ("oks", "seeds", "strengths", "images")},
        "caption": texts(poses, "caption"),
    }
    return make_table(columns, PREFERENCE_PAIRS)


def generate_candidates(
    profile: Profile, controls: np.ndarray, captions: list[str], seeds: list[list[int]]
) -> np.ndarray:
    """An image of each pose at each of the strengths: (n, k, h, w, 3)."""
    generator = generator_of(profile.generator, profile.image)
    return np.stack(
        [
            generator.generate(controls, captions, [row[k] for row in seeds], control_strength=strength)
            for k, strength in enumerate(profile.alignment.candidate_strengths)
        ],
        axis=1,
    )


@dataclass
class Alignment:
    """Trains the adapter and measures it on test poses, when `write` is called with the checkpoint's folder."""

    profile: Profile
    poses: pa.Table
    maps: pa.Table
    pairs: pa.Table
    _shown: np.ndarray | None = None

    def write(self, folder: Path) -> dict[str, Any]:
        """Fill the folder with adapter, trajectory and `figures.json`; returns the figures of the summary.

        Raises:
            AlignmentError: too few pairs, no test poses, or training that diverged.
        """
        cfg, seed = self.profile.alignment, derive_seed(self.profile.seed, "dpo_checkpoint", "dpo")
        generator = generator_of(self.profile.generator, self.profile.image)
        data = pair_data(self.profile.generator, self.maps, self.pairs, cfg.min_gap, cfg.min_winner)
        result = train_dpo(data, generator, cfg, seed, folder)
        effect = measure_effect(self.profile, generator, self.poses, self.maps, folder)
        self._shown = np.stack([s.images[side] for side in ("before", "after") for s in effect.shown])
        curves = {
            "training loss": _curve(result.steps, "loss"),
            "validation loss": _curve(result.validations, "loss"),
        }
        shown = [_write_shown(folder / "shown", one) for one in effect.shown]
        (folder / "figures.json").write_text(json.dumps({**effect.arrays, "curves": curves, "shown": shown}))
        return {
            "method": cfg.method,
            "poses_with_pairs": texts(self.pairs, "status").count("pair"),
            "pairs": len(data),
            "training_pairs": int((~data.validation).sum()),
            "best_step": result.best_step,
            "best_validation_loss": round(result.best_validation_loss, 5),
            "first_validation": result.validations[0],
            "best_validation": min(result.validations, key=lambda v: v["loss"]),
            **effect.figures,
        }

    def before_and_after(self) -> np.ndarray:
        """Some test poses without the adapter, and below them with it."""
        assert self._shown is not None, "write comes first"
        return self._shown


def align(profile: Profile, poses: pa.Table, maps: pa.Table, pairs: pa.Table) -> Alignment:
    """The alignment of a profile from the rows of its alignment batches."""
    return Alignment(profile, poses, maps, pairs)


def write_unaligned(folder: Path) -> dict[str, Any]:
    """Fill the folder of a checkpoint that changes nothing; returns what there is to say of it."""
    (folder / "alignment.json").write_text(json.dumps(UNALIGNED, indent=2, sort_keys=True))
    return dict(UNALIGNED)


def adapter_in(checkpoint: "CheckpointInfo") -> Path | None:
    """The folder of a checkpoint's adapter; None where it changes nothing."""
    return None if checkpoint.metrics.get("method") == UNALIGNED["method"] else checkpoint.path


def pair_data(
    generator: GeneratorConfig, maps: pa.Table, pairs: pa.Table, min_gap: float, min_winner: float
) -> PairData:
    """Every pair of candidates of a pose that differ enough, as training data, in an order that mixes poses.

    Raises:
        AlignmentError: there are none.
    """
    used = pairs.filter(pc.field("status") == "pair")
    if used.num_rows == 0:
        raise AlignmentError(f"none of {pairs.num_rows} poses gave a pair: lower alignment.min_gap or min_winner")
    place = {sample: i for i, sample in enumerate(texts(maps, "sample_id"))}
    controls = control_images(generator, maps.take(pa.array([place[i] for i in texts(used, "sample_id")])))
    candidates = [codec.decode_all(blobs) for blobs in used.column("candidate_images").to_pylist()]
    scores = used.column("candidate_oks").to_pylist()
    found = [(row, *pair) for row, oks in enumerate(scores) for pair in all_pairs(np.array(oks), min_gap, min_winner)]
    # Validation looks at the first pairs, which should not be those of a few poses.
    rows, winners, losers = np.random.default_rng(0).permutation(np.array(found)).T
    captions, splits = texts(used, "caption"), np.array(texts(used, "split"))
    return PairData(
        controls[rows],
        np.stack([candidates[row][winner] for row, winner in zip(rows, winners, strict=True)]),
        np.stack([candidates[row][loser] for row, loser in zip(rows, losers, strict=True)]),
        [captions[row] for row in rows],
        splits[rows] == "val",
    )


@dataclass(frozen=True)
class Effect:
    """What the adapter changes on held-out poses."""

    figures: dict[str, Any]
    arrays: dict[str, Any]
    shown: list["BeforeAndAfter"]


@dataclass(frozen=True)
class BeforeAndAfter:
    """One held-out pose: control image, the image without and with the adapter, from the same noise."""

    name: str
    images: dict[str, np.ndarray]
    oks_before: float
    oks_after: float


def measure_effect(profile: Profile, generator: Generator, poses: pa.Table, maps: pa.Table, adapter: Path) -> Effect:
    """OKS error of the test poses without and with the adapter, from the same noise, by the judge.

    Every pose is painted `alignment.test_draws` times each way; its OKS is the mean over them.

    Raises:
        AlignmentError: no test poses.
    """
    same_rows(poses, maps)
    held_out = np.array(texts(poses, "split")) == "test"
    poses, maps = poses.filter(held_out), maps.filter(held_out)
    if poses.num_rows == 0:
        raise AlignmentError("no test poses to measure alignment on: raise alignment.test_share or make more poses")
    controls = control_images(profile.generator, maps)
    captions, ids = texts(poses, "caption"), texts(poses, "sample_id")
    seeds = [
        [derive_seed(profile.seed, i, f"held-out-{draw}") for i in ids] for draw in range(profile.alignment.test_draws)
    ]
    before = [generator.generate(controls, captions, drawn) for drawn in seeds]
    after = [generator.generate(controls, captions, drawn, adapter_path=adapter) for drawn in seeds]
    judge = detector_of(profile.judge, profile.image)
    oks_before, oks_after = _mean_oks(judge, before, maps), _mean_oks(judge, after, maps)
    figures = {
        "test_poses": poses.num_rows,
        "test_draws": profile.alignment.test_draws,
        "judge": judge.name,
        **compare_oks(oks_before, oks_after, profile.seed),
    }
    if profile.outside_judge is not None:
        outside = detector_of(profile.outside_judge, profile.image)
        seen = compare_oks(_mean_oks(outside, before, maps), _mean_oks(outside, after, maps), profile.seed)
        figures["outside_judge"] = {"name": outside.name, **seen}
    arrays = {"oks_before": oks_before.tolist(), "oks_after": oks_after.tolist(), "judge": judge.name}
    shown = [
        BeforeAndAfter(
            ids[i],
            {"control": controls[i], "before": before[0][i], "after": after[0][i]},
            float(oks_before[i]),
            float(oks_after[i]),
        )
        for i in range(min(SHOWN_POSES, len(ids)))
    ]
    return Effect(figures, arrays, shown)


def _mean_oks(detector: KeypointDetector, draws: list[np.ndarray], maps: pa.Table) -> np.ndarray:
    return np.mean([oks_of(detector, pictures, maps)[0] for pictures in draws], axis=0)


def compare_oks(before: np.ndarray, after: np.ndarray, seed: int) -> dict[str, Any]:
    """Means with intervals, and by how much the OKS error 1 - OKS falls: a paired bootstrap over poses."""
    seen = np.isfinite(before) & np.isfinite(after)
    before, after = before[seen], after[seen]
    reduction = bootstrap_mean(after - before, seed)
    error = float((1 - before).mean()) if len(before) else float("nan")
    return {
        "oks_before": bootstrap_mean(before, seed).as_dict(),
        "oks_after": bootstrap_mean(after, seed).as_dict(),
        "error_reduction": reduction.as_dict(),
        "relative_reduction": round(reduction.mean / error, 5) if error > 0 else 0.0,
    }


def _write_shown(folder: Path, one: BeforeAndAfter) -> dict[str, Any]:
    """Keep the pictures as PNG files for the report; returns what it needs to find them."""
    folder.mkdir(exist_ok=True)
    stem = one.name.replace("/", "-")
    for side, picture in one.images.items():
        (folder / f"{stem}-{side}.png").write_bytes(codec.encode_png(picture))
    files = {side: f"shown/{stem}-{side}.png" for side in one.images}
    return {"name": one.name, "files": files, "oks_before": one.oks_before, "oks_after": one.oks_after}


def _curve(entries: list[dict[str, float]], name: str) -> dict[str, list[float]]:
    return {"steps": [e["step"] for e in entries], "values": [e[name] for e in entries]}
