"""Pairs for Flow-DPO out of `preference_pairs`, or out of candidates that are painted anew by the adapter of the round before.

Numbers of poses and candidates are in memory; pixels are read a block of poses at a time.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.pipeline.control_images import control_images
from posedreamer_assets.pipeline.sample_scores import oks_of
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.rows import texts

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.dpo import DpoResult
    from posedreamer_assets.diffusion.pair_data import PairData

WITHOUT_PIXELS = ("alignment_split", "status", "caption", "candidate_oks")
"""Columns of `preference_pairs` that fit into memory whatever the number of poses."""


def pair_data(inputs: Inputs, maps: pa.Table, pairs: pa.Table) -> "PairData":
    """Every pair of candidates of a pose that differ enough, as training data, in an order that mixes poses.

    Args:
        inputs: candidates are taken from their table `preference_pairs`.
        maps: control maps, encoded.
        pairs: columns `WITHOUT_PIXELS` of `preference_pairs`.

    Raises:
        AlignmentError: there are none.
    """
    import pyarrow.compute as pc

    from posedreamer_assets.tables.images import decode_all

    def read(ids: Sequence[str]) -> np.ndarray:
        blobs = inputs.take("preference_pairs", ids, ["candidate_images"]).column("candidate_images").to_pylist()
        return np.stack([decode_all(of_pose) for of_pose in blobs])

    return _pairs_of(inputs, maps, pairs.filter(pc.field("status") == "pair"), read)


def _pairs_of(inputs: Inputs, maps: pa.Table, used: pa.Table, candidates: Any) -> "PairData":
    """Pairs of these poses; `candidates` reads (p, k, h, w, 3) by sample ids."""
    from posedreamer_assets.diffusion.pair_data import PairData, PosePixels
    from posedreamer_assets.diffusion.pairs import all_pairs

    cfg, ids = inputs.profile.alignment, texts(used, "sample_id")
    scores = used.column("candidate_oks").to_pylist()
    found = [
        (row, *pair) for row, oks in enumerate(scores) for pair in all_pairs(np.array(oks), cfg.min_gap, cfg.min_winner)
    ]
    if not found:
        raise AlignmentError("no pose gave a pair: lower alignment.min_gap or min_winner")
    place = {sample: i for i, sample in enumerate(texts(maps, "sample_id"))}

    def read(poses: np.ndarray) -> PosePixels:
        names = [ids[pose] for pose in poses]
        controls = control_images(inputs.profile.generator, maps.take(pa.array([place[name] for name in names])))
        return PosePixels(controls, candidates(names))

    # Validation looks at the first pairs, which should not be those of a few poses.
    rows, winners, losers = np.random.default_rng(0).permutation(np.array(found)).T
    splits = np.array(texts(used, "alignment_split"))
    return PairData(rows, winners, losers, splits[rows] == "val", texts(used, "caption"), read)


def train_in_rounds(
    inputs: Inputs, maps: pa.Table, pairs: pa.Table, first: "PairData", seed: int
) -> tuple["DpoResult", dict[str, Any]]:
    """Online Flow-DPO: rounds of `alignment.reference_every` steps, `alignment.steps` in all.

    Each round begins with the adapter that the round before ended with, which is its reference, too, and, but for the
    first, with candidates that this adapter has painted of the same poses from new noise. A round ends with the weights
    that were best on its own validation pairs, so that one that teaches nothing changes nothing. The last adapter and its
    trajectory are written into the stage's folder.

    Returns:
        The last round's result, and what there is to say of each round.

    Raises:
        AlignmentError: a round in which no pose gives a pair, or that diverges.
    """
    from posedreamer_assets.diffusion.dpo import train_dpo

    cfg = inputs.profile.alignment
    count = math.ceil(cfg.steps / cfg.reference_every)
    results: list[DpoResult] = []
    adapter: Path | None = None
    data, rounds = first, []
    with tempfile.TemporaryDirectory() as scratch:
        work = inputs.unfinished or Path(scratch)
        for number in range(count):
            steps = min(cfg.reference_every, cfg.steps - number * cfg.reference_every)
            place = work / f"round-{number}"
            if adapter is not None:
                data = renewed_pairs(inputs, maps, pairs, adapter, number, place / "candidates")
            of_round = replace(cfg, steps=steps, eval_every=min(cfg.eval_every, steps))
            # Painting may unload the local generator of a worker elsewhere, so each round asks for it.
            generator = inputs.models.local_generator
            result = train_dpo(data, generator, of_round, seed + number, place, start=adapter, work=place)
            results.append(result)
            adapter = place
            rounds.append({"pairs": len(data), "steps": len(result.steps), "best_step": result.best_step})
        last = results[-1].adapter_path
        for name in (last.name, "trajectory.json"):
            shutil.copyfile(last.with_name(name), inputs.place / name)
    return replace(results[-1], adapter_path=inputs.place / last.name), {"rounds": rounds}


def renewed_pairs(
    inputs: Inputs, maps: pa.Table, pairs: pa.Table, adapter: Path, number: int, folder: Path
) -> "PairData":
    """Pairs of the poses of `preference_pairs` whose candidates the generator paints with an adapter, from new noise.

    Candidates lie uncompressed in `folder`, a block of poses a file; a block that is there already is not painted again.

    Args:
        inputs, maps, pairs: as for `pair_data`.
        adapter: what paints.
        number: of the round, which the noise depends on.
        folder: of this round and adapter alone.

    Raises:
        AlignmentError: no pose gives a pair.
    """
    from posedreamer_assets.diffusion.pair_data import BLOCK

    folder.mkdir(parents=True, exist_ok=True)
    ids = texts(pairs, "sample_id")
    place = {sample: i for i, sample in enumerate(texts(maps, "sample_id"))}
    maps_of_pairs = maps.take(pa.array([place[name] for name in ids]))
    oks = []
    for start in range(0, len(ids), BLOCK):
        file, scores = folder / f"{start:07d}.npy", folder / f"{start:07d}-oks.npy"
        if not scores.exists():  # written last
            of_block = _paint_block(
                inputs, maps_of_pairs.slice(start, BLOCK), pairs.slice(start, BLOCK), adapter, number
            )
            for path, values in zip((file, scores), of_block, strict=True):
                partial = path.with_suffix(".part")
                with partial.open("wb") as handle:
                    np.save(handle, values)
                partial.replace(path)
        oks.append(np.load(scores))
    row = {name: i for i, name in enumerate(ids)}

    def read(names: Sequence[str]) -> np.ndarray:
        rows = [row[name] for name in names]
        return np.stack([np.load(folder / f"{r // BLOCK * BLOCK:07d}.npy", mmap_mode="r")[r % BLOCK] for r in rows])

    scored = pairs.select(["sample_id", "alignment_split", "caption"])
    return _with_pairs(
        inputs, maps, scored.append_column("candidate_oks", pa.array(np.concatenate(oks).tolist())), read
    )


def _with_pairs(inputs: Inputs, maps: pa.Table, scored: pa.Table, read: Any) -> "PairData":
    """Those of the poses whose best and worst candidates make a pair, as in `preference_pairs`."""
    from posedreamer_assets.diffusion.pairs import make_pairs

    cfg = inputs.profile.alignment
    decisions = make_pairs(np.array(scored.column("candidate_oks").to_pylist()), cfg.min_gap, cfg.min_winner)
    return _pairs_of(inputs, maps, scored.filter(pa.array([d.status == "pair" for d in decisions], pa.bool_())), read)


def _paint_block(
    inputs: Inputs, maps: pa.Table, poses: pa.Table, adapter: Path, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates (p, k, h, w, 3) of some poses and their OKS (p, k) by the ranker; 0 where nothing of a body is seen."""
    profile, models = inputs.profile, inputs.models
    controls, captions = control_images(profile.generator, maps), texts(poses, "caption")
    painted, oks = [], []
    for k, strength in enumerate(profile.alignment.candidate_strengths):
        seeds = [derive_seed(profile.seed, i, f"candidate-{k}-round-{number}") for i in texts(poses, "sample_id")]
        images = models.generator.generate(controls, captions, seeds, adapter_path=adapter, control_strength=strength)
        painted.append(images)
        oks.append(oks_of(models.ranker, images, maps)[0])
    return np.stack(painted, axis=1), np.nan_to_num(np.stack(oks, axis=1), nan=0.0)
