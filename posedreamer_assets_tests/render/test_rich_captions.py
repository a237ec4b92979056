"""Captions of the rich grammar: they say what renders show, vary more than the pocket grammar, and can be read back."""

import numpy as np
import pytest

from posedreamer_assets.metrics.caption_diversity import diversity
from posedreamer_assets.poses.activity import POSE_ACTIVITIES
from posedreamer_assets.render import captions as pocket
from posedreamer_assets.render.appearance import sample_appearance
from posedreamer_assets.render.captions import NAMED_COLOURS, garment_colour, make_caption
from posedreamer_assets.render.rich_captions import BOTTOM_NAMES, PLACES, TOP_NAMES, Physique, rich_caption
from posedreamer_assets.scoring.colours import named_colour
from posedreamer_assets.seeds import sample_rng

COUNT = 1000
LOOKS = [
    sample_appearance(sample_rng(5, f"s-{i}", "appearance"), POSE_ACTIVITIES[i % len(POSE_ACTIVITIES)])
    for i in range(COUNT)
]
AVERAGE = Physique(1.70, 66.0)


def captions_of(physique: Physique = AVERAGE) -> list[str]:
    return [rich_caption(look, physique, sample_rng(5, f"s-{i}", "caption")) for i, look in enumerate(LOOKS)]


def test_every_choice_of_the_pocket_grammar_has_words_here() -> None:
    assert (set(TOP_NAMES), set(BOTTOM_NAMES)) == (set(pocket.TOPS), set(pocket.BOTTOMS))
    assert set(PLACES) == set(pocket.SCENES)


def test_a_caption_says_what_the_render_of_the_pose_shows() -> None:
    """Activity, colours and a place of the same kind: the `Description` is the oracle, read back by the colour score."""
    for look, caption in zip(LOOKS, captions_of(), strict=True):
        assert (
            look.activity in caption
            and f"{look.skin} skin" in caption
            and f"{look.hair_style} {look.hair} hair" in caption
        )
        assert any(place in caption for place in PLACES[look.scene])
        assert any(name in caption for name in TOP_NAMES[look.top])
        assert (named_colour(caption), named_colour(caption, "bottom")) == (look.top_colour, look.bottom_colour), (
            caption
        )
        assert "  " not in caption and " a a" not in caption and " a e" not in caption


def test_the_same_sample_has_the_same_caption_and_others_differ() -> None:
    captions = captions_of()
    assert captions == captions_of() and len(set(captions)) == COUNT


def test_it_is_more_varied_than_the_pocket_grammar() -> None:
    rich, plain = diversity(captions_of()), diversity([make_caption(look) for look in LOOKS])
    for name in ("caption_distinct_1", "caption_distinct_2", "caption_distinct_3", "caption_word_entropy_bits"):
        assert rich[name] > 1.1 * plain[name], name


@pytest.mark.parametrize(
    ("stature", "mass", "words", "others"),
    [
        (1.90, 60.0, ("tall slim",), ("short ", "heavyset")),
        (1.50, 80.0, ("short heavyset",), ("tall", "slim")),
        (1.70, 80.0, ("sturdy",), ("tall", "slim", "heavyset")),
    ],
)
def test_build_comes_from_the_body(
    stature: float, mass: float, words: tuple[str, ...], others: tuple[str, ...]
) -> None:
    for caption in captions_of(Physique(stature, mass))[:200]:
        person = caption[: caption.index("person")].rpartition(":")[2]
        assert all(word in person for word in words) and not any(word in person for word in others)


def test_children_are_told_where_bodies_are_theirs_alone() -> None:
    child = captions_of(Physique(1.2, 23.0, youngest_years=6.0))
    assert all("-year-old person" in text and "elderly" not in text and "slim" not in text for text in child)
    assert not any("six-year-old" in text for text in captions_of(Physique(1.2, 23.0)))
    assert not any("six-year-old" in text for text in captions_of(Physique(1.7, 66.0, youngest_years=6.0)))


@pytest.mark.parametrize("colour", NAMED_COLOURS)
def test_colours_are_read_from_a_person_s_own_words(colour: str) -> None:
    text = f"My aunt in a {colour} woollen sweater and {'teal' if colour == 'red' else 'red'} bell-bottom jeans, brown hair"
    assert garment_colour(text, "top") == colour
    assert garment_colour(text, "bottom") == ("teal" if colour == "red" else "red")
    assert garment_colour("somebody in a swimsuit", "top") is None


def test_draws_do_not_touch_those_of_the_look() -> None:
    rng = np.random.default_rng(0)
    rich_caption(LOOKS[0], AVERAGE, rng)
    assert sample_appearance(sample_rng(5, "s-0", "appearance"), LOOKS[0].activity) == LOOKS[0]
