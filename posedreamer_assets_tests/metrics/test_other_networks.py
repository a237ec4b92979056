"""DINOv2 and CLIP as quality's networks, on checkpoints of random weights, and their figures against naive loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

from posedreamer_assets.config import NetworkConfig, QualityConfig, load_profile
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics import distances
from posedreamer_assets.metrics.other_networks import CLIP, DINOV2_PX, IMAGENET, NetworkFeatures, compare_by
from posedreamer_assets.runtime.outside_files import file_digest

FIGURES = {"frechet", "kd", "cmmd", "precision", "recall", "density", "coverage"}


def save_network(kind: str, folder: Path) -> torch.nn.Module:
    """A checkpoint as they are published: DINOv2 of 518 pixels, CLIP of 32."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind == "dinov2":
        network = Dinov2Model(Dinov2Config(image_size=518, patch_size=56, mlp_ratio=1, **small))
    else:
        network = CLIPVisionModelWithProjection(
            CLIPVisionConfig(image_size=32, patch_size=16, intermediate_size=16, projection_dim=8, **small)
        )
    network.save_pretrained(folder)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize(("kind", "side", "statistics"), [("dinov2", DINOV2_PX, IMAGENET), ("clip", 32, CLIP)])
def test_features_are_the_network_s_own_of_normalised_pixels(
    kind: str, side: int, statistics: tuple, tmp_path: Path
) -> None:
    network = save_network(kind, tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (9, side, side, 3)).astype(np.uint8)
    shown = (images / 255 - statistics[0]) / statistics[1]
    output = network(pixel_values=torch.tensor(shown.transpose(0, 3, 1, 2), dtype=torch.float32))
    expected = output.image_embeds if kind == "clip" else output.last_hidden_state[:, 0]
    features = NetworkFeatures(NetworkConfig(kind, str(tmp_path)))  # type: ignore[arg-type]
    found = features(images)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)
    assert features.name == f"{kind} {tmp_path.name}" and found.dtype == np.float32
    other_size = np.repeat(np.repeat(images, 2, 1), 2, 2)
    assert features(other_size).shape == found.shape


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    save_network("clip", tmp_path)
    with pytest.raises(MetricsError, match="not a checkpoint of Dinov2Model"):
        NetworkFeatures(NetworkConfig("dinov2", str(tmp_path)))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MetricsError, match="no fitting weight"):
        NetworkFeatures(NetworkConfig("clip", str(tmp_path)))
    with pytest.raises(MetricsError, match="no such folder"):
        NetworkFeatures(NetworkConfig("clip", str(tmp_path / "a/b/c")))


def test_the_report_is_stale_when_a_network_s_bytes_change(tmp_path: Path) -> None:
    assert file_digest(load_profile("pocket"), "quality_networks") is None
    (tmp_path / "model.safetensors").write_bytes(b"one")
    profile = load_profile(
        "pocket", {"quality.networks": [{"kind": "clip", "path": str(tmp_path)}, {"path": "o/dino"}]}
    )
    before = file_digest(profile, "quality_networks")
    (tmp_path / "model.safetensors").write_bytes(b"another")
    assert before and file_digest(profile, "quality_networks") not in (before, None)


def balls(reference: np.ndarray, k: int) -> list[float]:
    return [sorted(np.linalg.norm(reference - r, axis=1))[k] for r in reference]


def test_density_and_coverage_by_naive_loops() -> None:
    rng = np.random.default_rng(3)
    generated, reference, k = rng.normal(0.4, 1, (30, 4)), rng.normal(size=(25, 4)), 3
    radii = balls(reference, k)
    within = [
        [float(np.linalg.norm(g - r)) <= radius for r, radius in zip(reference, radii, strict=True)] for g in generated
    ]
    np.testing.assert_allclose(distances.density(generated, reference, k), [sum(row) / k for row in within])
    np.testing.assert_array_equal(
        distances.covered(generated, reference, k), [any(c) for c in zip(*within, strict=True)]
    )
    np.testing.assert_array_equal(distances.inside_manifold(generated, reference, k), [any(row) for row in within])


def test_cmmd_by_naive_loops_and_its_scale() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(7, 5)), rng.normal(0.5, 1, (6, 5))
    a, b = ([v / np.linalg.norm(v) for v in values] for values in (x, y))

    def kernel(u: np.ndarray, v: np.ndarray) -> float:
        return float(np.exp(-((u - v) ** 2).sum() / 200))

    def within(s: list[np.ndarray]) -> float:
        return float(np.mean([kernel(u, v) for i, u in enumerate(s) for j, v in enumerate(s) if i != j]))

    across = np.mean([kernel(u, v) for u in a for v in b])
    found = distances.mmd_estimate(x, y, 0, rng)
    assert found.value == pytest.approx(1000 * (within(a) + within(b) - 2 * across), rel=1e-6)


def test_every_figure_has_an_interval_and_alike_sets_are_near() -> None:
    rng = np.random.default_rng(5)
    cfg = QualityConfig(bootstrap=20)
    one, two, third = (rng.normal(size=(60, 6)).astype(np.float32) for _ in range(3))
    near = compare_by("clip tiny", one, two, cfg, seed=0)
    far = compare_by("clip tiny", third + np.float32(2), two, cfg, seed=0)
    assert set(near) == FIGURES and all(
        one["low"] <= one["value"] <= one["high"] for one in (*near.values(), *far.values())
    )
    assert all(near[name]["value"] < far[name]["value"] for name in ("frechet", "kd", "cmmd"))
    assert all(near[name]["value"] > far[name]["value"] for name in FIGURES - {"frechet", "kd", "cmmd"})
