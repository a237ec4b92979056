"""The adapter that makes the generator keep to the pose."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets.pipeline.alignment_pairs import WITHOUT_PIXELS, pair_data, train_in_rounds
from posedreamer_assets.pipeline.control_images import control_column, control_images
from posedreamer_assets.pipeline.sample_scores import OKS_OF, oks_of
from posedreamer_assets.pipeline.stage import Checkpoint, Inputs, Made, Reads, Stage
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.keys import ALIGN
from posedreamer_assets.tables.rows import same_rows, texts

SHOWN_POSES = 8
BLOCK = 256  # test poses whose images are in memory at a time
UNALIGNED = {"method": "none", "note": "no alignment: the generator is used as it is"}
"""Figures of a checkpoint without an adapter."""


def make(inputs: Inputs) -> Made:
    """Train the adapter and measure it on test poses; the folder holds it, its trajectory and `figures.json`.

    Raises:
        AlignmentError: too few pairs, no test poses, or training that diverged.
    """
    from posedreamer_assets.diffusion.dpo import train_dpo

    profile, folder = inputs.profile, inputs.place
    if profile.alignment.off:
        (folder / "alignment.json").write_text(json.dumps(UNALIGNED, indent=2, sort_keys=True))
        return Made(figures=dict(UNALIGNED))
    cfg, seed = profile.alignment, derive_seed(profile.seed, "dpo_checkpoint", "dpo")
    maps, pairs = inputs.rows("control_maps"), inputs.rows("preference_pairs", WITHOUT_PIXELS)
    data = pair_data(inputs, maps, pairs)
    if cfg.reference_every:
        result, rounds = train_in_rounds(inputs, maps, pairs, data, seed)
    else:
        result = train_dpo(data, inputs.models.local_generator, cfg, seed, folder, work=inputs.unfinished)
        rounds = {}
    effect = measure_effect(inputs, maps, folder)
    curves = {
        "training loss": _curve(result.steps, "loss"),
        "validation loss": _curve(result.validations, "loss"),
    }
    shown = [_write_shown(folder / "shown", one) for one in effect.shown]
    (folder / "figures.json").write_text(json.dumps({**effect.arrays, "curves": curves, "shown": shown}))
    figures = {
        "method": cfg.method,
        "poses_with_pairs": texts(pairs, "status").count("pair"),
        "pairs": len(data),
        "training_pairs": int((~data.validation).sum()),
        "best_step": result.best_step,
        "best_validation_loss": round(result.best_validation_loss, 5),
        "first_validation": result.validations[0],
        "best_validation": min(result.validations, key=lambda v: v["loss"]),
        **rounds,
        **effect.figures,
    }
    return Made(
        figures=figures, pictures=np.stack([s.images[side] for side in ("before", "after") for s in effect.shown])
    )


def adapter_in(checkpoint: Checkpoint) -> Path | None:
    """The folder of a checkpoint's adapter; None where it changes nothing."""
    return None if checkpoint.metrics.get("method") == UNALIGNED["method"] else checkpoint.path


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


def measure_effect(inputs: Inputs, maps: pa.Table, adapter: Path) -> Effect:
    """OKS error of the test poses without and with the adapter, from the same noise, by the judge.

    Every pose is painted up to `alignment.test_draws` times each way; its OKS is the mean over them. Half of the draws are
    enough where all judges already see a difference, see `looks`.

    Raises:
        AlignmentError: no test poses.
    """
    profile, models, poses = inputs.profile, inputs.models, inputs.rows("pose_library")
    same_rows(poses, maps)
    held_out = np.array(texts(poses, "alignment_split")) == "test"
    poses, maps = poses.filter(held_out), maps.filter(held_out)
    if poses.num_rows == 0:
        raise AlignmentError("no test poses to measure alignment on: raise alignment.test_share or make more poses")
    captions, ids = texts(poses, "caption"), texts(poses, "sample_id")
    judges = [judge for judge in (models.judge, models.outside_judge) if judge is not None]
    first: list[np.ndarray] = []  # some images of the first draw, without and with the adapter
    oks: list[list[list[np.ndarray]]] = [[[], []] for _ in judges]  # by judge, by way, by draw
    found: list[dict[str, Any]] = []
    done = 0
    for draws, level in looks(profile.alignment.test_draws):
        for draw in range(done, draws):
            seeds = [derive_seed(profile.seed, i, f"held-out-{draw}") for i in ids]
            for way, path in enumerate((None, adapter)):
                seen: list[list[np.ndarray]] = [[] for _ in judges]
                for start in range(0, len(ids), BLOCK):
                    rows, some = slice(start, start + BLOCK), maps.slice(start, BLOCK)
                    controls = control_images(profile.generator, some)
                    images = models.generator.generate(controls, captions[rows], seeds[rows], adapter_path=path)
                    if draw == 0 and start == 0:
                        first.append(images[:SHOWN_POSES])
                    for judge, found_oks in zip(judges, seen, strict=True):
                        found_oks.append(oks_of(judge, images, some)[0])
                for by_way, found_oks in zip(oks, seen, strict=True):
                    by_way[way].append(np.concatenate(found_oks))
        done = draws
        found = [compare_oks(np.mean(b, axis=0), np.mean(a, axis=0), profile.seed, level) for b, a in oks]
        if all(low > 0 or high < 0 for low, high in (one["error_reduction"]["ci95"] for one in found)):
            break
    oks_before, oks_after = (np.mean(way, axis=0) for way in oks[0])
    figures = {"test_poses": poses.num_rows, "test_draws": done, "judge": judges[0].name, **found[0]}
    if len(judges) > 1:
        figures["outside_judge"] = {"name": judges[1].name, **found[1]}
    arrays = {"oks_before": oks_before.tolist(), "oks_after": oks_after.tolist(), "judge": judges[0].name}
    controls = control_images(profile.generator, maps.slice(0, SHOWN_POSES))
    shown = [
        BeforeAndAfter(
            ids[i],
            {"control": controls[i], "before": first[0][i], "after": first[1][i]},
            float(oks_before[i]),
            float(oks_after[i]),
        )
        for i in range(min(SHOWN_POSES, len(ids)))
    ]
    return Effect(figures, arrays, shown)


def looks(most: int) -> list[tuple[int, float]]:
    """After how many draws the intervals are looked at, and at which level.

    An interval that is looked at twice, and reported when it excludes zero, misses twice as often: 0.5 % of the first look
    and 4.5 % of the second are the 5 % of one of 95 %, whatever the two have in common. Those of the
    OKS before and after are not widened.
    """
    half = most // 2
    return [(half, 0.995), (most, 0.955)] if half else [(most, 0.95)]


def compare_oks(before: np.ndarray, after: np.ndarray, seed: int, level: float = 0.95) -> dict[str, Any]:
    """Means with intervals, and by how much the OKS error 1 - OKS falls: a paired bootstrap over poses, at that level."""
    from posedreamer_assets.metrics.intervals import bootstrap_mean

    seen = np.isfinite(before) & np.isfinite(after)
    before, after = before[seen], after[seen]
    reduction = bootstrap_mean(after - before, seed, level)
    error = float((1 - before).mean()) if len(before) else float("nan")
    return {
        "oks_before": bootstrap_mean(before, seed).as_dict(),
        "oks_after": bootstrap_mean(after, seed).as_dict(),
        "error_reduction": reduction.as_dict(),
        "relative_reduction": round(reduction.mean / error, 5) if error > 0 else 0.0,
    }


def _write_shown(folder: Path, one: BeforeAndAfter) -> dict[str, Any]:
    """Keep the pictures as PNG files for the report; returns what it needs to find them."""
    from posedreamer_assets.tables.images import encode_png

    folder.mkdir(exist_ok=True)
    stem = one.name.replace("/", "-")
    for side, picture in one.images.items():
        (folder / f"{stem}-{side}.png").write_bytes(encode_png(picture))
    files = {side: f"shown/{stem}-{side}.png" for side in one.images}
    return {"name": one.name, "files": files, "oks_before": one.oks_before, "oks_after": one.oks_after}


def _curve(entries: list[dict[str, float]], name: str) -> dict[str, list[float]]:
    return {"steps": [e["step"] for e in entries], "values": [e[name] for e in entries]}


def units(profile: Profile) -> int:
    """Steps of training, images without and with the adapter, and candidates that are painted anew."""
    cfg, poses = profile.alignment, profile.poses
    count = poses.batch_size * poses.align_batches
    held_out = round(cfg.test_share * count)
    renewed = math.ceil(cfg.steps / cfg.reference_every) - 1 if cfg.reference_every else 0
    painted = 2 * renewed * (count - held_out) * len(cfg.candidate_strengths)
    return 1 if cfg.off else cfg.steps + 4 * cfg.test_draws * held_out + painted


def under(stage: Stage, profile: Profile) -> Stage:
    """The map that the generator is given; nothing at all without alignment."""
    if profile.alignment.off:
        return replace(stage, settings=("alignment.method",), reads=(), checkpoints=(), files=(), seeded=False)
    columns = tuple(dict.fromkeys((control_column(profile.generator), *OKS_OF)))
    others = tuple(reads for reads in stage.reads if reads.table != "control_maps")
    read = replace(stage, reads=(*others, Reads("control_maps", columns, (ALIGN,))))
    if not profile.alignment.reference_every:
        return read
    return replace(
        read, settings=(*read.settings, "ranker"), files=(*read.files, "ranker")
    )  # ranks what is painted anew


STAGE = Stage(
    "dpo_checkpoint",
    "One LoRA adapter, trained by Flow-DPO on the train pairs, best on the val pairs, and measured on test poses by the "
    "judging detector, which neither ranked nor trained: OKS error with and without it, same noise, bootstrap interval "
    "over poses. The outside judge's figures stand beside it where one is configured. With `alignment.method` none it "
    "changes nothing and says so.",
    make,
    "5",
    settings=("alignment", "generator", "judge", "outside_judge"),
    files=("judge", "outside_judge"),
    reads=(
        Reads("pose_library", ("alignment_split", "caption"), (ALIGN,)),
        Reads("control_maps", ("control", *OKS_OF), (ALIGN,)),
        Reads(
            "preference_pairs", ("alignment_split", "status", "caption", "candidate_oks", "candidate_images"), (ALIGN,)
        ),
    ),
    checkpoints=("control_checkpoint",),
    units=units,
    under=under,
    ui_group="alignment",
    kinds=frozenset(("diffusers", "peft")),
    pool="gpu",
    starts="cron",
)
