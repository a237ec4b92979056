"""Silhouettes of people in photographs, on a SegFormer and a Mask2Former of random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
)
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from posedreamer_assets.config import SegmenterConfig
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.scoring.segmenter import PersonSegmenter, load_segmenter, silhouette_iou

SIDE = 64
NAMES = ("wall", "person", "car")


def labels(names: tuple[str, ...]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def save_segformer(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1] * 4, sr_ratios=[8, 4, 2, 1],
        decoder_hidden_size=16, **labels(names),
    )  # fmt: skip
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def save_mask2former(folder: Path) -> None:
    backbone = SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],  # pyright: ignore[reportCallIssue]
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=6, **labels(NAMES),
    )  # fmt: skip
    torch.manual_seed(0)
    network = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        network.class_predictor.bias.copy_(torch.tensor([0.0, 2.0, 0.0, 3.55]))
    network.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 50, 80, 3)).astype(np.uint8)


def segmenter_of(folder: Path) -> PersonSegmenter:
    return load_segmenter(SegmenterConfig(str(folder), batch_size=3))


def resized(maps: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(maps, size=(50, 80), mode="bilinear", align_corners=False)


@torch.no_grad()
def test_people_are_where_their_class_is_likeliest(tmp_path: Path) -> None:
    """The oracle: the network asked directly."""
    save_segformer(tmp_path)
    network, images = SegformerForSemanticSegmentation.from_pretrained(tmp_path).eval(), pictures(4)
    shown = SegformerImageProcessorPil.from_pretrained(tmp_path)(images=list(images), return_tensors="pt")
    expected = resized(network(**shown).logits).argmax(1) == 1
    drawn = segmenter_of(tmp_path).draw(images)
    assert np.array_equal(drawn, expected.numpy()) and 0 < drawn.mean() < 1
    assert segmenter_of(tmp_path).draw(images[:0]).shape == (0, 50, 80)


@torch.no_grad()
def test_of_masks_with_classes_those_of_people_are_taken_where_they_are_sure(tmp_path: Path) -> None:
    save_mask2former(tmp_path)
    network, images = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval(), pictures(2)
    shown = Mask2FormerImageProcessorPil.from_pretrained(tmp_path)(images=list(images), return_tensors="pt")
    found = network(pixel_values=shown["pixel_values"])
    classes = found.class_queries_logits.softmax(-1)[..., :-1]
    masks = torch.nn.functional.interpolate(found.masks_queries_logits, size=(384, 384), mode="bilinear").sigmoid()
    scores = resized((classes[..., None, None] * masks[:, :, None]).sum(1))
    drawn = segmenter_of(tmp_path).draw(images)
    # Sums in another order may differ in the last bit where a pixel lies on the border.
    assert (drawn == ((scores.argmax(1) == 1) & (scores[:, 1] > 0.5)).numpy()).mean() > 0.999
    assert drawn[0].mean() > 0.99 and 0.1 < drawn[1].mean() < 0.9


def test_silhouettes_do_not_depend_on_their_company_and_digests_on_the_weights(tmp_path: Path) -> None:
    save_segformer(tmp_path)
    segmenter, images = segmenter_of(tmp_path), pictures(10)
    drawn = segmenter.draw(images)
    assert all(np.array_equal(segmenter.draw(images[i : i + 1])[0], drawn[i]) for i in (0, 4, 9))
    assert segmenter.name == f"segformer {tmp_path.name}" and segmenter.digest == segmenter_of(tmp_path).digest


def test_what_cannot_draw_people_is_refused(tmp_path: Path) -> None:
    save_segformer(tmp_path / "walls", ("wall", "car"))
    with pytest.raises(DetectorError, match="knows no class 'person', so that it cannot draw people"):
        segmenter_of(tmp_path / "walls")
    save_segformer(tmp_path / "torn")
    (tmp_path / "torn/config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(DetectorError, match="not a segmenter of transformers"):
        segmenter_of(tmp_path / "torn")
    (tmp_path / "torn/config.json").write_text(json.dumps({"model_type": "clown"}))
    with pytest.raises(DetectorError, match="not a segmenter of transformers"):
        segmenter_of(tmp_path / "torn")
    with pytest.raises(DetectorError, match="no segmenter weights at"):
        segmenter_of(tmp_path / "absent")
    with pytest.raises(DetectorError, match="at least 1, found 0"):
        load_segmenter(SegmenterConfig(str(tmp_path), batch_size=0))


def test_iou_counts_pixels() -> None:
    truth = np.zeros((4, 4, 4), bool)
    found = truth.copy()
    truth[:3, :2] = True  # 8 pixels
    found[0] = truth[0]
    found[1, 1:3] = True  # 4 of them, and 4 others
    found[3, 0, 0] = True
    np.testing.assert_allclose(silhouette_iou(found, truth), [1.0, 4 / 12, 0.0, np.nan])
