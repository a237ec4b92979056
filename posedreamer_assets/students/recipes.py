"""Studies: recipes of training data, each with a fixed budget; written in YAML, see `study_files.py`.

A recipe says which rows it takes and how many. `size` or `same_poses_as` fixes the number: a recipe that leaves it free is an
error, because then a difference between two recipes says nothing about the data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from posedreamer_assets.students.spec import StudentSpec

UNALIGNED = "unaligned_generations"
TABLES = ("rendered_scenes", "raw_generations", UNALIGNED)
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
CONDITION = re.compile(
    r"(?P<verdict>kept|rejected)|(?P<field>family|source)\s*(?P<sign>=|!=)\s*(?P<name>[A-Za-z0-9_-]+)"
    r"|(?P<score>oks|render_oks|relative_oks)\s*(?P<side>>=|<)\s*(?P<bound>[0-9]*\.?[0-9]+)"
)
"""One condition of a component: a verdict; a field, `=` or `!=`, and a name; or a score, `>=` or `<`, and a number."""
METRICS = ("pve_mm", "pve_area_mm", "pa_pve_mm", "mpjpe_mm", "pa_mpjpe_mm")
"""Errors that contrasts may be made of: those in millimetres that every image has."""


@dataclass(frozen=True)
class Component:
    """Rows of a table that a recipe draws from.

    Attributes:
        table: whose images.
        where: conditions joined by "and": `kept`, `rejected`, `family = yoga`, `source != amass`, `oks >= 0.7`; `relative_oks`
            is OKS divided by `render_oks`, that of the judge on a render of the pose.
        rounds: the rounds whose images are taken; `domain-NAME` is a domain of the study.
        share: of the recipe's size.
    """

    table: str
    where: str = ""
    rounds: tuple[str, ...] = ("base",)
    share: float = 1.0

    @property
    def conditions(self) -> list[str]:
        """Those of `where`, one by one."""
        return [text.strip() for text in self.where.split(" and ") if text.strip()]


@dataclass(frozen=True)
class Replace:
    """A share of a recipe's samples that give way to others."""

    share: float
    by: Component


@dataclass(frozen=True)
class Recipe:
    """What a student is trained on.

    Attributes:
        name: also the name in partition keys.
        use: where its samples come from.
        size: a number, `budget`, `budget/2` (see `manifests.budget_of`), or `= other` for as many as another recipe.
        same_poses_as: takes the poses of another recipe, all of them or the `size` first.
        match: takes as many samples of each family as another recipe has.
        replace: a share of samples that others stand for.
        reseed: trains from other seeds than every other recipe: with the data of another one, an A/A comparison.
        about: what it is there for, in words.
        paper: what the paper reports for such data, in its own words; on another body, student and test set.
    """

    name: str
    use: tuple[Component, ...]
    size: str | None = None
    same_poses_as: str | None = None
    match: str | None = None
    replace: Replace | None = None
    reseed: bool = False
    about: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Contrast:
    """Two recipes that are compared on a test set: error of `a` minus error of `b`."""

    name: str
    a: str
    b: str
    test: str = "bench-looks"
    metric: str = "pve_mm"


@dataclass(frozen=True)
class Domain:
    """Poses of one kind that are painted, scored and filtered beside the rounds, for recipes that take a share of them.

    Their images never enter the dataset. Students are tested on looks of other poses of the kind, `bench-domain-NAME`, where
    they are procedural.

    Attributes:
        name: of its partitions, `domain-NAME`.
        source: `procedural`, or a folder (or URI) of pose files.
        families: procedural families; none means all.
        batches, size: so many batches of so many poses.
    """

    name: str
    source: str = "procedural"
    families: tuple[str, ...] = ()
    batches: int = 1
    size: int = 96

    @property
    def procedural(self) -> bool:
        """Whether it needs no files."""
        return self.source == "procedural"


@dataclass(frozen=True)
class Study:
    """Recipes, how often each is trained, and what is compared; only `primary` contrasts are tested."""

    name: str
    recipes: Mapping[str, Recipe]
    primary: tuple[Contrast, ...]
    student: StudentSpec = field(default_factory=StudentSpec)
    seeds: int = 3
    draws: int = 1
    exploratory: tuple[Contrast, ...] = ()
    curve: tuple[str, ...] = ()
    exchange: tuple[str, ...] = ()
    domains: Mapping[str, Domain] = field(default_factory=dict)

    @property
    def unaligned(self) -> bool:
        """Whether a recipe takes images that the generator paints without alignment."""
        return any(one.table == UNALIGNED for recipe in self.recipes.values() for one in components_of(recipe))

    def needed_by(self, name: str) -> dict[str, Recipe]:
        """The recipe and those that it names, directly or not: what its samples depend on."""
        found: dict[str, Recipe] = {}
        waiting = [name]
        while waiting:
            one = self.recipes[waiting.pop()]
            if one.name not in found:
                found[one.name] = one
                waiting += named_in(one)
        return dict(sorted(found.items()))


def named_in(recipe: Recipe) -> list[str]:
    """The recipes that a recipe names."""
    of_size = recipe.size.removeprefix("=").strip() if recipe.size and recipe.size.startswith("=") else None
    return [name for name in (of_size, recipe.same_poses_as, recipe.match) if name]


def components_of(recipe: Recipe) -> list[Component]:
    """Everything that a recipe draws from."""
    return [*recipe.use, *(() if recipe.replace is None else (recipe.replace.by,))]
