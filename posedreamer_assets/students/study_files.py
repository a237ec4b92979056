"""Reading studies: YAML whose every mistake is told with its line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from posedreamer_assets.errors import RecipeError
from posedreamer_assets.students.recipes import (
    CONDITION,
    METRICS,
    NAME,
    TABLES,
    Component,
    Contrast,
    Domain,
    Recipe,
    Replace,
    Study,
    components_of,
    named_in,
)
from posedreamer_assets.students.spec import StudentSpec
from posedreamer_assets.tables.keys import BENCH_CLIPS, BENCH_DOMAIN, BENCH_USER, DOMAIN, TEST_SETS

STUDIES_DIR = Path(__file__).parent / "studies"
_SIZE = re.compile(r"budget(/[1-9][0-9]*)?|=\s*[a-z0-9-]+|[1-9][0-9]*")


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
    known = ("student", "seeds", "draws", "domains", "recipes", "primary", "exploratory", "curve", "exchange")
    reading.known(tree, known, ())
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
        {str(key): reading.domain(str(key), value) for key, value in (tree.get("domains") or {}).items()},
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
        tests = (*TEST_SETS, BENCH_CLIPS, f"{BENCH_DOMAIN}-NAME", f"{BENCH_USER}-NAME")
        for key, known in (("test", tests), ("metric", METRICS)):
            named = key == "test" and found.test.startswith((f"{BENCH_DOMAIN}-", f"{BENCH_USER}-"))
            if getattr(found, key) not in known and not named:
                raise self.error(
                    (*at, key), f"{key}: expected one of {', '.join(known)}, found {getattr(found, key)!r}"
                )
        return found

    def student(self, tree: Any, at: Place) -> StudentSpec:
        found: StudentSpec = self.fill(StudentSpec, tree, at)
        for key, words in found.mistakes():
            raise self.error((*at, key), f"{key}: {words}")
        return found

    def domain(self, name: str, tree: Any) -> Domain:
        at: Place = ("domains", name)
        if not NAME.fullmatch(name):
            raise self.error(at, f"domain {name!r}: expected a-z, 0-9 and '-'")
        self.mapping(tree, at)
        self.known(tree, tuple(one.name for one in fields(Domain) if one.name != "name"), at)
        families = self.names(tree.get("families") or [], (*at, "families"))
        found: Domain = self.fill(Domain, {**tree, "families": families, "name": name}, at)
        if families:
            self.families(found, (*at, "families"))
        for key in ("batches", "size"):
            if getattr(found, key) < 1:
                raise self.error((*at, key), f"{key}: expected 1 or more, found {getattr(found, key)}")
        return found

    def families(self, domain: Domain, at: Place) -> None:
        """Those of procedural poses."""
        from posedreamer_assets.poses.procedural import FAMILIES  # takes longer to import than all else here

        if not domain.procedural:
            raise self.error(at, "families: a folder of pose files has none; give `source` or `families`")
        for family in domain.families:
            if family not in FAMILIES:
                raise self.error(at, f"families: no pose family {family!r}; there are {', '.join(FAMILIES)}")

    def tested(self, study: Study, contrast: Contrast, at: Place) -> None:
        """A domain's test images are there where its poses are procedural."""
        if not contrast.test.startswith(f"{BENCH_DOMAIN}-"):
            return
        domain = study.domains.get(contrast.test.removeprefix(f"{BENCH_DOMAIN}-"))
        if domain is None or not domain.procedural:
            raise self.error((*at, "test"), f"test: {contrast.test} needs a domain of that name with procedural poses")

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
        for name, recipe in study.recipes.items():
            for round_ in {one for component in components_of(recipe) for one in component.rounds}:
                if round_.startswith(f"{DOMAIN}-") and round_.removeprefix(f"{DOMAIN}-") not in study.domains:
                    raise self.error(("recipes", name), f"recipe {name!r} takes {round_}, which is not under `domains`")
        for kind, contrasts in (("primary", study.primary), ("exploratory", study.exploratory)):
            for i, one in enumerate(contrasts):
                self.tested(study, one, (kind, i))
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
