"""What a rendered person wears: sampled attributes, and their colours on the vertices of any SMPL-X body."""

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.render import captions
from posedreamer_assets.render.captions import Description

Appearance = Description
"""A person's attributes are exactly what a caption can say; colours vary around the named ones by the scene's seed."""


def sample_appearance(rng: np.random.Generator, activity: str) -> Appearance:
    """Attributes drawn uniformly and apart from each other."""

    def pick(options: object) -> str:
        values = list(options)  # type: ignore[call-overload]
        return values[int(rng.integers(len(values)))]

    return Appearance(
        skin=pick(captions.SKIN_TONES),
        hair_style=pick(captions.HAIR_STYLES),
        hair=pick(captions.HAIR_COLOURS),
        activity=activity,
        top_colour=pick(captions.NAMED_COLOURS),
        pattern=captions.PATTERNS[int(rng.choice(3, p=(0.6, 0.22, 0.18)))],
        top=pick(captions.TOPS),
        bottom_colour=pick(captions.NAMED_COLOURS),
        bottom=pick(captions.BOTTOMS),
        shoes_colour=pick(captions.NAMED_COLOURS),
        scene=pick(captions.SCENES),
    )


def appearance_to_json(appearance: Appearance) -> str:
    """As tables hold it."""
    return json.dumps(dataclasses.asdict(appearance), sort_keys=True)


def appearance_from_json(text: str) -> Appearance:
    """The inverse of `appearance_to_json`."""
    return Appearance(**json.loads(text))


@dataclass(frozen=True)
class Regions:
    """Parts of the body's surface, and the T-pose coordinates (metres) that patterns follow."""

    trunk: Bool[np.ndarray, "v"]
    upper_sleeve: Bool[np.ndarray, "v"]  # the shoulder's half of the upper arm
    sleeve: Bool[np.ndarray, "v"]  # arms down to the wrist
    hips: Bool[np.ndarray, "v"]
    thighs: Bool[np.ndarray, "v"]  # legs down to above the knee
    legs: Bool[np.ndarray, "v"]  # legs down to the ankle
    feet: Bool[np.ndarray, "v"]
    hair: Bool[np.ndarray, "v"]
    long_hair: Bool[np.ndarray, "v"]
    eyes: Bool[np.ndarray, "v"]
    brows: Bool[np.ndarray, "v"]
    lips: Bool[np.ndarray, "v"]
    rest: Float[np.ndarray, "v 3"]


@lru_cache(maxsize=2)
def regions(body: BodyModel) -> Regions:
    """The regions of a body; found from its own joints and skinning, so that any SMPL-X file will do."""
    rest, dominant = body.v_template, body.dominant_joint
    joints = body.J_regressor @ rest
    at = {name: joints[index] for name, index in JOINT_INDEX.items()}
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]

    def dominated(*names: str) -> np.ndarray:
        return np.isin(dominant, [JOINT_INDEX[n] for n in names])

    shoulder, elbow, wrist = at["left_shoulder"][0], at["left_elbow"][0], at["left_wrist"][0]
    knee, ankle, hip = at["left_knee"][1], at["left_ankle"][1], at["left_hip"][1]
    waist = at["spine1"][1]
    arms = dominated(*(f"{s}_{j}" for s in ("left", "right") for j in ("shoulder", "elbow", "wrist", "collar")))
    leg = dominated(*(f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "ankle")))
    core = dominated("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar")
    head = dominated("head", "jaw", "neck") | dominated("left_eye_smplhf", "right_eye_smplhf")
    feet = dominated("left_foot", "right_foot", "left_ankle", "right_ankle") & (y < ankle + 0.03)
    eye = (at["left_eye_smplhf"] + at["right_eye_smplhf"]) / 2
    front = z.max() if not head.any() else z[head].max()
    face = head & (z > at["head"][2] + 0.02)
    spread = np.abs(x - abs(at["left_eye_smplhf"][0]))
    nose_z = rest[np.flatnonzero(face)[z[face].argmax()]] if face.any() else np.array([0, eye[1] - 0.04, front])
    lips = face & (x < 0.026) & (np.abs(y - (nose_z[1] - 0.042)) < 0.011) & (z > eye[2] - 0.01)
    scalp = head & ((y > eye[1] + 0.055) | ((z < at["head"][2] + 0.005) & (y > at["head"][1] - 0.01)))
    return Regions(
        trunk=core & (y > waist - 0.02) & (x < shoulder + 0.02),
        upper_sleeve=arms & (x < (shoulder + elbow) / 2 + 0.02),
        sleeve=arms & (x < wrist - 0.015),
        hips=(core | leg) & (y <= waist - 0.02) & (y > hip - 0.1),
        thighs=leg & (y > knee + 0.1),
        legs=leg & (y > ankle + 0.03),
        feet=feet | dominated("left_foot", "right_foot"),
        hair=scalp,
        long_hair=scalp
        | (head & (z < at["head"][2] + 0.012) & (y > at["neck"][1] - 0.02))
        | (core & (z < at["neck"][2] - 0.03) & (y > at["neck"][1] - 0.16) & (x < 0.11)),
        eyes=face & (spread < 0.014) & (np.abs(y - eye[1]) < 0.009),
        brows=face & (spread < 0.022) & (np.abs(y - eye[1] - 0.024) < 0.006),
        lips=lips,
        rest=rest,
    )


def garment_masks(body: BodyModel, appearance: Appearance) -> dict[str, Bool[np.ndarray, "v"]]:
    """Vertices covered by top, bottom, shoes and hair."""
    r = regions(body)
    arms = {"t-shirt": r.upper_sleeve, "shirt": r.sleeve, "tank-top": np.zeros_like(r.trunk)}[appearance.top]
    bottom = r.hips | (r.legs if appearance.bottom == "trousers" else r.thighs)
    top = (r.trunk | arms) & ~bottom
    hair = r.hair if appearance.hair_style == "short" else r.long_hair
    return {"top": top & ~hair, "bottom": bottom & ~r.feet, "shoes": r.feet, "hair": hair}


def vertex_colours(body: BodyModel, appearance: Appearance, rng: np.random.Generator) -> Float[np.ndarray, "v 3"]:
    """sRGB in [0, 1] for every vertex; named colours vary a little by `rng`."""
    r, masks = regions(body), garment_masks(body, appearance)

    def shade(rgb: tuple[int, int, int], spread: float = 10.0) -> np.ndarray:
        return np.clip(np.array(rgb) + rng.normal(0, spread, 3), 8, 250) / 255

    skin = shade(captions.SKIN_TONES[appearance.skin], 6)
    colours = np.tile(skin, (len(r.rest), 1))
    colours[r.lips] = skin * np.array([0.8, 0.55, 0.55])
    colours[r.eyes] = 0.08
    hair = shade(captions.HAIR_COLOURS[appearance.hair], 6)
    colours[r.brows] = hair * 0.8
    top, accent = shade(captions.NAMED_COLOURS[appearance.top_colour]), rng.random(3) * 0.9 + 0.05
    colours[masks["top"]] = top
    period = rng.uniform(0.07, 0.11)
    bands = (r.rest[:, 1] / period) % 1 < 0.38
    # Along the arms bands run around the limb, so they follow x there.
    bands = np.where(np.abs(r.rest[:, 0]) > 0.2, (np.abs(r.rest[:, 0]) / period) % 1 < 0.38, bands)
    columns = (np.abs(r.rest[:, 0]) / period) % 1 < 0.38
    if appearance.pattern == "striped":
        colours[masks["top"] & bands] = accent
    if appearance.pattern == "checked":
        colours[masks["top"] & (bands ^ columns)] = accent * 0.6 + top * 0.4
    colours[masks["bottom"]] = shade(captions.NAMED_COLOURS[appearance.bottom_colour])
    colours[masks["shoes"]] = shade(captions.NAMED_COLOURS[appearance.shoes_colour])
    colours[masks["hair"]] = hair
    return colours


def cloth_offsets(body: BodyModel, appearance: Appearance, rng: np.random.Generator) -> Float[np.ndarray, "v"]:
    """How far cloth, shoes and hair stand off the skin, metres along the normal."""
    masks = garment_masks(body, appearance)
    offsets = np.zeros(len(body.v_template))
    for name, low, high in (("top", 0.004, 0.016), ("bottom", 0.004, 0.016), ("shoes", 0.004, 0.01)):
        offsets[masks[name]] = rng.uniform(low, high)
    offsets[masks["hair"]] = rng.uniform(0.008, 0.022 if appearance.hair_style == "short" else 0.03)
    return offsets
