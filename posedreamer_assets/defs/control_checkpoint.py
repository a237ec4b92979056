"""The generator that paints people over control maps."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "control_checkpoint",
    group="alignment",
    kinds={"diffusers"},
    description="One image generator, imported: the shipped pocket weights (made by `posedreamer train-pocket`) or the "
    "model named in the profile. Loads it once, so that a missing or broken one fails here, and records its digest.",
)
def control_checkpoint(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.diffusion.generator import load_generator

    generator = load_generator(work.profile.generator, work.profile.image)

    def write(folder: Path) -> dict[str, Any]:
        facts = {"name": generator.name, "weights_digest": generator.digest, "backend": work.profile.generator.backend}
        (folder / "generator.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
        return facts

    return work.write_checkpoint(write)
