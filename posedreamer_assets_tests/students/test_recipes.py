"""Recipes are strict, and manifests are nested, paired, of the size that was asked for and free of test data."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedreamer_assets.errors import RecipeError
from posedreamer_assets.students.manifests import Candidate, Pick, budget_of, check_curve, leaks, resolve
from posedreamer_assets.students.recipes import Study
from posedreamer_assets.students.study_files import load_study, parse_study, study_names

HEAD = "recipes:\n"
GENERATED = "  generated: {use: [{table: raw_generations, where: kept}], size: budget}\n"
PLAIN = "  a:\n    use: [{table: rendered_scenes}]\n"
LIKE = PLAIN + "    same_poses_as: generated\n"
LIKE_B = '  a: {use: [{table: rendered_scenes}], size: "= b"}\n'
OF_ONE = "\n    a: generated\n    b: generated\n"
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
        ("student:\n  steps: 0\n" + HEAD + GENERATED, 2, "steps: expected 1 or more, found 0"),
        ("student:\n  steps: 9\n  batch_size: -1\n" + HEAD + GENERATED, 3, "batch_size: expected 1 or more"),
        ("student:\n  copies: 0\n" + HEAD + GENERATED, 2, "copies: expected 1 or more"),
        (HEAD + LIKE_B + '  b: {use: [{table: rendered_scenes}], size: "= c"}\n', 3, "'c', which is not there"),
        (HEAD + LIKE_B + '  b: {use: [{table: rendered_scenes}], size: "= a"}\n', 2, "depends on itself by way of 'b'"),
        (HEAD + GENERATED + "primary:\n  - name: x\n    test: nowhere" + OF_ONE, 5, "bench-user-NAME, found 'nowhere'"),
        (
            HEAD + GENERATED + "primary:\n  - name: x\n    metric: orient_deg" + OF_ONE,
            5,
            "pa_mpjpe_mm, found 'orient_deg'",
        ),
        (
            HEAD + "  a:\n    use:\n      - table: rendered_scenes\n        rounds: base\n    size: 3\n",
            5,
            "list of names",
        ),
        (HEAD + PLAIN + "    size: 3\n    replace: {share: 0.5}\n", 5, "`by` is missing"),
        (
            HEAD + PLAIN + "    size: 3\n    replace:\n      by: {table: rendered_scenes}\n",
            5,
            "between 0 and 1, found None",
        ),
        (
            HEAD + PLAIN + "    size: 3\n    replace:\n      share: 1\n      by: {table: rendered_scenes}\n",
            6,
            "found 1",
        ),
        (HEAD + GENERATED + LIKE + "    match: generated\n", 6, "so `match` can say nothing"),
        (
            HEAD + GENERATED + LIKE + "    replace: {share: 0.5, by: {table: rendered_scenes}}\n",
            6,
            "so `replace` can say",
        ),
        (HEAD + GENERATED + "curve: generated\n", 3, "curve: expected a list of names, found 'generated'"),
        (HEAD + GENERATED + "curve: [generated]\nexchange: [generated]\n", 4, "two recipes or more, found 1"),
        ("- a\n", 1, "expected a mapping"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        study_of(text)
    assert words in str(caught.value)
    if not text.startswith("-"):
        assert str(caught.value).startswith(f"study.yaml:{line}:")


def test_the_example_of_the_documentation_is_a_study_with_an_exchange_rate() -> None:
    text = (Path(__file__).parents[2] / "docs" / "students.md").read_text()
    study = study_of(text.partition("```yaml\n")[2].partition("```")[0])
    assert {"yoga", "aa"} <= {*study.recipes} and len(study.curve) > 1 and study.exchange


@given(
    st.dictionaries(st.sampled_from(["walk", "sit", "yoga", "dance"]), st.integers(1, 20), min_size=1),
    st.integers(1, 60),
)
def test_families_are_matched_in_proportion_whatever_the_size(families: dict[str, int], size: int) -> None:
    """Counts add up to the size, none is a whole image off its share, and at the other recipe's size they are its own."""
    names = [family for family, count in families.items() for _ in range(count)]
    every = [one for one in candidates(size * len(families), (*families,)) if one.table == "rendered_scenes"]
    other = [
        Candidate(
            "raw_generations", f"other-0000/{i:06d}", f"image {i}", f"pose {i}", family, "other", "base", kept=True
        )
        for i, family in enumerate(names)
    ]
    text = f"  alike: {{use: [{{table: rendered_scenes}}], size: {size}, match: generated}}\n"
    picks = resolve(study_of(HEAD + GENERATED + text), "alike", [*every, *other], 0, len(other))
    found = Counter(pick.candidate.family for pick in picks)
    assert sum(found.values()) == size
    assert all(abs(found[family] - count * size / len(names)) < 1 for family, count in families.items())
    if size == len(names):
        assert found == families


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


CURVE = "  less: {use: [{table: rendered_scenes}], same_poses_as: generated, size: budget/3}\ncurve: [%s, rendered]\n"


@given(st.integers(12, 60), st.integers(4, 60), st.integers(0, 3))
def test_so_many_of_the_poses_of_another_recipe_are_among_them(count: int, most: int, draw: int) -> None:
    study, every = study_of(RECIPES + CURVE % "less"), candidates(count)
    less, rendered = (resolve(study, name, every, draw, most) for name in ("less", "rendered"))
    assert len(less) == budget_of(every, most) // 3
    assert ids(less) <= ids(rendered)
    check_curve(study, every, draw, most)


@pytest.mark.parametrize("name", study_names())
def test_sizes_of_a_shipped_study_hold_each_other(name: str) -> None:
    check_curve(load_study(name), candidates(96), 0, 40)


def test_every_recipe_of_the_papers_study_finds_its_samples() -> None:
    """Nine recipes, of the tables and rounds that there are."""
    study, most = load_study("paper"), 160
    hard = [
        Candidate(
            "raw_generations", f"hard-0000/{i:06d}", f"hard {i}", f"hard pose {i}", "yoga", "hard", "hard", kept=True
        )
        for i in range(20)
    ]
    every = candidates(400) + hard
    sizes = {name: len(resolve(study, name, every, 0, most)) for name in study.recipes}
    parts = {"generated-fifth": 32, "rendered-fifth": 32, "rendered-sixteenth": 10}
    assert len(sizes) * study.seeds * study.draws == 27
    assert sizes == {name: parts.get(name, most) for name in study.recipes}
    assert sum(pick.component == 1 for pick in resolve(study, "hard", every, 0, most)) == 16
    assert study.student.sees_images and study.student.samples_seen == 4_800_000


def test_sizes_that_do_not_hold_each_other_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match=r"samples of recipe 'half' are not among those of 'rendered'"):
        check_curve(study_of(RECIPES + CURVE % "half"), candidates(60), 0, 30)


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


@pytest.mark.parametrize(
    ("where", "taken"),
    [
        ("oks >= 0.7", {"a", "b", "d"}),
        ("oks < 0.7", {"c"}),
        ("relative_oks >= 0.9", {"a", "c"}),
        ("relative_oks >= 0.9 and oks >= .7", {"a"}),
        ("render_oks < 0.5", {"c"}),
    ],
)
def test_images_are_chosen_by_scores_and_what_is_not_known_is_not_taken(where: str, taken: set[str]) -> None:
    """`d` has no render, so that nothing is known of it relative to one."""
    scores = {"a": (0.9, 0.95), "b": (0.8, 0.95), "c": (0.4, 0.42), "d": (0.95, float("nan"))}
    images = [
        Candidate("raw_generations", name, f"digest {name}", name, "walk", "procedural", "base", True, *of)
        for name, of in scores.items()
    ]
    text = f"recipes:\n  own: {{use: [{{table: raw_generations, where: '{where}'}}], size: {len(taken)}}}\n"
    picks = resolve(parse_study(text, "here", "own"), "own", images, 0, 10)
    assert {pick.candidate.sample_id for pick in picks} == taken


def test_a_score_that_is_none_is_told() -> None:
    text = "recipes:\n  own: {use: [{table: raw_generations, where: 'oks > 0.7'}], size: 3}\n"
    with pytest.raises(RecipeError, match=r"here:2: where: 'oks > 0.7' is none of kept"):
        parse_study(text, "here", "own")
