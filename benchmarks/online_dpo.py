"""Online against offline Flow-DPO of equal cost: how far does the OKS error of held-out poses fall?

Three adapters of the same poses and the same generator:

    offline        the shipped setting: four candidates a pose, `alignment.steps` steps
    offline, 2x    eight candidates a pose, twice the steps
    online         four candidates, then as many steps, then four more painted by the adapter, and as many steps again

The last two paint as many candidates and take as many steps. Test poses, which none has paired, are painted without and with each
adapter from the same noise; judge and outside judge look at all of them. Intervals are over poses.

    python benchmarks/online_dpo.py --out FOLDER --seed 31 [--judge movenet.onnx] [--draws 2] [--only offline] [--set KEY=VALUE]

What was made is kept in FOLDER and not made again. For AVX2 alone: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2, and --set generator.dtype=float32.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.cli.options import resolve
from posedreamer_assets.config import Profile
from posedreamer_assets.defs.local.runner import Runner
from posedreamer_assets.diffusion.dpo import train_dpo
from posedreamer_assets.diffusion.pairs import make_pairs
from posedreamer_assets.metrics.intervals import bootstrap_mean
from posedreamer_assets.pipeline import graph_of
from posedreamer_assets.pipeline.alignment_pairs import WITHOUT_PIXELS, pair_data, train_in_rounds
from posedreamer_assets.pipeline.control_images import control_images
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.rounds import planned_keys
from posedreamer_assets.pipeline.sample_scores import oks_of
from posedreamer_assets.pipeline.stage import Inputs
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.runtime.make import Listed
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.keys import ALIGN
from posedreamer_assets.tables.rows import texts

NEEDED = ("body_model", "pose_library", "base/control_maps", "control_checkpoint", "preference_pairs")


@dataclass(frozen=True)
class FirstCandidates(Listed):
    """Preference pairs as they would be had only the first `count` candidates of each pose been painted."""

    count: int
    profile: Profile

    def rows(self, table: str, keys: Sequence[str], columns: Sequence[str]) -> pa.Table:
        return self._fewer(super().rows(table, keys, columns))

    def take(self, table: str, ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
        return self._fewer(super().take(table, ids, columns))

    def _fewer(self, rows: pa.Table) -> pa.Table:
        for name in ("candidate_oks", "candidate_images"):
            if name in rows.column_names:
                kept = [values[: self.count] for values in rows.column(name).to_pylist()]
                rows = rows.set_column(
                    rows.column_names.index(name), name, pa.array(kept, rows.schema.field(name).type)
                )
        if "status" in rows.column_names:
            cfg = self.profile.alignment
            decisions = make_pairs(np.array(rows.column("candidate_oks").to_pylist()), cfg.min_gap, cfg.min_winner)
            rows = rows.set_column(rows.column_names.index("status"), "status", pa.array([d.status for d in decisions]))
        return rows


def prepare(home: Home, profile: Profile) -> Snapshot:
    """Poses, control maps and candidates of the alignment's batches, checked."""
    home.prepare(profile)
    with Runner(home) as runner:
        for name in NEEDED:
            stage = runner.graph[name]
            for key in planned_keys(profile, (ALIGN,)) if stage.partitioned else [None]:
                if not Snapshot(profile, home.store()).is_current(stage, key):
                    runner.execute(stage, key)
    return Snapshot(profile, home.store())


def train(snapshot: Snapshot, profile: Profile, count: int, folder: Path) -> dict[str, Any]:
    """One adapter, into its folder; what it cost and what there is to say of it."""
    if (folder / "cost.json").exists():
        return json.loads((folder / "cost.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    begun, spent = time.monotonic(), time.process_time()
    stage = graph_of(profile)["dpo_checkpoint"]
    reader = FirstCandidates(snapshot, count, profile)
    inputs = Inputs(stage, profile, reader, Models(profile), folder=folder, unfinished=folder / "unfinished")
    maps, pairs = inputs.rows("control_maps"), inputs.rows("preference_pairs", WITHOUT_PIXELS)
    data, seed = pair_data(inputs, maps, pairs), derive_seed(profile.seed, "dpo_checkpoint", "dpo")
    if profile.alignment.reference_every:
        result, more = train_in_rounds(inputs, maps, pairs, data, seed)
    else:
        result, more = train_dpo(data, inputs.models.local_generator, profile.alignment, seed, folder), {}
    said = {
        "pairs": len(data),
        "best_step": result.best_step,
        "validation_loss": result.best_validation_loss,
        "cpu_s": round(time.process_time() - spent),
        "wall_s": round(time.monotonic() - begun),
        **more,
    }
    (folder / "cost.json").write_text(json.dumps(said))
    return said


def look(snapshot: Snapshot, profile: Profile, adapter: Path | None, draws: int, folder: Path) -> np.ndarray:
    """OKS (judge, draw, pose) of the test poses."""
    reader, models = Listed(snapshot), Models(profile)
    stage = graph_of(profile)["dpo_checkpoint"]
    inputs = Inputs(stage, profile, reader, models)
    poses, maps = inputs.rows("pose_library"), inputs.rows("control_maps")
    held_out = np.array(texts(poses, "alignment_split")) == "test"
    poses, maps = poses.filter(held_out), maps.filter(held_out)
    controls, captions = control_images(profile.generator, maps), texts(poses, "caption")
    judges = [judge for judge in (models.judge, models.outside_judge) if judge is not None]
    found = []
    for draw in range(draws):
        file = folder / f"oks-{draw}.npy"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            seeds = [derive_seed(profile.seed, i, f"held-out-{draw}") for i in texts(poses, "sample_id")]
            images = models.generator.generate(controls, captions, seeds, adapter_path=adapter)
            np.save(file, np.stack([oks_of(judge, images, maps)[0] for judge in judges]))
        found.append(np.load(file))
    return np.stack(found, axis=1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--judge", help="an ONNX pose model that looks, too")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument(
        "--only", choices=("offline",), help="train the shipped setting alone: what an adapter gains on a seed"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    outside = {"outside_judge.kind": "onnx", "outside_judge.path": args.judge} if args.judge else {}
    shipped = resolve("pocket", tuple(args.set), {"seed": args.seed, **outside})
    strengths, steps = shipped.alignment.candidate_strengths, shipped.alignment.steps

    def with_alignment(**changes: Any) -> Profile:
        return replace(shipped, alignment=replace(shipped.alignment, **changes))

    place = args.out.absolute() / f"seed-{args.seed}"
    all_of_them = with_alignment(candidate_strengths=(*strengths, *strengths), steps=2 * steps)
    snapshot = prepare(Home(place / "home"), shipped if args.only else all_of_them)
    print(f"candidates of {place} are there", flush=True)
    variants = {
        "offline": (shipped, len(strengths)),
        "online": (with_alignment(steps=2 * steps, reference_every=steps), len(strengths)),
        "offline, 2x": (all_of_them, 2 * len(strengths)),
    }
    if args.only:
        variants = {args.only: variants[args.only]}
    base = look(snapshot, shipped, None, args.draws, place / "none").mean(axis=1)
    print(json.dumps({"none": [bootstrap_mean(oks).as_dict() for oks in base]}), flush=True)
    gained = {}
    for name, (profile, count) in variants.items():
        folder = place / name.replace(", ", "-")
        said = train(snapshot, profile, count, folder)
        oks = look(snapshot, shipped, folder, args.draws, folder).mean(axis=1)
        gained[name] = oks - base
        print(
            json.dumps({name: said, "OKS gained": [bootstrap_mean(gain).as_dict() for gain in gained[name]]}),
            flush=True,
        )
    for other in ("offline", "offline, 2x") if "online" in gained else ():
        more = [bootstrap_mean(a - b).as_dict() for a, b in zip(gained["online"], gained[other], strict=True)]
        print(json.dumps({f"online - {other}": more}), flush=True)


if __name__ == "__main__":
    main()
