"""Studies: recipes of training data, each with a fixed budget, written in YAML.

A recipe says which rows it takes and how many. `size` or `same_poses_as` fixes the number: a recipe that leaves it free is an
error, because then a difference between two recipes says nothing about the data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from posedreamer_assets.errors import RecipeError
from posedreamer_assets.tables.keys import BENCH_USER, TEST_SETS

STUDIES_DIR = Path(__file__).parent / "studies"
TABLES = ("rendered_scenes", "raw_generations")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
CONDITION = re.compile(
    r"(?P<verdict>kept|rejected)|(?P<field>family|source)\s*(?P<sign>=|!=)\s*(?P<name>[A-Za-z0-9_-]+)"
    r"|(?P<score>oks|render_oks|relative_oks)\s*(?P<side>>=|<)\s*(?P<bound>[0-9]*\.?[0-9]+)"
)
"""One condition of a component: a verdict; a field, `=` or `!=`, and a name; or a score, `>=` or `<`, and a number."""
METRICS = ("pve_mm", "pve_area_mm", "pa_pve_mm", "mpjpe_mm", "pa_mpjpe_mm")
"""Errors that contrasts may be made of: those in millimetres that every image has."""
_SIZE = re.compile(r"budget(/[1-9][0-9]*)?|=\s*[a-z0-9-]+|[1-9][0-9]*")


@dataclass(frozen=True)
class Component:
    """Rows of a table that a recipe draws from.

    Attributes:
        table: whose images.
        where: conditions joined by "and": `kept`, `rejected`, `family = yoga`, `source != amass`, `oks >= 0.7`; `relative_oks`
            is OKS divided by `render_oks`, that of the judge on a render of the pose.
        rounds: the rounds whose images are taken.
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
class StudentSpec:
    """How every student of a study is trained, whatever its data.

    Attributes:
        init: the backbone, a detector's weights.
        steps, batch_size: so many samples are seen by every student, however many there are.
        learning_rate: at the start; falls along a cosine to a hundredth.
        copies: augmented copies of each image whose features are cached.
        dropout: before the last layer.
    """

    init: str = "shipped:ranker"
    steps: int = 250
    batch_size: int = 48
    learning_rate: float = 1.5e-3
    copies: int = 4
    dropout: float = 0.2

    @property
    def samples_seen(self) -> int:
        """By each student."""
        return self.steps * self.batch_size


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


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in STUDIES_DIR.glob("*.yaml"))


def load_study(name_or_path: str) -> Study:
    """Read a study by name or path.

    Raises:
        RecipeError: no such study, bad YAML, an unknown key, a recipe without a budget, or a name that is not there; with
            line.
    """
    path = STUDIES_DIR / f"{name_or_path}.yaml"
    if not path.exists():
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise RecipeError(f"no study {name_or_path!r}; shipped ones: {', '.join(study_names())}, or give a path")
    return parse_study(path.read_text(), str(path), path.stem)


def parse_study(text: str, where: str, name: str) -> Study:
    """A study from YAML.

    Raises:
        RecipeError: see `load_study`.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{where}: not valid YAML: {error}") from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(tree, dict):
        raise RecipeError(f"{where}: expected a mapping with recipes")
    reading = _Reading(where, _lines(node))
    reading.known(tree, ("student", "seeds", "draws", "recipes", "primary", "exploratory", "curve", "exchange"), ())
    reading.mapping(tree.get("recipes"), ("recipes",))
    recipes = {key: reading.recipe(str(key), value) for key, value in tree["recipes"].items()}
    study = Study(
        name,
        recipes,
        tuple(reading.contrast(one, ("primary", i)) for i, one in enumerate(tree.get("primary") or ())),
        reading.student(tree.get("student") or {}, ("student",)),
        reading.count(tree.get("seeds", 3), ("seeds",)),
        reading.count(tree.get("draws", 1), ("draws",)),
        tuple(reading.contrast(one, ("exploratory", i)) for i, one in enumerate(tree.get("exploratory") or ())),
        reading.names(tree.get("curve") or [], ("curve",)),
        reading.names(tree.get("exchange") or [], ("exchange",)),
    )
    reading.references(study)
    return study


Place = tuple[str | int, ...]


def _lines(node: yaml.Node, at: Place = ()) -> dict[Place, int]:
    """The line, from 1, of every key and item."""
    found = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, key.value)
            found |= _lines(value, place)
            found[place] = key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            found |= _lines(value, (*at, i))
    return found


@dataclass(frozen=True)
class _Reading:
    """Of one file: errors name its lines."""

    where: str
    lines: Mapping[Place, int]

    def error(self, at: Place, text: str) -> RecipeError:
        while at and at not in self.lines:
            at = at[:-1]
        return RecipeError(f"{self.where}:{self.lines.get(at, 1)}: {text}")

    def mapping(self, value: Any, at: Place) -> None:
        if not isinstance(value, dict) or not value:
            raise self.error(at, f"{at[-1]}: expected a mapping, found {value!r}")

    def known(self, tree: Mapping[str, Any], names: tuple[str, ...], at: Place) -> None:
        for key in tree:
            if key not in names:
                raise self.error((*at, key), f"unknown key {key!r}; known: {', '.join(names)}")

    def count(self, value: Any, at: Place) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 99:
            raise self.error(at, f"{at[-1]}: expected a number from 1 to 99, found {value!r}")
        return value

    def names(self, value: Any, at: Place) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.error(at, f"{at[-1]}: expected a list of names, found {value!r}")
        return tuple(value)

    def fill(self, kind: Any, tree: Any, at: Place) -> Any:
        """An instance of a dataclass of plain fields."""
        if not isinstance(tree, dict):
            raise self.error(at, f"{at[-1]}: expected a mapping, found {tree!r}")
        self.known(tree, tuple(one.name for one in fields(kind)), at)
        types = {one.name: one.type for one in fields(kind)}
        for key, value in tree.items():
            wanted = (int, float) if types[key] is float else types[key]
            if isinstance(wanted, type | tuple) and (
                not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool)
            ):
                raise self.error((*at, key), f"{key}: expected {types[key]}, found {value!r}")
        try:
            return kind(**tree)
        except TypeError as error:
            raise self.error(at, f"{at[-1]}: {error}") from error

    def contrast(self, tree: Any, at: Place) -> Contrast:
        found: Contrast = self.fill(Contrast, tree, at)
        for key, known in (("test", (*TEST_SETS, f"{BENCH_USER}-NAME")), ("metric", METRICS)):
            if getattr(found, key) not in known and not (key == "test" and found.test.startswith(f"{BENCH_USER}-")):
                raise self.error(
                    (*at, key), f"{key}: expected one of {', '.join(known)}, found {getattr(found, key)!r}"
                )
        return found

    def student(self, tree: Any, at: Place) -> StudentSpec:
        found: StudentSpec = self.fill(StudentSpec, tree, at)
        for key in ("steps", "batch_size", "copies"):
            if getattr(found, key) < 1:
                raise self.error((*at, key), f"{key}: expected 1 or more, found {getattr(found, key)}")
        return found

    def component(self, tree: Any, at: Place) -> Component:
        plain = tree
        if isinstance(tree, dict) and "rounds" in tree:
            plain = {**tree, "rounds": self.names(tree["rounds"], (*at, "rounds"))}
        found: Component = self.fill(Component, plain, at)
        if found.table not in TABLES:
            raise self.error((*at, "table"), f"table: expected one of {', '.join(TABLES)}, found {found.table!r}")
        for part in found.conditions:
            if not CONDITION.fullmatch(part):
                raise self.error(
                    (*at, "where"),
                    f"where: {part!r} is none of kept, rejected, family = NAME, source != NAME, oks >= NUMBER, "
                    "relative_oks < NUMBER",
                )
        if not 0 < found.share <= 1:
            raise self.error((*at, "share"), f"share: expected more than 0 and at most 1, found {found.share}")
        return found

    def recipe(self, name: str, tree: Any) -> Recipe:
        at: Place = ("recipes", name)
        if not NAME.fullmatch(name):
            raise self.error(at, f"recipe {name!r}: expected a-z, 0-9 and '-'")
        self.mapping(tree, at)
        self.known(tree, tuple(one.name for one in fields(Recipe) if one.name != "name"), at)
        use = tuple(self.component(one, (*at, "use", i)) for i, one in enumerate(tree.get("use") or ()))
        if not use:
            raise self.error(at, f"recipe {name!r}: `use` names no table")
        if abs(sum(one.share for one in use) - 1) > 1e-6:
            raise self.error(
                (*at, "use"), f"recipe {name!r}: shares add up to {sum(one.share for one in use):g}, expected 1"
            )
        self.budget(name, tree, at)
        replace = self.replacement(tree["replace"], (*at, "replace")) if tree.get("replace") is not None else None
        size = None if tree.get("size") is None else str(tree["size"])
        plain = {key: tree[key] for key in ("same_poses_as", "match", "reseed", "about", "paper") if key in tree}
        found = Recipe(name, use, size, replace=replace, **plain)
        if size is not None and not _SIZE.fullmatch(size):
            raise self.error((*at, "size"), f"size: expected a number, budget, budget/2 or '= other', found {size!r}")
        return found

    def budget(self, name: str, tree: Mapping[str, Any], at: Place) -> None:
        """`size`, or `same_poses_as`, beside which it says how many of those poses are taken."""
        if tree.get("same_poses_as") is None:
            if tree.get("size") is None:
                raise self.error(at, f"recipe {name!r} leaves its budget free: give `size` or `same_poses_as`")
            return
        for key in ("match", "replace"):
            if tree.get(key) is not None:
                raise self.error(
                    (*at, key),
                    f"recipe {name!r}: `same_poses_as` says which samples it has, so `{key}` can say nothing",
                )

    def replacement(self, tree: Any, at: Place) -> Replace:
        self.mapping(tree, at)
        self.known(tree, ("share", "by"), at)
        share = tree.get("share")
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share < 1:
            raise self.error((*at, "share"), f"replace: expected a `share` between 0 and 1, found {share!r}")
        if "by" not in tree:
            raise self.error(at, "replace: `by` is missing, the component that stands for others")
        return Replace(float(share), self.component(tree["by"], (*at, "by")))

    def references(self, study: Study) -> None:
        """Every name must exist, and no recipe may depend on itself."""
        for name, recipe in study.recipes.items():
            for other in named_in(recipe):
                if other not in study.recipes:
                    raise self.error(("recipes", name), f"recipe {name!r} names {other!r}, which is not there")
        for name, recipe in study.recipes.items():
            for other in named_in(recipe):
                if name in study.needed_by(other):
                    raise self.error(("recipes", name), f"recipe {name!r} depends on itself by way of {other!r}")
        for kind, contrasts in (("primary", study.primary), ("exploratory", study.exploratory)):
            for i, one in enumerate(contrasts):
                for other in (one.a, one.b):
                    if other not in study.recipes:
                        raise self.error((kind, i), f"contrast {one.name!r} names {other!r}, which is no recipe")
        for kind, names in (("curve", study.curve), ("exchange", study.exchange)):
            for i, other in enumerate(names):
                if other not in study.recipes:
                    raise self.error((kind, i), f"{kind} names {other!r}, which is no recipe")
        if study.exchange and len(set(study.curve)) < 2:
            raise self.error(
                ("exchange",),
                f"exchange: rates need `curve` to name two recipes or more, found {len(set(study.curve))}",
            )
