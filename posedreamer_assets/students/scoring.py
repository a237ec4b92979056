"""Predictions against the labels of test images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras, in_frame
from posedreamer_assets.students.labels import BODY_JOINTS, labels_of
from posedreamer_assets.students.metrics import Posed, Protocol, errors, mean_distance_mm, pelvis_of
from posedreamer_assets.students.predict import Predictions
from posedreamer_assets.students.skinning import TorchBody, all_vertices

_CHUNK = 32


@dataclass(frozen=True)
class Truth:
    """The labels of test images, posed once.

    Attributes:
        protocol: how bodies are laid over each other.
        posed: bodies relative to their root joint, in the camera's frame, with hands and face.
        seen: vertices that project into the image, hidden or not.
        floor_pve_mm: of the same bodies with hands, face and expression at rest, which is the best that a student can say.
        constant_pve_mm: of the upright mean body.
    """

    protocol: Protocol
    posed: Posed
    seen: Bool[np.ndarray, "n v"]
    floor_pve_mm: Float[np.ndarray, "n"]
    constant_pve_mm: Float[np.ndarray, "n"]


def truth_of(protocol: Protocol, body: BodyModel, params: BodyParams, cameras: Cameras) -> Truth:
    """Pose the labels of test images."""
    labels = labels_of(body, params, cameras)
    vertices, joints, seen = [], [], []
    for start in range(0, len(params), _CHUNK):
        part = slice(start, start + _CHUNK)
        out, before = body.forward(params.take(part)), cameras.take(part)
        placed = before.to_camera(out.vertices)
        seen.append(in_frame(before.project_camera(placed), before.width, before.height))
        pelvis = labels.pelvis_cam_m[part, None]
        vertices.append((placed - pelvis).astype(np.float32))
        joints.append((before.to_camera(out.joints[:, :BODY_JOINTS]) - pelvis).astype(np.float32))
    posed = Posed(labels.rotations, labels.betas, np.concatenate(vertices), np.concatenate(joints))
    upright = np.tile(np.eye(3, dtype=np.float32), (1, BODY_JOINTS, 1, 1))
    upright[:, 0] = np.diag([1.0, -1.0, -1.0])
    mean_body = posed_body(body, upright, np.zeros((1, 10), np.float32))
    at_rest = posed_body(body, labels.rotations, labels.betas)
    floor, constant = (_pve(protocol, body, found, posed) for found in (at_rest, mean_body))
    return Truth(protocol, posed, np.concatenate(seen), floor, constant)


def posed_body(body: BodyModel, rotations: Float[np.ndarray, "n 22 3 3"], betas: Float[np.ndarray, "n 10"]) -> Posed:
    """Bodies relative to their root joint, with hands and face at rest."""
    joints, vertices = all_vertices(TorchBody(body), rotations, betas)
    return Posed(rotations, betas, vertices, joints)


def score(body: BodyModel, found: Predictions, truth: Truth) -> dict[str, Float[np.ndarray, "n"]]:
    """Every error of each image, and beside them `floor_pve_mm` of the truth at rest and `constant_pve_mm` of the mean body.

    Raises:
        MetricsError: the labels are of another body.
    """
    posed = posed_body(body, found.rotations, found.betas)
    # Some images at a time, whose vertices stay in the processor's caches.
    parts = [slice(start, start + _CHUNK) for start in range(0, len(truth.seen), _CHUNK)]
    found_in = [errors(truth.protocol, body, posed.part(of), truth.posed.part(of), truth.seen[of]) for of in parts]
    return {
        **{name: np.concatenate([one[name] for one in found_in]) for name in found_in[0]},
        "floor_pve_mm": truth.floor_pve_mm,
        "constant_pve_mm": truth.constant_pve_mm,
    }


def _pve(protocol: Protocol, body: BodyModel, found: Posed, true: Posed) -> Float[np.ndarray, "n"]:
    moved = [one.vertices - pelvis_of(protocol, body, one.vertices, one.joints) for one in (found, true)]
    return mean_distance_mm(*moved)
