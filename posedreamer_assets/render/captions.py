"""The caption grammar: what a caption can say about a person, written and read back."""

import re
from dataclasses import dataclass

from posedreamer_assets.errors import CaptionError

NAMED_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 40, 40),
    "orange": (235, 135, 35),
    "yellow": (235, 210, 60),
    "green": (55, 145, 65),
    "teal": (45, 150, 150),
    "blue": (50, 85, 190),
    "purple": (125, 60, 160),
    "pink": (235, 130, 175),
    "brown": (115, 75, 45),
    "black": (30, 30, 34),
    "white": (240, 240, 238),
    "gray": (135, 135, 138),
}
"""Colours of garments, sRGB."""

SKIN_TONES: dict[str, tuple[int, int, int]] = {
    "pale": (250, 218, 196),
    "light": (236, 190, 156),
    "olive": (204, 152, 112),
    "brown": (150, 98, 64),
    "dark": (88, 56, 40),
}
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (24, 20, 20),
    "brown": (84, 54, 32),
    "blond": (205, 170, 100),
    "red": (150, 66, 30),
    "gray": (150, 150, 150),
}
HAIR_STYLES = ("short", "long")
TOPS = ("t-shirt", "shirt", "tank-top")
PATTERNS = ("plain", "striped", "checked")
BOTTOMS = ("trousers", "shorts")
SCENES = ("in a studio", "in a room", "in a park", "on a beach", "on a street", "in a gym")

_GRAMMAR = re.compile(
    r"a photo of a person with (?P<skin>\S+) skin and (?P<hair_style>\S+) (?P<hair>\S+) hair (?P<activity>.+?) "
    r"wearing a (?P<top_colour>\S+) (?P<pattern>\S+) (?P<top>\S+) "
    r"(?P<bottom_colour>\S+) (?P<bottom>\S+) and (?P<shoes_colour>\S+) shoes (?P<scene>.+)"
)


@dataclass(frozen=True)
class Description:
    """What one caption says."""

    skin: str
    hair_style: str
    hair: str
    activity: str
    top_colour: str
    pattern: str
    top: str
    bottom_colour: str
    bottom: str
    shoes_colour: str
    scene: str


def make_caption(description: Description) -> str:
    """The caption of a description; `parse_caption` reads it back."""
    d = description
    return (
        f"a photo of a person with {d.skin} skin and {d.hair_style} {d.hair} hair {d.activity} "
        f"wearing a {d.top_colour} {d.pattern} {d.top} {d.bottom_colour} {d.bottom} and {d.shoes_colour} shoes {d.scene}"
    )


def parse_caption(caption: str) -> Description:
    """The description in a caption of this grammar.

    Raises:
        CaptionError: the text is not of this grammar.
    """
    match = _GRAMMAR.fullmatch(caption)
    if match is None:
        raise CaptionError(f"not a caption of this grammar: {caption!r}")
    return Description(**match.groupdict())


def garment_colour(caption: str, garment: str) -> str | None:
    """The colour that any caption names of a garment: the last named colour before the garment's own word, in its phrase.

    Args:
        caption: of either grammar, or a person's own.
        garment: `top` or `bottom`.

    Returns:
        one of `NAMED_COLOURS`, or None where the caption names none.
    """
    found = _GARMENTS[garment].search(caption.lower())
    return found["colour"] if found else None


_WORDS = {
    "top": "t-shirt|shirt|tank-top|tee|blouse|hoodie|sweater|jacket|cardigan|windbreaker|turtleneck|vest|camisole|jersey"
    "|halter top",
    "bottom": "trousers|shorts|jeans|chinos|leggings|joggers|corduroys|bermudas",
}
_GARMENTS = {
    garment: re.compile(rf"\b(?P<colour>{'|'.join(NAMED_COLOURS)}) (?:[a-z-]+ ){{0,2}}?(?:{words})\b")
    for garment, words in _WORDS.items()
}


def vocabulary(activities: list[str]) -> list[str]:
    """Every word that a caption can hold, sorted."""
    words = "a photo of person with skin and hair wearing shoes".split()
    for group in (NAMED_COLOURS, SKIN_TONES, HAIR_COLOURS, HAIR_STYLES, TOPS, PATTERNS, BOTTOMS, SCENES, activities):
        words += [word for phrase in group for word in phrase.split()]
    return sorted(set(words))
