"""From maps to people: peaks of heat maps are joined where affinity fields run from one to the other (Cao et al., CVPR 2017,
section 2.3: equations 10 to 15, with the greedy matching of each limb by itself).
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import maximum_filter

from posedreamer_assets.metrics.mpii_ap import Predicted
from posedreamer_assets.people2d.targets import HEATS, JOINTS, LIMBS

PEAK = 0.15  # least height of a peak
_MOST_PEAKS = 40  # of a joint: time grows with the square of their number
_SAMPLES = 10  # of an affinity field along a limb, equation 10's integral
LEAST_AFFINITY = 0.1  # mean along the limb
_LEAST_ALONG = 0.5  # share of samples at which the field runs along the limb; at the ends of short ones no cell is set
LEAST_JOINTS = 4  # of a person: fewer are mostly noise
_OF_A_TREE = len(LIMBS) + 1  # joints
_FLOOR = 1e-3  # under logarithms


def find_peaks(heat: Float[np.ndarray, "h w"], least: float = PEAK) -> Float[np.ndarray, "k 3"]:
    """x and y in cells (the middle of the first is 0.5) and height of each cell that is highest of its 3 x 3, highest first.

    A peak is refined by one parabola through the logarithm in x and one in y, which is exact for a Gaussian.
    """
    top = (heat == maximum_filter(heat, size=3, mode="nearest")) & (heat > least)
    row, column = np.nonzero(top)
    order = np.argsort(-heat[row, column], kind="stable")[:_MOST_PEAKS]
    row, column = row[order], column[order]
    logs = np.log(np.maximum(np.pad(heat, 1, mode="edge"), _FLOOR))
    r, c = row + 1, column + 1
    x = column + 0.5 + _parabola(logs[r, c - 1], logs[r, c], logs[r, c + 1])
    y = row + 0.5 + _parabola(logs[r - 1, c], logs[r, c], logs[r + 1, c])
    return np.stack([x, y, heat[row, column]], axis=1).astype(float)


def _parabola(before: np.ndarray, at: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the parabola through three heights is highest, in cells from the middle one, at most half a cell."""
    bend = before - 2 * at + after
    return np.where(bend < 0, (before - after) / np.where(bend < 0, 2 * bend, 1.0), 0.0).clip(-0.5, 0.5)


def limb_affinities(
    field: Float[np.ndarray, "2 h w"], starts: Float[np.ndarray, "a 3"], ends: Float[np.ndarray, "b 3"]
) -> Float[np.ndarray, "a b"]:
    """The mean of the field along the line from each start to each end; minus infinity where it mostly runs elsewhere."""
    way = ends[None, :, :2] - starts[:, None, :2]
    length = np.linalg.norm(way, axis=-1)
    unit = way / np.maximum(length, 1e-6)[..., None]
    points = starts[:, None, None, :2] + way[:, :, None] * ((np.arange(_SAMPLES) + 0.5) / _SAMPLES)[:, None]
    column = points[..., 0].astype(int).clip(0, field.shape[2] - 1)
    row = points[..., 1].astype(int).clip(0, field.shape[1] - 1)
    along = field[0, row, column] * unit[..., :1] + field[1, row, column] * unit[..., 1:]
    kept = (along > 0.05).mean(axis=-1) >= _LEAST_ALONG
    return np.where(kept, along.mean(axis=-1), -np.inf)


def match_greedily(affinities: Float[np.ndarray, "a b"], least: float = LEAST_AFFINITY) -> list[tuple[int, int]]:
    """Pairs of which no two share a start or an end, the highest first; equal ones in order."""
    pairs: list[tuple[int, int]] = []
    starts, ends = set[int](), set[int]()
    for place in np.argsort(-affinities, axis=None, kind="stable"):
        start, end = divmod(int(place), affinities.shape[1])
        if not affinities[start, end] > least:
            break
        if start not in starts and end not in ends:
            pairs.append((start, end))
            starts.add(start)
            ends.add(end)
    return pairs


def group_people(maps: Float[np.ndarray, "45 h w"], stride: float) -> Predicted:
    """People in the maps of an image, pixels.

    A joint's score is the height of its peak times the share of the tree's joints that its person has: pieces of a person
    whose left and right were taken for each other rank below whole people.

    Limbs form a tree, and of each limb a peak has at most one. So whatever hangs together has each joint at most once: a
    way from one peak to another of the same joint would have to go back the way it came.
    """
    peaks = [find_peaks(heat) for heat in maps[:JOINTS]]
    first = np.cumsum([0, *map(len, peaks)])
    person = _Together(int(first[-1]))
    for limb, (start, end) in enumerate(LIMBS):
        if len(peaks[start]) and len(peaks[end]):
            field = maps[HEATS + 2 * limb : HEATS + 2 * limb + 2]
            for a, b in match_greedily(limb_affinities(field, peaks[start], peaks[end])):
                person.join(int(first[start]) + a, int(first[end]) + b)
    joint = np.repeat(np.arange(JOINTS), [len(found) for found in peaks])
    return _people(np.concatenate([np.zeros((0, 3)), *peaks]), joint, person.names(), stride)


def _people(
    peaks: Float[np.ndarray, "k 3"], joint: Int[np.ndarray, "k"], person: Int[np.ndarray, "k"], stride: float
) -> Predicted:
    names, counts = np.unique(person, return_counts=True)
    names = names[counts >= LEAST_JOINTS]
    joints, scores = np.zeros((len(names), JOINTS, 2)), np.zeros((len(names), JOINTS))
    found = np.zeros((len(names), JOINTS), bool)
    for row, name in enumerate(names):
        own = np.flatnonzero(person == name)
        joints[row, joint[own]], scores[row, joint[own]] = (
            peaks[own, :2] * stride,
            peaks[own, 2] * len(own) / _OF_A_TREE,
        )
        found[row, joint[own]] = True
    return Predicted(joints, found, scores)


class _Together:
    """Which of so many things hang together."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def join(self, a: int, b: int) -> None:
        """From now on both are of one."""
        self.parent[self._name(a)] = self._name(b)

    def _name(self, one: int) -> int:
        while self.parent[one] != one:
            one = self.parent[one]
        return one

    def names(self) -> Int[np.ndarray, "k"]:
        """The same number for all that hang together."""
        return np.array([self._name(k) for k in range(len(self.parent))], int)
