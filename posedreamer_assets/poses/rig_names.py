"""Names of a rig's joints in words: side and part of the body, as many programs and languages write them."""

import re
from collections.abc import Sequence
from itertools import pairwise

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
HELPERS = frozenset(("roll", "twist", "end", "nub", "ik", "pole", "target", "effector"))
ANIMAL_WORDS = frozenset(
    ("paw", "hoof", "hind", "hindleg", "foreleg", "frontleg", "backleg", "wing", "fetlock", "pastern")
)

_SIDES = {"left": "left", "l": "left", "lf": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_PARTS = frozenset(
    (
        *("hand", "wrist", "palm", "foot", "ankle", "toe", "toes", "toebase", "ball", "thumb", "finger", "fingers"),
        *(
            "clavicle",
            "collar",
            "shoulder",
            "shldr",
            "humerus",
            "radius",
            "ulna",
            "elbow",
            "femur",
            "tibia",
            "knee",
            "hip",
        ),
        *(
            "leg",
            "arm",
            "forearm",
            "upperarm",
            "lowerarm",
            "thigh",
            "shin",
            "calf",
            "uparm",
            "lowarm",
            "upleg",
            "lowleg",
        ),
        *(
            "upperleg",
            "lowerleg",
            "uarm",
            "farm",
            "uleg",
            "lleg",
            "hipjoint",
            "index",
            "middle",
            "mid",
            "ring",
            "pinky",
        ),
        *("little", "handindex", "buttock", "eye"),
    )
)
# Japanese of MikuMikuDance, the longer words first.
_JAPANESE = (
    *(
        ("人差指", "index"),
        ("人指", "index"),
        ("親指", "thumb"),
        ("中指", "middle"),
        ("薬指", "ring"),
        ("小指", "pinky"),
    ),
    *(
        ("手首", "wrist"),
        ("足首", "ankle"),
        ("つま先", "toe"),
        ("爪先", "toe"),
        ("上半身", "spine"),
        ("下半身", "hips"),
    ),
    *(("ひじ", "elbow"), ("肘", "elbow"), ("ひざ", "knee"), ("膝", "knee"), ("腕", "arm"), ("肩", "collar")),
    *(("足", "leg"), ("手", "hand"), ("首", "neck"), ("頭", "head"), ("捩", "twist"), ("捻", "twist"), ("先", "end")),
    *(("センター", "center"), ("全ての親", "root"), ("目", "eye"), ("左", "left"), ("右", "right"), ("ＩＫ", "ik")),
)
_FULL_WIDTH = str.maketrans("０１２３４５６７８９", "0123456789")
_FINGER_WORDS = {
    **dict.fromkeys(("thumb", "first"), "thumb"),
    **dict.fromkeys(("index", "second", "pointer", "handindex"), "index"),
    **dict.fromkeys(("middle", "mid", "third"), "middle"),
    **dict.fromkeys(("ring", "fourth"), "ring"),
    **dict.fromkeys(("pinky", "little", "fifth", "pink", "pinkie"), "pinky"),
}
_ORDINALS = frozenset(("first", "second", "third", "fourth", "fifth"))
_BONES_OF_FINGERS = frozenset(("mc", "pp", "mp", "dp", "metacarpal", "proximal", "intermediate", "distal"))
_IN_PALM = frozenset(("in", "mc", "metacarpal", "meta", "carpal", "palm"))
_IN_ORDER = ("thumb", "index", "middle", "ring", "pinky")


def split_name(name: str) -> tuple[str | None, list[str]]:
    """Side ("left", "right" or None) and lower-case words of a joint's name.

    Understands LeftUpLeg, lHand, hand_l, Bip01 L Hand, mixamorig:LeftArm, LThumb, lfemur, LUArm, leftupperarm and 左ひじ.
    """
    return _side_of(_words(name))


def split_names(names: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """`split_name` of all joints of a rig; a first word that all share (an actor called L, Bip01) is no part of a name."""
    words = [_words(name) for name in names]
    while (
        len(words) > 2 and len({tuple(w[:1]) for w in words if len(w) != 1}) == 1 and sum(len(w) > 1 for w in words) > 2
    ):
        shared = next(w[0] for w in words if len(w) > 1)
        if any(w != [shared] for w in words if len(w) == 1):
            break
        words = [w[1:] for w in words]
    return [_side_of(w) for w in words]


def bone_of(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a joint without numbers and helpers: two joints of one bone share them."""
    return tuple(word for word in words if not word.isdigit() and word not in HELPERS and word != "bend")


def has(words: Sequence[str], *wanted: str) -> bool:
    """Whether one of the wanted words is among a joint's; also one written in two words, as in Fore Arm."""
    joined = {a + b for a, b in pairwise(words)}
    return not (set(words) | joined).isdisjoint(wanted)


def finger_of(words: Sequence[str], thumb_number: int | None) -> str | None:
    """Which finger a joint below the wrist belongs to.

    Args:
        words: of its name.
        thumb_number: number of the thumb where fingers are numbered, else None.
    """
    for word in words:
        finger = _FINGER_WORDS.get(word)
        if finger and (word not in _ORDINALS or _BONES_OF_FINGERS & set(words)):
            return finger
    number = finger_number(words)
    if number is None or thumb_number is None or not 0 <= number - thumb_number < len(_IN_ORDER):
        return None
    return _IN_ORDER[number - thumb_number]


def finger_number(words: Sequence[str]) -> int | None:
    """The finger's own number in Finger0, Finger21 (the second bone of finger 2) and finger5-1."""
    for word, following in pairwise(words):
        if word in ("finger", "digit") and following.isdigit():
            return int(following[0])
    return None


def in_palm(words: Sequence[str]) -> bool:
    """Whether a finger's joint lies in the palm: SMPL-X has none there but the thumb's."""
    return not _IN_PALM.isdisjoint(words)


def _words(name: str) -> list[str]:
    bare = re.sub(r"^mixamorig\d*", "", name.rsplit(":", 1)[-1], flags=re.IGNORECASE).translate(_FULL_WIDTH)
    for japanese, english in _JAPANESE:
        bare = bare.replace(japanese, f" {english} ")
    # LUArm and RFArm: a side, a letter and a word.
    bare = re.sub(r"(?<![A-Za-z])([LR])([A-Z])(?=[A-Z][a-z])", r"\1 \2", bare)
    bare = re.sub(r"(?<![A-Za-z])([UF])(Arm|Leg)", lambda m: f"{m[1].lower()}{m[2].lower()}", bare)
    return [w.lower() for w in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", bare)]


def _side_of(words: list[str]) -> tuple[str | None, list[str]]:
    for i, word in enumerate(words):
        if word in _SIDES:
            return _SIDES[word], words[:i] + words[i + 1 :]
    for i, word in enumerate(words):
        for prefix in ("left", "right", "l", "r"):
            rest = word[len(prefix) :]
            if word.startswith(prefix) and (rest in _PARTS or (len(prefix) > 1 and len(rest) > 2)):
                return _SIDES[prefix], [*words[:i], rest, *words[i + 1 :]]
        for suffix in ("left", "right"):
            if word.endswith(suffix) and word[: -len(suffix)] in _PARTS:
                return suffix, [*words[:i], word[: -len(suffix)], *words[i + 1 :]]
    return None, words
