"""Light on the vertices of a body: one directional light and an ambient one, on a rough surface that is no metal.

The formula is that of glTF's metallic-roughness material (as pyrender's fragment shader has it), computed for vertices
instead of pixels: a body has about as many of the one as a picture shows of the other, and no pixel is shaded in vain.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_ROUGHNESS = 0.9
_REFLECTANCE = 0.04  # of anything that is no metal, seen straight on
_GAMMA = 2.2


@dataclass(frozen=True)
class Light:
    """A directional light: direction that it shines to (camera frame), its strength, and that of the light all around."""

    direction: Float[np.ndarray, "3"]
    intensity: float
    ambient: float


def lit(
    vertices_cam: Float[np.ndarray, "v 3"],
    normals_cam: Float[np.ndarray, "v 3"],
    colours: Float[np.ndarray, "v 3"],
    light: Light,
    reached: Float[np.ndarray, "v"] | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Colours of lit vertices as a screen shows them, in [0, 1]; `colours` are linear, normals of unit length.

    `reached` is the share of the directional light that nothing keeps from each vertex; all of it without.
    """
    strength = brightness(vertices_cam, normals_cam, light, reached)[:, None]
    return np.clip((strength * colours.astype(np.float32)) ** np.float32(1 / _GAMMA), 0.0, 1.0)


def brightness(
    vertices_cam: Float[np.ndarray, "v 3"],
    normals_cam: Float[np.ndarray, "v 3"],
    light: Light,
    reached: Float[np.ndarray, "v"] | None = None,
) -> Float[np.ndarray, "v"]:
    """What share of the light a white surface sends to the camera, linear; more than 1 where it is overexposed. See `lit`."""
    normals = normals_cam.astype(np.float32)
    to_eye = -_unit(vertices_cam.astype(np.float32))
    to_light = -(light.direction / np.linalg.norm(light.direction)).astype(np.float32)
    half = _unit(to_eye + to_light)
    nl = np.clip(normals @ to_light, 0.001, 1.0)
    nv = np.clip(np.abs(np.einsum("va,va->v", normals, to_eye)), 0.001, 1.0)
    nh = np.clip(np.einsum("va,va->v", normals, half), 0.0, 1.0)
    vh = np.clip(np.einsum("va,va->v", to_eye, half), 0.0, 1.0)
    fresnel = _REFLECTANCE + (1 - _REFLECTANCE) * (1 - vh) ** 5
    k = (_ROUGHNESS + 1) ** 2 / 8
    shadowing = nv / (nv * (1 - k) + k) * (nl / (nl * (1 - k) + k))
    a2 = _ROUGHNESS**4
    facets = a2 / (np.pi * (nh * nh * (a2 - 1) + 1) ** 2)
    diffuse = (1 - fresnel) * (1 - _REFLECTANCE) / np.pi
    specular = fresnel * shadowing * facets / (4 * nl * nv + 0.001)
    direct = nl * light.intensity * (diffuse + specular)
    return (direct if reached is None else direct * reached) + light.ambient


def _unit(vectors: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    return vectors / np.maximum(np.sqrt(np.einsum("va,va->v", vectors, vectors))[:, None], 1e-12)
