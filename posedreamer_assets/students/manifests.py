"""From a recipe to the very samples that a student sees: by ids alone, before any image is read."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from posedreamer_assets.errors import RecipeError
from posedreamer_assets.seeds import unit_hash
from posedreamer_assets.students.recipes import CONDITION, Component, Recipe, Study


@dataclass(frozen=True)
class Candidate:
    """An image that may be trained on.

    Attributes:
        table: where it lies.
        sample_id: of its pose, the same in every table.
        row_digest: of its row.
        pose_group: what the pose comes from; two samples of one group are never on both sides of training and test.
        family: of the pose. source: kind of its source. round: curriculum round, or `domain-NAME`.
        kept: whether the filter keeps it; None where it judges none, as of renders.
        oks: of the judge on the image, render_oks: on a render of its pose; NaN where there is none.
    """

    table: str
    sample_id: str
    row_digest: str
    pose_group: str
    family: str
    source: str
    round: str
    kept: bool | None = None
    oks: float = math.nan
    render_oks: float = math.nan

    @property
    def relative_oks(self) -> float:
        """OKS as a share of that of the render."""
        return self.oks / self.render_oks if self.render_oks else math.nan


@dataclass(frozen=True)
class Pick:
    """A candidate in a manifest, and the number of the component that it was taken for."""

    candidate: Candidate
    component: int


def budget_of(candidates: Sequence[Candidate], most: int) -> int:
    """What `budget` stands for: `most`, or the number of kept images of the base round where that is less."""
    of_base = (one for one in candidates if one.table == "raw_generations" and one.round == "base")
    return min(most, sum(1 for one in of_base if one.kept))


def resolve(study: Study, name: str, candidates: Sequence[Candidate], draw: int, most: int) -> list[Pick]:
    """The samples of a recipe, ordered by id.

    Samples are taken in the order of a hash of draw and id, so that the n first are among the 2 n first, and recipes that
    differ in the table alone take the same poses.

    Args:
        study: has the recipe and those that it names.
        name: of the recipe.
        candidates: all images there are.
        draw: number of the draw.
        most: see `budget_of`.

    Raises:
        RecipeError: there are fewer images than the recipe asks for.
    """
    ordered = sorted(candidates, key=lambda one: (unit_hash(f"draw {draw} {one.sample_id}"), one.sample_id, one.table))
    picks = _Resolver(study, ordered, budget_of(candidates, most)).picks(study.recipes[name])
    return sorted(picks, key=lambda pick: (pick.candidate.sample_id, pick.candidate.table))


def check_curve(study: Study, candidates: Sequence[Candidate], draw: int, most: int) -> None:
    """Each size of the curve must hold the samples of the smaller ones: else it compares choices, not sizes.

    Raises:
        RecipeError: one does not, or there are fewer images than it asks for.
    """
    taken = {
        name: {(one.candidate.table, one.candidate.sample_id) for one in resolve(study, name, candidates, draw, most)}
        for name in study.curve
    }
    for small, large in pairwise(sorted(taken, key=lambda name: len(taken[name]))):
        if extra := len(taken[small] - taken[large]):
            raise RecipeError(
                f"curve: {extra} of the {len(taken[small])} samples of recipe {small!r} are not among those of {large!r}; "
                f"give {small!r} the same `use`, or `same_poses_as` of the same recipe and a `size`"
            )


@dataclass(frozen=True)
class _Resolver:
    study: Study
    ordered: Sequence[Candidate]
    budget: int

    def picks(self, recipe: Recipe) -> list[Pick]:
        if recipe.same_poses_as is not None:
            wanted = {p.candidate.sample_id for p in self.picks(self.study.recipes[recipe.same_poses_as])}
            found = [p for i, c in enumerate(recipe.use) for p in self._of(c, i) if p.candidate.sample_id in wanted]
            place = {one.sample_id: i for i, one in enumerate(self.ordered)}
            count = len(wanted) if recipe.size is None else self.size(recipe)
            return self._enough(recipe, sorted(found, key=lambda pick: place[pick.candidate.sample_id])[:count], count)
        size = self.size(recipe)
        kept = size if recipe.replace is None else round(size * (1 - recipe.replace.share))
        found = self._shared(recipe, kept)
        if recipe.replace is not None:
            taken = {pick.candidate.sample_id for pick in found}
            others = [p for p in self._of(recipe.replace.by, len(recipe.use)) if p.candidate.sample_id not in taken]
            found += others[: size - kept]
        return self._enough(recipe, found, size)

    def size(self, recipe: Recipe) -> int:
        text = recipe.size
        if text is None:
            return len(self.picks(recipe))
        if text.startswith("="):
            return self.size(self.study.recipes[text.removeprefix("=").strip()])
        if text.startswith("budget"):
            return self.budget // int(text.partition("/")[2] or 1)
        return int(text)

    def _shared(self, recipe: Recipe, size: int) -> list[Pick]:
        """From each component its share; no pose twice, so that a mixture has as many poses as each part alone would."""
        found: list[Pick] = []
        taken: set[str] = set()
        for i, component in enumerate(recipe.use):
            last = i == len(recipe.use) - 1
            count = size - len(found) if last else round(size * component.share)
            free = [p for p in self._of(component, i) if p.candidate.sample_id not in taken]
            chosen = self._matched(recipe, free, count) if recipe.match else free[:count]
            found += chosen
            taken |= {pick.candidate.sample_id for pick in chosen}
        return found

    def _matched(self, recipe: Recipe, free: Sequence[Pick], count: int) -> list[Pick]:
        """The first ones of each family, as many as the other recipe has of it in proportion."""
        other = self.picks(self.study.recipes[recipe.match or ""])
        left = _apportioned(Counter(pick.candidate.family for pick in other), count)
        chosen = []
        for pick in free:
            if left.get(pick.candidate.family, 0):
                left[pick.candidate.family] -= 1
                chosen.append(pick)
        return chosen

    def _of(self, component: Component, number: int) -> list[Pick]:
        return [Pick(one, number) for one in self.ordered if _belongs(one, component)]

    def _enough(self, recipe: Recipe, found: list[Pick], size: int) -> list[Pick]:
        if len(found) != size or not size:
            raise RecipeError(
                f"recipe {recipe.name!r} asks for {size} samples and {len(found)} fit it; make more images, or lower "
                "`students.images`"
            )
        return found


def _apportioned(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers in proportion to counts that add up to `total`: what is left over goes to the largest remainders."""
    whole = sum(counts.values())
    found = {name: number * total // whole for name, number in counts.items()}
    by_remainder = sorted(counts, key=lambda name: (-(counts[name] * total % whole), name))
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return found


def _belongs(one: Candidate, component: Component) -> bool:
    if one.table != component.table or one.round not in component.rounds:
        return False
    return all(_holds(one, text) for text in component.conditions)


def _holds(one: Candidate, condition: str) -> bool:
    found = CONDITION.fullmatch(condition)
    assert found is not None, "held by the reader of studies"
    if verdict := found["verdict"]:
        return one.kept is (verdict == "kept")
    if score := found["score"]:
        value, bound = getattr(one, score), float(found["bound"])
        return value >= bound if found["side"] == ">=" else value < bound  # NaN holds neither
    return (getattr(one, found["field"]) == found["name"]) == (found["sign"] == "=")


def leaks(picks: Sequence[Pick], test: Mapping[str, str]) -> list[str]:
    """Samples of a manifest that are test images, by row digest, or show a test pose.

    Args:
        picks: the manifest.
        test: pose group by row digest of the test images.
    """
    poses = set(test.values())
    return [p.candidate.sample_id for p in picks if p.candidate.row_digest in test or p.candidate.pose_group in poses]
