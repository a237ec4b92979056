"""The body that every label is made with."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from posedreamer_assets.defs.assets import Work, stage_asset


@stage_asset(
    "body_model",
    group="poses",
    kinds={"numpy"},
    description="One SMPL-X-format body: the user's licensed file (`body.model_path`) or the shipped free body. "
    "Reads the whole file, so that a wrong or truncated one fails here, and records its digest, which every row "
    "made with it depends on.",
)
def body_model(work: Work) -> dg.MaterializeResult:
    from posedreamer_assets.body.model import load_body

    body = load_body(work.profile.body.model_path)

    def write(folder: Path) -> dict[str, Any]:
        facts = {
            "name": body.name,
            "vertices": len(body.v_template),
            "faces": len(body.faces),
            "file_digest": work.snapshot.inputs(work.stage)["files"]["body"] or "shipped",
            "pose_blend_shapes": body.posedirs is not None,
        }
        (folder / "body.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
        return facts

    return work.write_checkpoint(write)
