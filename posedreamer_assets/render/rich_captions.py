"""Captions for generators that know language: place, light, age, build and clothes, in several orders of words.

What a person wears and where keeps to the `Description` that renders are drawn from: colours and how much of arms and legs a
garment covers are its own, the garment's name and the place are drawn from those that fit. Age is told where the body does
not speak against it, build from its stature and mass.
"""

from dataclasses import dataclass

import numpy as np

from posedreamer_assets.render.captions import Description

TOP_NAMES = {
    "t-shirt": ("t-shirt", "polo shirt", "jersey", "cropped tee", "short-sleeved blouse", "linen tee"),
    "shirt": ("shirt", "hoodie", "sweater", "denim jacket", "cardigan", "windbreaker", "turtleneck", "flannel shirt"),
    "tank-top": ("tank-top", "sleeveless vest", "camisole", "basketball jersey", "halter top"),
}
BOTTOM_NAMES = {
    "trousers": ("trousers", "jeans", "chinos", "leggings", "joggers", "cargo trousers", "corduroys"),
    "shorts": ("shorts", "running shorts", "denim shorts", "bermudas", "board shorts"),
}
SHOES = ("shoes", "sneakers", "trainers", "boots", "loafers", "canvas shoes")
PLACES = {
    "in a studio": (
        "in a photo studio before a seamless backdrop",
        "in a studio with a concrete floor",
        "in a dance studio with mirrors",
        "in an artist's loft",
        "on a theatre stage",
    ),
    "in a room": (
        "in a living room with bookshelves",
        "in a bright kitchen",
        "in an open-plan office",
        "in a hotel corridor",
        "in a museum hall",
        "in a library",
        "in a bedroom with wooden floorboards",
        "in a workshop full of tools",
        "in a school corridor",
    ),
    "in a park": (
        "in a city park",
        "on a forest path",
        "in a meadow of tall grass",
        "in a botanical garden",
        "beside a lake with reeds",
        "on a hillside above a valley",
        "in an orchard",
        "on a football pitch",
    ),
    "on a beach": (
        "on a sandy beach",
        "on a pebble beach",
        "among dunes",
        "on a wooden pier",
        "on a rocky coast",
        "on a boardwalk by the sea",
    ),
    "on a street": (
        "on a cobbled street",
        "on a busy crossing",
        "in a narrow alley",
        "at a tram stop",
        "in a market square",
        "on a bridge",
        "in a car park",
        "before a brick wall with graffiti",
        "on a suburban pavement",
    ),
    "in a gym": (
        "in a gym with weights",
        "in a sports hall",
        "on a yoga mat in a fitness room",
        "on a climbing hall's mats",
        "on an indoor running track",
    ),
}
OUTDOOR_LIGHT = (
    "at golden hour",
    "under an overcast sky",
    "in harsh midday sun",
    "at dusk",
    "in morning fog",
    "in light rain",
    "on a bright winter day",
    "in dappled shade",
    "at night under street lamps",
)
INDOOR_LIGHT = (
    "in soft window light",
    "under fluorescent tubes",
    "in warm lamplight",
    "lit by a softbox from the left",
    "with hard side light",
    "in dim light",
    "in even daylight from a skylight",
    "with a bright rim light",
)
INDOORS = frozenset(("in a studio", "in a room", "in a gym"))
SHOTS = (
    "a photo",
    "a candid photo",
    "a documentary photograph",
    "a snapshot",
    "a sports photograph",
    "a film photograph",
)
ADULT_AGES = ("young", "middle-aged", "elderly", "", "thirty-year-old", "twenty-something", "fifty-year-old")
CHILD_BELOW_M = 1.40  # shorter than one adult in a thousand
_TALL_M, _SHORT_M = 1.82, 1.58
_BUILDS = ((18.5, "slim"), (25.0, ""), (30.0, "sturdy"), (np.inf, "heavyset"))  # by body mass index, WHO's classes


@dataclass(frozen=True)
class Physique:
    """What of a body a caption may tell. `stature_m`: metres. `mass_kg`: kilograms. `youngest_years`: that it may have."""

    stature_m: float
    mass_kg: float
    youngest_years: float = 18.0


def rich_caption(look: Description, physique: Physique, rng: np.random.Generator) -> str:
    """A caption of a person who looks so; what the look leaves open is drawn by `rng`."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    person = _with_article(" ".join(filter(None, (_size_of(physique), pick(_ages_of(physique)), "person"))))
    features = f"with {look.skin} skin and {look.hair_style} {look.hair} hair"
    pattern = "" if look.pattern == "plain" else f"{look.pattern} "
    top = _with_article(f"{look.top_colour} {pattern}{pick(TOP_NAMES[look.top])}")
    bottom = f"{look.bottom_colour} {pick(BOTTOM_NAMES[look.bottom])}"
    clothes = f"{top}, {bottom} and {look.shoes_colour} {pick(SHOES)}"
    place = pick(PLACES[look.scene])
    light = pick(INDOOR_LIGHT if look.scene in INDOORS else OUTDOOR_LIGHT)
    shot = pick(SHOTS)
    forms = (
        f"{shot} of {person} {features} {look.activity} {place} {light}, wearing {clothes}",
        f"{shot} of {person} {look.activity} {place}, {features}, wearing {clothes}, {light}",
        f"{place}, {light}: {person} {features}, dressed in {clothes}, {look.activity}",
        f"{person} in {clothes}, {look.activity} {place}, {features}, {shot} taken {light}",
    )
    return forms[int(rng.integers(len(forms)))]


def _ages_of(physique: Physique) -> tuple[str, ...]:
    child = physique.youngest_years < 18 and physique.stature_m < CHILD_BELOW_M
    return ("six-year-old", "eight-year-old", "ten-year-old") if child else ADULT_AGES


def _size_of(physique: Physique) -> str:
    if physique.youngest_years < 18 and physique.stature_m < CHILD_BELOW_M:
        return ""  # an adult's measures of slim and short
    height = "tall" if physique.stature_m > _TALL_M else "short" if physique.stature_m < _SHORT_M else ""
    index = physique.mass_kg / physique.stature_m**2
    build = next(word for most, word in _BUILDS if index < most)
    return " ".join(filter(None, (height, build)))


def _with_article(words: str) -> str:
    sounds_like_a_vowel = words[0] in "aeio" or words.startswith("eight")
    return f"{'an' if sounds_like_a_vowel else 'a'} {words}"
