"""Recipes are strict, and manifests are nested, paired, of the size that was asked for and free of test data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedreamer_assets.errors import RecipeError
from posedreamer_assets.students.manifests import Candidate, Pick, budget_of, leaks, resolve
from posedreamer_assets.students.recipes import Study, load_study, parse_study, study_names

HEAD = "recipes:\n"
GENERATED = "  generated: {use: [{table: raw_generations, where: kept}], size: budget}\n"
RECIPES = f"""\
recipes:
{GENERATED}
  rendered: {{use: [{{table: rendered_scenes}}], same_poses_as: generated}}
  half: {{use: [{{table: rendered_scenes}}], size: budget/2}}
  two: {{use: [{{table: rendered_scenes, share: 0.5}}, {{table: raw_generations, share: 0.5}}], size: "= generated"}}
  yoga:
    use: [{{table: rendered_scenes}}]
    size: 8
    replace: {{share: 0.5, by: {{table: rendered_scenes, where: family = yoga}}}}
  alike: {{use: [{{table: raw_generations}}], size: "= generated", match: generated}}
"""


def study_of(text: str = RECIPES) -> Study:
    return parse_study(text, "study.yaml", "study")


def candidates(count: int, families: tuple[str, ...] = ("walk", "yoga")) -> list[Candidate]:
    found = []
    for i in range(count):
        name, family = f"procedural-0000/{i:06d}", families[i % len(families)]
        pose = (f"pose {i}", family, "procedural", "base")
        found.append(Candidate("rendered_scenes", name, f"render {i}", *pose))
        found.append(Candidate("raw_generations", name, f"image {i}", *pose, kept=i % 3 != 0))
    return found


def ids(picks: list[Pick]) -> set[str]:
    return {pick.candidate.sample_id for pick in picks}


@pytest.mark.parametrize("name", study_names())
def test_shipped_studies_can_be_read_and_have_an_a_a_recipe(name: str) -> None:
    study = load_study(name)
    assert any(recipe.reseed for recipe in study.recipes.values())
    assert study.primary and study.curve and study.exchange


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEAD + "  a: {use: [{table: rendered_scenes}]}\n", 2, "leaves its budget free"),
        (HEAD + GENERATED + "  b:\n    use: [{table: rendered_scenes}]\n", 3, "leaves its budget free"),
        (HEAD + "  a: {use: [{table: rendered_scenes}], size: many}\n", 2, "size"),
        (HEAD + "  a:\n    use:\n      - {table: scenes}\n    size: 3\n", 4, "rendered_scenes"),
        (HEAD + "  a:\n    use:\n      - {table: rendered_scenes, where: nice}\n    size: 3\n", 4, "kept"),
        (HEAD + "  a:\n    use: [{table: rendered_scenes, share: 0.5}]\n    size: 3\n", 3, "add up to 0.5"),
        (HEAD + "  a: {use: [{table: rendered_scenes}], size: 3, extra: 1}\n", 2, "unknown key 'extra'"),
        (HEAD + '  a: {use: [{table: rendered_scenes}], size: "= b"}\n', 2, "'b', which is not there"),
        (HEAD + '  a: {use: [{table: rendered_scenes}], size: "= a"}\n', 2, "depends on itself"),
        (HEAD + GENERATED + "primary:\n  - {name: x, a: generated, b: c}\n", 4, "'c', which is no recipe"),
        (HEAD + GENERATED + "seeds: 0\n", 3, "1 to 99"),
        ("student: {steps: fast}\n" + HEAD + GENERATED, 1, "steps"),
        ("- a\n", 1, "expected a mapping"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        study_of(text)
    assert words in str(caught.value)
    if not text.startswith("-"):
        assert str(caught.value).startswith(f"study.yaml:{line}:")


@given(st.integers(12, 60), st.integers(4, 60), st.integers(0, 3))
def test_manifests_have_their_size_and_are_paired_and_nested(count: int, most: int, draw: int) -> None:
    study, every = study_of(), candidates(count)
    budget = budget_of(every, most)
    assert budget == min(most, sum(i % 3 != 0 for i in range(count)))
    generated, rendered, half, two = (
        resolve(study, n, every, draw, most) for n in ("generated", "rendered", "half", "two")
    )
    assert len(generated) == len(rendered) == len(two) == budget
    assert ids(generated) == ids(rendered)
    assert all(pick.candidate.kept for pick in generated)
    assert len(half) == budget // 2
    whole = study_of(HEAD + "  a: {use: [{table: rendered_scenes}], size: budget}\n")
    assert ids(half) <= ids(resolve(whole, "a", every, draw, most))
    assert len(ids(two)) == len(two), "no pose twice in a mixture"


def test_draws_differ_and_are_the_same_when_asked_again() -> None:
    study, every = study_of(), candidates(60)
    first, again, second = (resolve(study, "half", every, draw, 30) for draw in (0, 0, 1))
    assert first == again
    assert ids(first) != ids(second)
    assert resolve(study, "half", every[::-1], 0, 30) == first, "whatever the order of the listing"


def test_a_share_is_replaced_and_families_are_matched() -> None:
    study, every = study_of(), candidates(48, ("walk", "sit", "yoga"))
    yoga = resolve(study, "yoga", every, 0, 12)
    assert len(yoga) == len(ids(yoga)) == 8
    assert sum(pick.component == 1 for pick in yoga) == 4
    assert all(pick.candidate.family == "yoga" for pick in yoga if pick.component == 1)
    of = {name: resolve(study, name, every, 0, 12) for name in ("generated", "alike")}
    counts = [sorted(pick.candidate.family for pick in picks) for picks in of.values()]
    assert counts[0] == counts[1]


def test_too_few_images_are_told() -> None:
    with pytest.raises(RecipeError, match="asks for 8 samples and 2 fit"):
        resolve(study_of(), "yoga", candidates(2), 0, 12)


def test_leaks_are_found_by_image_and_by_pose() -> None:
    picks = resolve(study_of(), "generated", candidates(30), 0, 8)
    one = picks[3].candidate
    assert leaks(picks, {"other": "elsewhere"}) == []
    assert leaks(picks, {one.row_digest: "elsewhere"}) == [one.sample_id]
    assert leaks(picks, {"other": one.pose_group}) == [one.sample_id]
