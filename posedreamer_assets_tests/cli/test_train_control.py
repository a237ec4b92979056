"""`posedreamer train-control` of a ControlNet, on photographs with fits, with a segmenter beside the judge."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.config import ImageConfig, load_profile
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.metrics.intervals import bootstrap_mean
from posedreamer_assets.pipeline import control_pairs
from posedreamer_assets.pipeline.control_pairs import fidelity, photographs_with_fits
from posedreamer_assets_tests.diffusion.production_zimage import save_tiny_zimage
from posedreamer_assets_tests.pipeline.test_control_pairs import save_pair
from posedreamer_assets_tests.scoring.test_segmenter import save_segformer

SIDE = 32


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("control")
    save_tiny_zimage(folder / "base")
    save_segformer(folder / "segmenter")
    (folder / "pairs").mkdir()
    for i in range(4):
        save_pair(folder / "pairs", f"{i}", i)
    return {
        "image.width": SIDE,
        "image.height": SIDE,
        "generator.backend": "zimage",
        "generator.model_path": str(folder / "base"),
        "generator.control_lora_path": None,
        "generator.guidance": 0.0,
        "generator.steps": 1,
        "generator.dtype": "float32",
        "alignment.method": "none",
        "segmenter.path": str(folder / "segmenter"),
    }


def test_a_controlnet_is_trained_on_pairs_measured_and_painted_with(
    settings: dict[str, object], tmp_path: Path
) -> None:
    pairs = Path(str(settings["segmenter.path"])).parent / "pairs"
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value).strip(chr(34))}")]
    words += ["--home", str(tmp_path), "--pairs", str(pairs), "--steps", "2", "--batch-size", "2"]
    found = CliRunner().invoke(cli, ["train-control", *words, "--profile", "pocket"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    folder = tmp_path / "control_net"
    assert "silhouette IoU with it" in found.output and f"control_lora_path={folder / 'controlnet'}" in found.output
    facts = json.loads((folder / "control.json").read_text())
    assert facts["segmenter"] == "segformer segmenter" and facts["images"] == 4 and facts["held_out"] == 1
    assert np.asarray(Image.open(folder / "held_out.png")).shape == (SIDE, 4 * SIDE, 3)

    profile = load_profile("pocket", {**settings, "generator.control_lora_path": str(folder / "controlnet")})
    assert profile.image == ImageConfig(SIDE, SIDE)
    again = fidelity(photographs_with_fits(pairs, profile), load_generator(profile.generator, profile.image), profile)
    assert again.as_figures() == {name: facts[name] for name in again.as_figures()}, "what was written is measured"
    assert set(again.as_figures()) == {"oks", "oks_black", "gain", "iou", "iou_black", "iou_gain"}


def test_iou_is_of_the_bodies_in_the_control_images(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle: a segmenter that draws the left half, and a generator that paints nothing."""
    pairs = Path(str(settings["segmenter.path"])).parent / "pairs"
    profile = load_profile("pocket", settings)
    scenes = photographs_with_fits(pairs, profile)

    class Blank:
        name = digest = "blank"

        def generate(self, controls: np.ndarray, *_: object, **__: object) -> np.ndarray:
            return np.zeros_like(controls)

    class Left:
        def draw(self, images: np.ndarray) -> np.ndarray:
            drawn = np.zeros(images.shape[:3], bool)
            drawn[:, :, : SIDE // 2] = True
            return drawn

    monkeypatch.setattr(control_pairs.Models, "segmenter", property(lambda _: Left()))
    found = fidelity(scenes, Blank(), profile)
    body = scenes.data.read(scenes.painted).controls.max(-1) > 0
    inside = body[:, :, : SIDE // 2].sum((1, 2))
    expected = inside / (body.sum((1, 2)) + SIDE * SIDE // 2 - inside)
    assert found.iou == bootstrap_mean(expected) and found.iou_gain is not None and found.iou_gain.mean == 0
    monkeypatch.setattr(control_pairs.Models, "segmenter", property(lambda _: None))
    assert "iou" not in fidelity(scenes, Blank(), profile).as_figures()
