"""Predictions against test images that say less than a whole body of this home: joints, rotations, a mesh, or keypoints."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.body.joints import COCO17, COCO17_FROM_SMPLX, JOINT_INDEX, LANDMARK_VERTICES
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.students.labels import BODY_JOINTS
from posedreamer_assets.students.metrics import (
    Posed,
    Protocol,
    angles_deg,
    mean_distance_mm,
    pelvis_of,
    similarity_aligned,
    vertex_areas,
)
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.students.scoring import posed_body

PCK_AT = {"pck05": 0.05, "pck10": 0.1}
"""Shares of the longer side of the person's box within which a keypoint counts as found."""
_HIPS = [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]
_LEAST_JOINTS = 4  # that a similarity is asked for


@dataclass(frozen=True)
class Partial:
    """What is true of some images, in the frame and the pixels of their crops; NaN where it is not known.

    Attributes:
        joints_m: 22 body joints of another body, from any origin.
        rotations: root in the camera's frame and body joints.
        keypoints: COCO's 17, pixels. box: x, y, width, height, pixels.
        focal_px, principal_px: of the camera that keypoints are seen by.
    """

    joints_m: Float[np.ndarray, "n 22 3"]
    rotations: Float[np.ndarray, "n 22 3 3"]
    keypoints: Float[np.ndarray, "n 17 2"]
    box: Float[np.ndarray, "n 4"]
    focal_px: Float[np.ndarray, "n"]
    principal_px: Float[np.ndarray, "n 2"]


def score_partial(body: BodyModel, found: Predictions, true: Partial) -> dict[str, Float[np.ndarray, "n"]]:
    """Errors that can be told, by name; NaN where an image does not say enough.

    Joints are laid over each other at the pelvis, or at the middle of the hips where a file has no pelvis. They are those of two
    bodies: even a perfect pose leaves the difference of their definitions.
    """
    posed = posed_body(body, found.rotations, found.betas)
    mpjpe, pa_mpjpe = _of_joints(posed.joints, true.joints_m)
    with np.errstate(invalid="ignore"):
        angle = angles_deg(found.rotations, true.rotations)
    return {
        "mpjpe_mm": mpjpe,
        "pa_mpjpe_mm": pa_mpjpe,
        "orient_deg": angle[:, 0],
        "body_angle_deg": angle[:, 1:].mean(1),
        **pck_of(coco_pixels(posed, found, true.focal_px, true.principal_px), true.keypoints, true.box),
    }


def score_meshes(
    protocol: Protocol, body: BodyModel, found: Predictions, true_m: Float[np.ndarray, "n v 3"]
) -> dict[str, Float[np.ndarray, "n"]]:
    """Errors against vertices of which no parameters are known; joints of both bodies are regressed from the posed mesh."""
    vertices = [posed_body(body, found.rotations, found.betas).vertices, true_m]
    regressor = body.J_regressor[:BODY_JOINTS]
    joints = [regressor @ one for one in vertices]
    pelves = [pelvis_of(protocol, body, v, j) for v, j in zip(vertices, joints, strict=True)]
    moved = [v - p for v, p in zip(vertices, pelves, strict=True)]
    placed = [j - p for j, p in zip(joints, pelves, strict=True)]
    return {
        "pve_mm": mean_distance_mm(moved[0], moved[1]),
        "pve_area_mm": mean_distance_mm(moved[0], moved[1], vertex_areas(body)),
        "pa_pve_mm": mean_distance_mm(similarity_aligned(moved[0], moved[1]), moved[1]),
        "mpjpe_mm": mean_distance_mm(*placed),
        "pa_mpjpe_mm": mean_distance_mm(similarity_aligned(*placed), placed[1]),
    }


def _of_joints(
    found: Float[np.ndarray, "n 22 3"], true: Float[np.ndarray, "n 22 3"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """MPJPE and PA-MPJPE over the joints that are known."""
    plain, aligned = np.full(len(found), np.nan), np.full(len(found), np.nan)
    for i, known in enumerate(np.asarray(np.isfinite(true).all(2))):
        if not known.any():
            continue
        a, b = found[i, known].astype(float), true[i, known].astype(float)
        if known[0] or known[_HIPS].all():
            anchor = [0] if known[0] else _HIPS
            moved = [one - whole[i, anchor].mean(0) for one, whole in ((a, found), (b, true))]
            plain[i] = mean_distance_mm(moved[0][None], moved[1][None])[0]
        if known.sum() >= _LEAST_JOINTS:
            aligned[i] = mean_distance_mm(similarity_aligned(a[None], b[None]), b[None])[0]
    return plain, aligned


def coco_pixels(
    posed: Posed, found: Predictions, focal_px: Float[np.ndarray, "n"], principal_px: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 17 2"]:
    """Where predicted bodies' COCO keypoints are in the image."""
    of_face = [LANDMARK_VERTICES[name] for name in COCO17 if name in LANDMARK_VERTICES]
    points = np.concatenate([posed.vertices[:, of_face], posed.joints[:, COCO17_FROM_SMPLX[len(of_face) :]]], 1)
    placed = points + found.pelvis_cam_m[:, None]
    depth = np.maximum(placed[..., 2:], 0.1)
    return focal_px[:, None, None] * placed[..., :2] / depth + principal_px[:, None]


def pck_of(
    found: Float[np.ndarray, "n 17 2"], true: Float[np.ndarray, "n 17 2"], box: Float[np.ndarray, "n 4"]
) -> dict[str, Float[np.ndarray, "n"]]:
    """Share of labelled keypoints that are found, as they are and after the best shift and scale of the found ones."""
    labelled = np.asarray(np.isfinite(true).all(2))
    side = box[:, 2:].max(1)
    shares = {name: _share(found, true, labelled, bound * side) for name, bound in PCK_AT.items()}
    return {**shares, "pck10_aligned": _share(_moved(found, true, labelled), true, labelled, PCK_AT["pck10"] * side)}


def _share(
    found: np.ndarray, true: np.ndarray, labelled: Bool[np.ndarray, "n 17"], bound: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    with np.errstate(invalid="ignore"):
        hit = (np.linalg.norm(found - true, axis=2) <= bound[:, None]) & labelled
    count = labelled.sum(1)
    return np.where(count > 0, hit.sum(1) / np.maximum(count, 1), np.nan)


def _moved(found: np.ndarray, true: np.ndarray, labelled: Bool[np.ndarray, "n 17"]) -> Float[np.ndarray, "n 17 2"]:
    """The found points after the shift and the scale, no turn, that bring them nearest to the labelled ones in squares."""
    weight = labelled[..., None] / np.maximum(labelled.sum(1), 1)[:, None, None]
    known = np.where(labelled[..., None], true, 0.0)
    middle_a, middle_b = (found * weight).sum(1, keepdims=True), (known * weight).sum(1, keepdims=True)
    a, b = (found - middle_a) * labelled[..., None], (known - middle_b) * labelled[..., None]
    scale = (a * b).sum((1, 2)) / np.maximum((a * a).sum((1, 2)), 1e-12)
    return (found - middle_a) * np.maximum(scale, 0)[:, None, None] + middle_b
