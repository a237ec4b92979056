"""People of a scene: bodies, what they wear, and the surfaces that come of both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.poses.procedural import FAMILIES, procedural_poses
from posedreamer_assets.poses.stature import ADULT_YEARS
from posedreamer_assets.render.appearance import Appearance, cloth_offsets, sample_appearance, vertex_colours
from posedreamer_assets.render.captions import SCENES
from posedreamer_assets.render.control import vertex_normals
from posedreamer_assets.scenes.apart import Solid
from posedreamer_assets.seeds import derive_seed, sample_rng

PERSON = "person"  # the stage that a person's seed is derived for
AIRBORNE = frozenset(
    name for name, family in FAMILIES.items() if any(frame.get("lift_m") for frame in family.keyframes)
)
"""Families whose bodies need not touch the ground."""


@dataclass(frozen=True)
class Cast:
    """People before they are placed: bodies stand on the ground about x = z = 0, one entry for each.

    Attributes:
        params: world frame.
        families: of their poses.
        looks: what they wear.
        seeds: of cloth and shades.
    """

    params: BodyParams
    families: list[str]
    looks: list[Appearance]
    seeds: list[int]

    def __len__(self) -> int:
        return len(self.seeds)


def draw_cast(
    body: BodyModel,
    ids: Sequence[str],
    run_seed: int,
    scene: str,
    *,
    families: Sequence[str] = (),
    ages: tuple[float, float] = ADULT_YEARS,
) -> Cast:
    """A person for each id, who depends on the run's seed and the id alone.

    Args:
        body: that is posed.
        ids: of the people.
        run_seed: of the run.
        scene: where all of them are, a phrase of the captions.
        families: of poses to draw from, or all.
        ages: youngest and oldest, years; shapes are those of people.
    """
    params, chosen = procedural_poses(body, ids, run_seed, families, ages)
    looks = [
        sample_appearance(sample_rng(run_seed, i, "appearance"), FAMILIES[family].activity)
        for i, family in zip(ids, chosen, strict=True)
    ]
    seeds = [derive_seed(run_seed, i, PERSON) for i in ids]
    return Cast(params, chosen, [replace(look, scene=scene) for look in looks], seeds)


def sample_scene(rng: np.random.Generator) -> str:
    """Where a scene is, a phrase of the captions."""
    names = list(SCENES)
    return names[int(rng.integers(len(names)))]


def dressed(body: BodyModel, params: BodyParams, looks: Sequence[Appearance], seeds: Sequence[int]) -> list[Solid]:
    """The surface of each person, clothes included, where its body stands in the world."""
    solids = []
    for skin, look, seed in zip(body.forward(params).vertices, looks, seeds, strict=True):
        offsets, normals = cloth_offsets(body, look, np.random.default_rng([seed, 1])), vertex_normals(body, skin)
        solids.append(Solid((skin + normals * offsets[:, None]).astype(np.float32), normals.astype(np.float32)))
    return solids


def colours_of(body: BodyModel, look: Appearance, seed: int) -> Float[np.ndarray, "v 3"]:
    """The colour of each vertex before light falls on it, linear, in [0, 1]."""
    return vertex_colours(body, look, np.random.default_rng([seed, 2]))
