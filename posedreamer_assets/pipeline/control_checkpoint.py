"""The generator that paints people over control maps."""

import json

from posedreamer_assets.pipeline.stage import Inputs, Made, Stage


def make(inputs: Inputs) -> Made:
    """Load the generator, so that a missing or broken one fails here, and say what it is."""
    generator = inputs.models.generator
    facts = {
        "name": generator.name,
        "weights_digest": generator.digest,
        "backend": inputs.profile.generator.backend,
    }
    (inputs.place / "generator.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
    return Made(figures=facts)


STAGE = Stage(
    "control_checkpoint",
    "One image generator, imported: the shipped pocket weights (made by `posedreamer train-pocket`) or the model named in the "
    "profile. Loads it once, so that a missing or broken one fails here, and records its digest.",
    make,
    "1",
    settings=("generator",),
    files=("generator", "generator_control"),
    seeded=False,
    ui_group="alignment",
    kinds=frozenset(("diffusers",)),
    starts="import",
)
