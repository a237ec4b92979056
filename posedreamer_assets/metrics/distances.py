"""Distances between sets of image features: FID, KID, precision and recall, classifier score; pure NumPy.

Each figure comes with a bootstrap standard error over images. The interval is `value ± 1.96 se` rather than the
bootstrap's percentiles: a resample holds about 63 % distinct images, which pushes FID up and the classifier score
down, so its percentiles need not contain the value itself; its spread is still informative.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from posedreamer_assets.cores import one_core
from posedreamer_assets.errors import MetricsError

Array = np.ndarray
# Bootstrap replicates of FID cost one SVD each; above this side length fewer are made.
_FULL_BOOTSTRAP_SIDE = 512
_MIN_REPLICATES = 20
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval over images; `low` and `high` are null without replicates."""

    value: float
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    replicates: int = 0


def fid(generated: Float[Array, "n d"], reference: Float[Array, "m d"]) -> float:
    """Fréchet distance of two Gaussians fitted to features (Heusel et al. 2017, equation 6).

    `|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))` with unbiased covariances. The square root is never formed:
    with `S_1 = A^T A` and `S_2 = B^T B` for centred, scaled features A and B, its trace is the sum of the singular
    values of `A B^T`. This is exact also where there are fewer images than features and S_1 S_2 is singular, without
    the usual jitter.

    FID is biased upwards with few images (its expectation falls about as 1/n): compare values of equal counts only.

    Raises:
        MetricsError: fewer than two images in a set, differing feature sizes, or values that are not finite.
    """
    x, y = _checked(generated, reference)
    return _frechet(x, np.ones(len(x)), y, np.ones(len(y)))


def fid_from_statistics(
    mean_1: Float[Array, " d"], cov_1: Float[Array, "d d"], mean_2: Float[Array, " d"], cov_2: Float[Array, "d d"]
) -> float:
    """Fréchet distance of two Gaussians, for statistics that were stored without their features.

    Raises:
        MetricsError: a covariance with an eigenvalue below what rounding explains.
    """
    root = _symmetric_root(cov_1)
    middle = np.linalg.eigvalsh(root @ cov_2 @ root)
    trace_root = np.sqrt(np.clip(middle, 0.0, None)).sum()
    gap = np.sum((np.asarray(mean_1, np.float64) - mean_2) ** 2)
    return float(max(gap + np.trace(cov_1) + np.trace(cov_2) - 2.0 * trace_root, 0.0))


def fid_estimate(
    generated: Float[Array, "n d"], reference: Float[Array, "m d"], replicates: int, rng: np.random.Generator
) -> Estimate:
    """`fid` with its bootstrap interval over both sets; at most `replicates`, fewer where each is costly."""
    x, y = _checked(generated, reference)
    few = max(len(x), len(y)) <= x.shape[1]
    of_weights = _Products(x, y).frechet if few else lambda wx, wy: _frechet(x, wx, y, wy)
    value = of_weights(np.ones(len(x)), np.ones(len(y)))
    side = min(x.shape[1], max(len(x), len(y)))
    if side > _FULL_BOOTSTRAP_SIDE:
        replicates = min(replicates, max(_MIN_REPLICATES, int(replicates * (_FULL_BOOTSTRAP_SIDE / side) ** 3)))
    with one_core() if few else nullcontext():
        draws = [of_weights(_resample(len(x), rng), _resample(len(y), rng)) for _ in range(replicates)]
    return _estimate(value, draws, lowest=0.0)


def kid(generated: Float[Array, "n d"], reference: Float[Array, "m d"]) -> float:
    """Kernel Inception distance: unbiased squared MMD with the kernel `(x.y / d + 1)^3` (Binkowski et al. 2018).

    It is zero in expectation for equal distributions whatever the counts, so small negative values occur.

    Raises:
        MetricsError: as `fid`.
    """
    x, y = _checked(generated, reference)
    return _mmd(_kernels(x, y), np.ones(len(x)), np.ones(len(y)))


def kid_blocks(
    generated: Float[Array, "n d"],
    reference: Float[Array, "m d"],
    blocks: int,
    block_size: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Mean and standard deviation of `kid` over random blocks of images drawn without replacement.

    This is how KID is usually published; block_size is cut to the smaller set.
    """
    x, y = _checked(generated, reference)
    size = min(block_size, len(x), len(y))
    kxx, kxy, kyy = _kernels(x, y)
    values, ones = [], np.ones(size)
    for _ in range(blocks):
        i = rng.choice(len(x), size, replace=False)
        j = rng.choice(len(y), size, replace=False)
        values.append(_mmd((kxx[np.ix_(i, i)], kxy[np.ix_(i, j)], kyy[np.ix_(j, j)]), ones, ones))
    return float(np.mean(values)), float(np.std(values))


def kid_estimate(
    generated: Float[Array, "n d"], reference: Float[Array, "m d"], replicates: int, rng: np.random.Generator
) -> Estimate:
    """`kid` with its bootstrap interval; pairs of an image with its own copy are left out of each replicate."""
    x, y = _checked(generated, reference)
    kernels = _kernels(x, y)
    value = _mmd(kernels, np.ones(len(x)), np.ones(len(y)))
    draws = [_mmd(kernels, _resample(len(x), rng), _resample(len(y), rng)) for _ in range(replicates)]
    return _estimate(value, draws)


def mmd_estimate(
    generated: Float[Array, "n d"], reference: Float[Array, "m d"], replicates: int, rng: np.random.Generator
) -> Estimate:
    """Unbiased squared MMD with the kernel `exp(-|x - y|^2 / (2 * 10^2))` of unit vectors, times 1000, with its interval.

    With CLIP's embeddings this is CMMD (Jayasumana et al. 2024, section 4), which takes no set for a Gaussian. Features are
    scaled to length 1 here. Small negative values occur where the sets are alike.

    Raises:
        MetricsError: as `fid`.
    """
    x, y = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in _checked(generated, reference))
    kernels = _gaussian(x, x), _gaussian(x, y), _gaussian(y, y)
    value = CMMD_SCALE * _mmd(kernels, np.ones(len(x)), np.ones(len(y)))
    draws = [CMMD_SCALE * _mmd(kernels, _resample(len(x), rng), _resample(len(y), rng)) for _ in range(replicates)]
    return _estimate(value, draws)


def density(generated: Float[Array, "n d"], reference: Float[Array, "m d"], neighbours: int = 3) -> Float[Array, " n"]:
    """Of each generated image the number of reference balls around it, over k; the mean is the density (it may exceed 1).

    A ball reaches a reference image's k-th nearest other one. Unlike precision, one outlier among the reference, whose ball
    is large, counts once (Naeem et al. 2020, equation 3).

    Raises:
        MetricsError: as `inside_manifold`.
    """
    return _in_balls(generated, reference, neighbours).sum(axis=1) / neighbours


def covered(generated: Float[Array, "n d"], reference: Float[Array, "m d"], neighbours: int = 3) -> Bool[Array, " m"]:
    """Whether the ball of each reference image holds a generated one; the mean is the coverage (Naeem et al. 2020, equation 4).

    Raises:
        MetricsError: as `inside_manifold`.
    """
    return np.asarray(_in_balls(generated, reference, neighbours).any(axis=0))


def inside_manifold(
    queries: Float[Array, "n d"], support: Float[Array, "m d"], neighbours: int = 3
) -> Bool[Array, " n"]:
    """Whether each query lies in a ball around some support point that reaches its k-th nearest other support point.

    Kynkäänniemi et al. 2019, equation 1.

    Raises:
        MetricsError: as `fid`, or no more support points than neighbours.
    """
    return np.asarray(_in_balls(queries, support, neighbours).any(axis=1))


def precision_recall(
    generated: Float[Array, "n d"], reference: Float[Array, "m d"], neighbours: int = 3
) -> tuple[float, float]:
    """Share of generated images in the reference manifold, and of reference images in the generated one.

    Kynkäänniemi et al. 2019, equation 2. Raises MetricsError as `inside_manifold`.
    """
    precise = inside_manifold(generated, reference, neighbours)
    recalled = inside_manifold(reference, generated, neighbours)
    return float(precise.mean()), float(recalled.mean())


def share_estimate(hits: Bool[Array, " n"], replicates: int, rng: np.random.Generator) -> Estimate:
    """Mean of a yes/no answer per image; the manifold that answered is held fixed."""
    return mean_estimate(hits, replicates, rng, highest=1.0)


def mean_estimate(
    values: Float[Array, " n"] | Bool[Array, " n"], replicates: int, rng: np.random.Generator, highest: float = np.inf
) -> Estimate:
    """Mean of a value per image, 0 or more; what the values were measured against is held fixed."""
    draws = [float(np.mean(values[rng.integers(len(values), size=len(values))])) for _ in range(replicates)]
    return _estimate(float(values.mean()), draws, lowest=0.0, highest=highest)


def classifier_score(probs: Float[Array, "n c"]) -> float:
    """`exp(mean over images of KL(p(class | image) || p(class)))`: the formula of the Inception Score.

    Salimans et al. 2016, computed over all images at once. Between 1 and the number of classes, biased downwards with
    few images. It is an *Inception* Score only if the probabilities are those of that Inception network.

    Raises:
        MetricsError: no images, or rows that are not distributions.
    """
    p = _checked_probs(probs)
    return _score(p, np.full(len(p), 1.0 / len(p)))


def classifier_score_estimate(probs: Float[Array, "n c"], replicates: int, rng: np.random.Generator) -> Estimate:
    """`classifier_score` with its bootstrap interval."""
    p = _checked_probs(probs)
    draws = [_score(p, _resample(len(p), rng) / len(p)) for _ in range(replicates)]
    return _estimate(classifier_score(probs), draws, lowest=1.0)


def _estimate(
    value: float, draws: list[float], lowest: float = -np.inf, highest: float = np.inf, z: float = 1.96
) -> Estimate:
    if len(draws) < 2:
        return Estimate(value)
    error = float(np.std(draws, ddof=1))
    return Estimate(value, max(value - z * error, lowest), min(value + z * error, highest), error, len(draws))


def _checked(x: Array, y: Array) -> tuple[Array, Array]:
    if x.shape[1] != y.shape[1]:
        raise MetricsError(f"feature sizes differ: {x.shape[1]} and {y.shape[1]}")
    for name, values in (("first", x), ("second", y)):
        if len(values) < 2:
            raise MetricsError(f"the {name} set has {len(values)} images, at least 2 are needed")
        if not np.isfinite(values).all():
            raise MetricsError(f"the {name} set holds features that are not finite")
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def _checked_probs(probs: Array) -> Array:
    p = np.asarray(probs, np.float64)
    if len(p) == 0 or (p < 0).any() or not np.allclose(p.sum(axis=1), 1.0, atol=1e-3):
        raise MetricsError(f"expected one distribution over classes per image, found an array of shape {p.shape}")
    return p / p.sum(axis=1, keepdims=True)


def _resample(n: int, rng: np.random.Generator) -> Float[Array, " n"]:
    """How often each of n images is drawn when n are drawn with replacement, never all the same one."""
    while True:
        counts = np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64)
        if counts.max() < n:
            return counts


def _frechet(x: Array, wx: Array, y: Array, wy: Array) -> float:
    """Fréchet distance of weighted sets; integer weights act as repeated images."""
    mean_x, a = _scaled(x, wx)
    mean_y, b = _scaled(y, wy)
    trace_root = _trace_of_root(a, b)
    distance = np.sum((mean_x - mean_y) ** 2) + np.sum(a * a) + np.sum(b * b) - 2.0 * trace_root
    return float(max(distance, 0.0))


class _Products:
    """The Fréchet distance of weighted sets of few images: their products of pairs are made once, and no draw sees features."""

    def __init__(self, x: Array, y: Array) -> None:
        middle = x.mean(0)  # distances stay, and sums lose fewer digits
        x, y = x - middle, y - middle
        self.xx, self.xy, self.yy = x @ x.T, x @ y.T, y @ y.T

    def frechet(self, wx: Array, wy: Array) -> float:
        """As `_frechet`."""
        u, v = wx > 0, wy > 0
        wx, wy = wx[u], wy[v]
        px, py = wx / wx.sum(), wy / wy.sum()
        xx, yy, xy = self.xx[np.ix_(u, u)], self.yy[np.ix_(v, v)], self.xy[np.ix_(u, v)]
        square_x, square_y = px @ xx @ px, py @ yy @ py  # of the means
        trace = _trace_of(xx, wx, square_x) + _trace_of(yy, wy, square_y)
        of_means, to_mean_y, to_mean_x = px @ xy @ py, xy @ py, px @ xy
        centred = xy - to_mean_y[:, None] - to_mean_x[None] + of_means
        scaled = np.sqrt(wx / (wx.sum() - 1.0))[:, None] * centred * np.sqrt(wy / (wy.sum() - 1.0))[None]
        root = np.linalg.svd(scaled, compute_uv=False).sum()
        return float(max(square_x + square_y - 2.0 * of_means + trace - 2.0 * root, 0.0))


def _trace_of(products: Array, weights: Array, square_of_mean: float) -> float:
    """The trace of a weighted set's covariance, from the products of its pairs."""
    total = weights.sum()
    return float((weights @ np.diag(products) - total * square_of_mean) / (total - 1.0))


def _scaled(x: Array, weights: Array) -> tuple[Array, Array]:
    """The mean, and A with A^T A = covariance; images of weight 0 are left out."""
    used = weights > 0
    x, weights = x[used], weights[used]
    mean = weights @ x / weights.sum()
    return mean, (x - mean) * np.sqrt(weights / (weights.sum() - 1.0))[:, None]


def _trace_of_root(a: Array, b: Array) -> float:
    """The sum of the singular values of A B^T.

    With more images than features they are the roots of the eigenvalues of L^T (B^T B) L, where L L^T = A^T A, at a quarter
    of the arithmetic; each is right to some 1e-8 of the largest. A covariance that is singular all the same has no such L.
    """
    if min(len(a), len(b)) > a.shape[1]:
        try:
            lower = np.linalg.cholesky(a.T @ a)
        except np.linalg.LinAlgError:
            pass
        else:
            return float(np.sqrt(np.clip(np.linalg.eigvalsh(lower.T @ (b.T @ b) @ lower), 0.0, None)).sum())
    return float(np.linalg.svd(_small_product(a, b), compute_uv=False).sum())


def _small_product(a: Array, b: Array) -> Array:
    """A B^T up to rotations, which leave its singular values: rows beyond the number of features are folded by QR."""
    a, b = (np.asarray(np.linalg.qr(m, mode="r")) if len(m) > m.shape[1] else m for m in (a, b))
    return a @ b.T


def _symmetric_root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    if values.min() < -1e-6 * max(values.max(), 1.0):
        raise MetricsError(f"covariance has the negative eigenvalue {values.min():.3g}")
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def _kernels(x: Array, y: Array) -> tuple[Array, Array, Array]:
    d = x.shape[1]
    return (x @ x.T / d + 1.0) ** 3, (x @ y.T / d + 1.0) ** 3, (y @ y.T / d + 1.0) ** 3


def _gaussian(x: Array, y: Array) -> Array:
    return np.exp(-_squared_distances(x, y) / (2 * CMMD_SIGMA**2))


def _in_balls(queries: Array, support: Array, neighbours: int) -> Bool[Array, "n m"]:
    """Whether each query lies in the ball of each support point that reaches its k-th nearest other support point."""
    q, s = _checked(queries, support)
    if not 1 <= neighbours < len(s):
        raise MetricsError(f"{neighbours} neighbours need more than that many images, found {len(s)}")
    within = _squared_distances(s, s)
    np.fill_diagonal(within, 0.0)
    radii = np.partition(within, neighbours, axis=1)[:, neighbours]  # column 0 is the point itself
    return np.asarray(_squared_distances(q, s) <= radii[None, :])


def _mmd(kernels: tuple[Array, Array, Array], wx: Array, wy: Array) -> float:
    """Unbiased squared MMD of weighted sets; an image is never paired with itself or its copies."""
    kxx, kxy, kyy = kernels
    within = [(w @ k @ w - (w * w) @ np.diag(k)) / (w.sum() ** 2 - (w * w).sum()) for k, w in ((kxx, wx), (kyy, wy))]
    return float(within[0] + within[1] - 2.0 * (wx @ kxy @ wy) / (wx.sum() * wy.sum()))


def _squared_distances(x: Array, y: Array) -> Array:
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None, :] - 2.0 * (x @ y.T)
    return np.clip(squares, 0.0, None)


def _score(p: Array, weights: Array) -> float:
    marginal = weights @ p
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(marginal)[None, :]), 0.0)
    return float(np.exp(weights @ terms.sum(axis=1)))
