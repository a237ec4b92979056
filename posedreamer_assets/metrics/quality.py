"""All quality figures of a set of generated images against reference images, with intervals and counts."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from posedreamer_assets.config import QualityConfig
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.distances import (
    Estimate,
    classifier_score_estimate,
    fid,
    fid_estimate,
    inside_manifold,
    kid_blocks,
    kid_estimate,
    share_estimate,
)
from posedreamer_assets.metrics.features import ClassifierProbs, FeatureExtractor, FeatureSet
from posedreamer_assets.seeds import derive_seed

KID_BLOCKS = 100
KID_BLOCK_SIZE = 100
CLASSIFIER_SCORE = f"{ClassifierProbs.name}_score"


@dataclass(frozen=True)
class QualityResult:
    """Figures of one comparison; every `Estimate` carries a 95 % interval over images.

    Attributes:
        generated, reference: numbers of images that the figures were computed from.
        fid_2048: FID on Inception's 2048 pooled features.
        fid_64: FID on the 64 features of Inception's first max-pool: another scale, compare with other fid_64 alone.
        kid: unbiased KID on the 2048 features.
        kid_block_mean, kid_block_std: over `kid_blocks` blocks of `kid_block_size` images.
        precision, recall: k-nearest-neighbour manifolds on the 2048 features.
        classifier_score: of the generated images, from the classifier `classifier_name`.
        classifier_score_reference: of the reference images: what there is to reach.
        fid_2048_halves, fid_64_halves: FID between two random halves of the reference: a floor that shows how large
            FID is at such counts for images of the same distribution.
        notes: what a reader has to know to read the figures.
    """

    generated: int
    reference: int
    fid_2048: Estimate
    fid_64: Estimate
    kid: Estimate
    kid_block_mean: float
    kid_block_std: float
    kid_blocks: int
    kid_block_size: int
    precision: Estimate
    recall: Estimate
    neighbours: int
    classifier_name: str
    classifier_score: Estimate
    classifier_score_reference: Estimate
    fid_2048_halves: float | None
    fid_64_halves: float | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the classifier score is keyed by its classifier's name."""
        plain = {**dataclasses.asdict(self), "notes": list(self.notes)}
        plain[CLASSIFIER_SCORE] = plain.pop("classifier_score")
        plain[f"{CLASSIFIER_SCORE}_reference"] = plain.pop("classifier_score_reference")
        return plain


def quality_report(
    generated: UInt8[np.ndarray, "n h w 3"],
    reference: UInt8[np.ndarray, "m h2 w2 3"],
    cfg: QualityConfig,
    seed: int,
    extractor: FeatureExtractor | None = None,
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, "_n 2"]]]:
    """All quality figures as plain values, see `QualityResult`, and the `feature_plane` of both sets by name.

    Sets larger than `cfg.max_images` are cut to a random sample that depends on the seed alone.

    Raises:
        MetricsError: too few images in a set, or weights that are missing.
    """
    extractor = extractor or FeatureExtractor()
    chosen = [images[choose(len(images), cfg.max_images, seed, name)] for images, name in _named(generated, reference)]
    features = [extractor(images) for images in chosen]
    plane = feature_plane(features[0].pool_2048, features[1].pool_2048)
    return compare(features[0], features[1], cfg, seed).to_dict(), dict(
        zip(("generated", "reference"), plane, strict=True)
    )


def feature_plane(
    generated: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "m 2"]]:
    """The first two principal components of both sets together; signs are such that the largest loading is positive."""
    both = np.concatenate([generated, reference]).astype(np.float64)
    centred = both - both.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    plane = centred @ axes.T
    return plane[: len(generated)], plane[len(generated) :]


def choose(n: int, most: int, seed: int, name: str) -> np.ndarray:
    """Indices, ascending, of at most `most` of n images: all of them where they fit."""
    if n <= most:
        return np.arange(n)
    rng = np.random.default_rng(derive_seed(seed, name, "quality_choose"))
    return np.sort(rng.choice(n, most, replace=False))


def compare(generated: FeatureSet, reference: FeatureSet, cfg: QualityConfig, seed: int) -> QualityResult:
    """All quality figures of features that were computed before; takes seconds.

    Raises:
        MetricsError: fewer images in a set than the figures need.
    """
    if why := too_few(len(generated), len(reference), cfg):
        raise MetricsError(why)
    draws = cfg.bootstrap
    gen, ref = generated.pool_2048, reference.pool_2048
    block_size = min(KID_BLOCK_SIZE, len(gen), len(ref))
    block_mean, block_std = kid_blocks(gen, ref, KID_BLOCKS, block_size, _rng(seed, "kid_blocks"))
    precise = inside_manifold(gen, ref, cfg.neighbours)
    recalled = inside_manifold(ref, gen, cfg.neighbours)
    return QualityResult(
        generated=len(generated),
        reference=len(reference),
        fid_2048=fid_estimate(gen, ref, draws, _rng(seed, "fid_2048")),
        fid_64=fid_estimate(generated.pool_64, reference.pool_64, draws, _rng(seed, "fid_64")),
        kid=kid_estimate(gen, ref, draws, _rng(seed, "kid")),
        kid_block_mean=block_mean,
        kid_block_std=block_std,
        kid_blocks=KID_BLOCKS,
        kid_block_size=block_size,
        precision=share_estimate(precise, draws, _rng(seed, "precision")),
        recall=share_estimate(recalled, draws, _rng(seed, "recall")),
        neighbours=cfg.neighbours,
        classifier_name=ClassifierProbs.name,
        classifier_score=classifier_score_estimate(generated.probs, draws, _rng(seed, "score")),
        classifier_score_reference=classifier_score_estimate(reference.probs, draws, _rng(seed, "score_reference")),
        fid_2048_halves=_halves(ref, seed),
        fid_64_halves=_halves(reference.pool_64, seed),
        notes=_notes(len(generated), len(reference)),
    )


def too_few(generated: int, reference: int, cfg: QualityConfig) -> str:
    """Why so many images are not enough for `compare`; empty where they are."""
    least = cfg.neighbours + 2
    if min(generated, reference) >= least:
        return ""
    return f"{generated} generated and {reference} reference images: the quality figures need at least {least} of each"


def _named(generated: np.ndarray, reference: np.ndarray) -> tuple[tuple[np.ndarray, str], tuple[np.ndarray, str]]:
    return (generated, "generated"), (reference, "reference")


def _rng(seed: int, figure: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, figure, "quality"))


def _halves(features: np.ndarray, seed: int) -> float | None:
    if len(features) < 4:
        return None
    order = _rng(seed, "halves").permutation(len(features))
    half = len(features) // 2
    return fid(features[order[:half]], features[order[half : 2 * half]])


def _notes(generated: int, reference: int) -> tuple[str, ...]:
    notes = [
        f"Computed from {generated} generated and {reference} reference images. FID falls as counts grow: "
        "compare it only with figures of equal counts.",
        "fid_64 uses the 64 features of Inception's first max-pool, fid_2048 the final pool: two scales.",
        f"The classifier score uses {ClassifierProbs.name}; it is not the Inception Score.",
    ]
    if min(generated, reference) < 2048:
        notes.append(
            "Fewer images than the 2048 features: covariances are rank-deficient, fid_2048 is biased upwards; "
            "its floor at this size is fid_2048_halves (on half the reference images). KID is unbiased."
        )
    return tuple(notes)
