"""Errors of predicted bodies, millimetres and degrees, under protocols that are data.

All functions work on arrays of many images; `p` is the point that both bodies are moved to before they are compared.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.body.joints import JOINT_INDEX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.errors import MetricsError

Pelvis = Literal["posed-mesh", "chain", "hips"]
PELVES: tuple[Pelvis, ...] = ("posed-mesh", "chain", "hips")
_HIPS = (JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"])


@dataclass(frozen=True)
class Protocol:
    """How two bodies are laid over each other.

    Attributes:
        pelvis: `posed-mesh`: J_regressor applied to the posed mesh, as SMPLer-X and SMPLest-X; `chain`: the root joint of the
            kinematic chain, as Multi-HMR; `hips`: midpoint of the two hips, as BEDLAM for RICH.
    """

    pelvis: Pelvis = "posed-mesh"


def pelvis_of(
    protocol: Protocol, body: BodyModel, vertices: Float[np.ndarray, "n v 3"], joints: Float[np.ndarray, "n j 3"]
) -> Float[np.ndarray, "n 1 3"]:
    """The point that bodies are moved to."""
    if protocol.pelvis == "posed-mesh":
        return (body.J_regressor[0] @ vertices)[:, None]
    if protocol.pelvis == "chain":
        return joints[:, :1]
    return joints[:, _HIPS].mean(1, keepdims=True)


def distances_mm(found: Float[np.ndarray, "n k 3"], true: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k"]:
    """Distances of corresponding points, metres in, millimetres out."""
    apart = found.astype(np.float64) - true
    return 1000 * np.sqrt(np.einsum("nkc,nkc->nk", apart, apart))


def mean_distance_mm(
    found: Float[np.ndarray, "n k 3"],
    true: Float[np.ndarray, "n k 3"],
    weights: Float[np.ndarray, "k"] | None = None,
) -> Float[np.ndarray, "n"]:
    """Mean distance of corresponding points in each image, metres in, millimetres out."""
    return _mean(distances_mm(found, true), weights)


def _mean(distance: Float[np.ndarray, "n k"], weights: Float[np.ndarray, "k"] | None) -> Float[np.ndarray, "n"]:
    return distance.mean(1) if weights is None else distance @ (weights / weights.sum())


def _mean_where(distance: Float[np.ndarray, "n k"], where: Bool[np.ndarray, "n k"]) -> Float[np.ndarray, "n"]:
    """The mean of some points in each image; NaN where it has none."""
    count = where.sum(1)
    return np.where(count > 0, np.einsum("nk,nk->n", distance, where) / np.maximum(count, 1), np.nan)


def similarity_aligned(
    found: Float[np.ndarray, "n k 3"], true: Float[np.ndarray, "n k 3"]
) -> Float[np.ndarray, "n k 3"]:
    """The found points after the similarity that brings them nearest to the true ones in squares (Umeyama, 1991).

    A mirror image is not brought back: the determinant of the rotation is held at one.

    Raises:
        MetricsError: fewer than three points.
    """
    if found.shape[1] < 3:
        raise MetricsError(f"a similarity needs three points, found {found.shape[1]}")
    a, b = found.astype(np.float64), true.astype(np.float64)
    mean_a, mean_b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    a0, b0 = a - mean_a, b - mean_b
    u, s, vt = np.linalg.svd(b0.transpose(0, 2, 1) @ a0)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    spread = np.maximum(np.einsum("nka,nka->n", a0, a0), 1e-12)
    scale = (s * sign).sum(1) / spread
    return a0 @ (scale[:, None, None] * rotation.transpose(0, 2, 1)) + mean_b


def angles_deg(found: Float[np.ndarray, "n j 3 3"], true: Float[np.ndarray, "n j 3 3"]) -> Float[np.ndarray, "n j"]:
    """Geodesic distance of rotations, degrees: 2 asin(|A - B| / (2 sqrt 2)), which is exact near zero as well."""
    chord = np.linalg.norm(found.astype(np.float64) - true, axis=(-2, -1))
    return np.rad2deg(2 * np.arcsin(np.clip(chord / np.sqrt(8), 0, 1)))


def vertex_areas(body: BodyModel) -> Float[np.ndarray, "v"]:
    """A third of the triangles about each vertex of the template, square metres.

    Head and hands have more than half of the vertices and a sixth of the area.
    """
    corners = body.v_template[body.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    found = np.zeros(len(body.v_template))
    np.add.at(found, body.faces.ravel(), np.repeat(area / 3, 3))
    return found


@dataclass(frozen=True)
class Posed:
    """Bodies in the camera's frame.

    Attributes:
        rotations: root in the camera's frame, body joints relative to their parents.
        betas: shape. vertices, joints: metres; of the joints MPJPE counts all, the root among them.
    """

    rotations: Float[np.ndarray, "n 22 3 3"]
    betas: Float[np.ndarray, "n 10"]
    vertices: Float[np.ndarray, "n v 3"]
    joints: Float[np.ndarray, "n 22 3"]

    def part(self, of: slice) -> "Posed":
        """Some of the bodies."""
        return Posed(self.rotations[of], self.betas[of], self.vertices[of], self.joints[of])


def errors(
    protocol: Protocol,
    body: BodyModel,
    found: Posed,
    true: Posed,
    seen: Bool[np.ndarray, "n v"] | None = None,
) -> dict[str, Float[np.ndarray, "n"]]:
    """Every error of each image, by name.

    Args:
        protocol: how bodies are laid over each other.
        body: that both are poses of.
        found: predicted. true: labels.
        seen: vertices that `pve_in_image_mm` counts (UBody's protocol: in the image, hidden or not); all by default.

    Raises:
        MetricsError: the two have other numbers of vertices: they are not of one body.
    """
    if found.vertices.shape != true.vertices.shape:
        raise MetricsError(
            f"{found.vertices.shape[1]} vertices against {true.vertices.shape[1]}: bodies of two models are not compared"
        )
    pelves = [pelvis_of(protocol, body, one.vertices, one.joints) for one in (found, true)]
    moved = [one.vertices - pelvis for one, pelvis in zip((found, true), pelves, strict=True)]
    joints = [one.joints - pelvis for one, pelvis in zip((found, true), pelves, strict=True)]
    distance = distances_mm(moved[0], moved[1])
    where = np.ones(moved[0].shape[:2], bool) if seen is None else seen
    angle = angles_deg(found.rotations, true.rotations)
    return {
        "pve_mm": _mean(distance, None),
        "pve_area_mm": _mean(distance, vertex_areas(body)),
        "pve_in_image_mm": _mean_where(distance, where),
        "pa_pve_mm": mean_distance_mm(similarity_aligned(*moved), moved[1]),
        "mpjpe_mm": mean_distance_mm(*joints),
        "pa_mpjpe_mm": mean_distance_mm(similarity_aligned(*joints), joints[1]),
        "orient_deg": angle[:, 0],
        "body_angle_deg": angle[:, 1:].mean(1),
        "betas_l1": np.abs(found.betas - true.betas).mean(1),
    }
