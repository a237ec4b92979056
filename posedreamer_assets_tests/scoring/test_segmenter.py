"""Silhouettes of people in photographs, on a SegFormer and a Mask2Former of random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw
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
from posedreamer_assets.scoring.segmenter import Segmenter, load_segmenter, silhouette_iou
from posedreamer_assets_tests.scoring.test_onnx_detector import SHARED

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


def segmenter_of(folder: Path) -> Segmenter:
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


def save_reddish(path: Path, shape: list[int], planes_first: bool) -> Path:
    """A network whose score is the red of a pixel."""
    axis = 1 if planes_first else 3
    of_one = [1 if i == axis else side for i, side in enumerate(shape)]
    ends = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array([value]), name + "_value"))
            for name, value in (("first", 0), ("last", 1), ("axis", axis))]  # fmt: skip
    graph = helper.make_graph(
        [*ends, helper.make_node("Slice", ["picture", "first", "last", "axis"], ["score"])],
        "reddish",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, of_one)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("planes_first", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (50, 80), (96, 64)])
def test_an_onnx_segmenter_draws_in_the_images_own_pixels(
    tmp_path: Path, size: tuple[int, int], planes_first: bool
) -> None:
    """A red box comes back where it is, whatever the image's size and shape; a pixel of its edge at most is off."""
    path = save_reddish(tmp_path / "red.onnx", [1, 3, 64, 64] if planes_first else [1, 64, 64, 3], planes_first)
    box = np.zeros((2, *size), bool)
    box[0, 10:40, 8:44] = True
    images = np.zeros((2, *size, 3), np.uint8)
    images[box] = (255, 30, 30)
    segmenter = load_segmenter(SegmenterConfig(str(path)))
    drawn = segmenter.draw(images)
    assert drawn.shape == box.shape and not drawn[1].any()
    assert silhouette_iou(drawn, box)[0] > 0.93 and segmenter.name == "red.onnx"
    if size == (64, 64):
        assert np.array_equal(drawn, box)


def test_other_onnx_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="no ONNX file at"):
        load_segmenter(SegmenterConfig(str(tmp_path / "absent.onnx")))
    path = save_reddish(tmp_path / "four.onnx", [1, 64, 64, 4], False)
    with pytest.raises(DetectorError, match=r"no segmenter's: expected one picture"):
        load_segmenter(SegmenterConfig(str(path)))
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:40])
    with pytest.raises(DetectorError, match="onnxruntime cannot load it"):
        load_segmenter(SegmenterConfig(str(tmp_path / "torn.onnx")))


def test_a_published_segmenter_draws_people_in_photographs() -> None:
    """Photographs of one large person, against annotated outlines."""
    file, annotations = SHARED / "data/models/selfie_segmentation.onnx", SHARED / "data/photos/person_keypoints.json"
    if not file.is_file() or not annotations.is_file():
        pytest.skip("no shared segmenter and photographs")
    data = json.loads(annotations.read_text())
    segmenter, found = load_segmenter(SegmenterConfig(str(file))), []
    for photo in data["images"]:
        people = [one for one in data["annotations"] if one["image_id"] == photo["id"]]
        pixels = photo["width"] * photo["height"]
        if len(people) != 1 or people[0]["iscrowd"] or people[0]["area"] < 0.1 * pixels:
            continue
        (place,) = annotations.parent.rglob(photo["file_name"])
        image = np.asarray(Image.open(place).convert("RGB"))
        outline = Image.new("1", (photo["width"], photo["height"]))
        for polygon in people[0]["segmentation"]:
            ImageDraw.Draw(outline).polygon(polygon, fill=1)
        found.append(silhouette_iou(segmenter.draw(image[None]), np.asarray(outline)[None])[0])
    assert len(found) >= 3 and np.mean(found) > 0.5, found
