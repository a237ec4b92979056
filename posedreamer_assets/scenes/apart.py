"""Whether two bodies run into each other: nearest vertices, and on which side of the surface they lie.

A vertex of one body is inside the other where it lies behind the surface at the other's nearest vertex. Vertices of a body
are a centimetre or two apart: surfaces that cross by less than that, with no vertex of either inside the other, are not
found. A body wholly inside another is, which a test of surfaces alone does not find.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed surface in a frame of its own, which is moved without being turned: metres, unit normals outwards."""

    vertices: Float[np.ndarray, "v 3"]
    normals: Float[np.ndarray, "v 3"]

    @cached_property
    def low(self) -> Float[np.ndarray, "3"]:
        """Least coordinates."""
        return self.vertices.min(axis=0)

    @cached_property
    def high(self) -> Float[np.ndarray, "3"]:
        """Largest coordinates."""
        return self.vertices.max(axis=0)

    @cached_property
    def tree(self) -> KDTree:
        """Of the vertices."""
        return KDTree(self.vertices)


def depth_m(a: Solid, b: Solid, shift_m: Float[np.ndarray, "3"], margin_m: float = 0.0) -> float:
    """How deep any vertex of either body lies inside the other, metres.

    Negative where they are apart: then it is minus the least distance between vertices, or minus infinity where no vertex
    of either is in the box of the other.

    Args:
        a: a body.
        b: another.
        shift_m: what moves `a` from its own frame into that of `b`.
        margin_m: how much larger boxes are taken.
    """
    return max(_depth_of_vertices(a, b, shift_m, margin_m), _depth_of_vertices(b, a, -shift_m, margin_m))


def touching(a: Solid, b: Solid, shift_m: Float[np.ndarray, "3"], clearance_m: float = 0.0) -> bool:
    """Whether a vertex of either body lies inside the other, or nearer to it than `clearance_m`."""
    if ((a.low + shift_m > b.high + clearance_m) | (a.high + shift_m < b.low - clearance_m)).any():
        return False
    return depth_m(a, b, shift_m, clearance_m) > -clearance_m


def _depth_of_vertices(a: Solid, b: Solid, shift_m: Float[np.ndarray, "3"], margin_m: float) -> float:
    """How deep any vertex of `a` lies in `b`."""
    moved = a.vertices + shift_m
    near = moved[((moved >= b.low - margin_m) & (moved <= b.high + margin_m)).all(axis=1)]
    if not len(near):
        return -np.inf
    distance, nearest = b.tree.query(near)
    height = np.einsum("va,va->v", near - b.vertices[nearest], b.normals[nearest])
    inside = height < 0
    return float(-height[inside].min()) if inside.any() else float(-distance.min())
