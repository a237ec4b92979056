"""The body that every label is made with."""

import json

from posedreamer_assets.pipeline.stage import Inputs, Made, Stage


def make(inputs: Inputs) -> Made:
    """Load the body, so that a wrong or truncated file fails here, and say what it is."""
    body = inputs.models.body
    facts = {
        "name": body.name,
        "vertices": len(body.v_template),
        "faces": len(body.faces),
        "pose_blend_shapes": body.posedirs is not None,
    }
    (inputs.place / "body.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
    return Made(figures=facts)


STAGE = Stage(
    "body_model",
    "One SMPL-X-format body: the user's licensed file (`body.model_path`) or the shipped free body. Reads the whole file, so "
    "that a wrong or truncated one fails here, and records its digest, which every row made with it depends on.",
    make,
    "3",
    settings=("body",),
    files=("body",),
    seeded=False,
    ui_group="poses",
    kinds=frozenset(("numpy",)),
    starts="import",
)
