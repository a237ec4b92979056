"""Small ONNX files of every layout, whose answers are known, and the real MoveNet where it lies beside the checkout."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from posedreamer_assets.config import CounterConfig, DetectorConfig
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.scoring.detectors import load_detector
from posedreamer_assets.scoring.onnx_detector import OnnxDetector, recognise
from posedreamer_assets.scoring.people import load_counter

POINTS = np.random.default_rng(0).uniform(0.2, 0.8, (17, 2))  # x, y as shares of a square image
SHARED = Path(os.environ.get("POSEDREAMER_SHARED", Path(__file__).parents[2].parent / "shared"))


def write(path: Path, input_type: int, shape: list, outputs: dict[str, np.ndarray]) -> Path:
    """A model that answers `outputs` whatever it sees."""
    nodes, infos = [], []
    for name, value in outputs.items():
        constant = numpy_helper.from_array(value.astype(np.float32), f"{name}_value")
        nodes.append(helper.make_node("Constant", [], [name], value=constant))
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)))
    picture = helper.make_tensor_value_info("input", input_type, shape)
    graph = helper.make_graph(nodes, "constant", [picture], infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def movenet_single(path: Path) -> Path:
    answer = np.concatenate([POINTS[:, ::-1], np.full((17, 1), 0.9)], 1)[None, None]
    return write(path, TensorProto.INT32, [1, 192, 192, 3], {"out": answer})


def movenet_multi(path: Path, scores: tuple[float, ...] = (0.2, 0.8, 0.1, 0, 0, 0)) -> Path:
    answer = np.zeros((1, 6, 56))
    answer[0, :, 55] = scores
    answer[0, 1, :51] = np.concatenate([POINTS[:, ::-1], np.full((17, 1), 0.9)], 1).ravel()
    return write(path, TensorProto.INT32, [1, "h", "w", 3], {"out": answer})


def simcc(path: Path, keypoints: int = 17) -> Path:
    # The square image fills the 192 x 192 centre of a 256 x 192 input; two bins a pixel.
    x, y = np.zeros((1, keypoints, 384)), np.zeros((1, keypoints, 512))
    for k in range(17):
        x[0, k, round((POINTS[k, 0] * 192 - 0.5) * 2)] = 0.9
        y[0, k, round((POINTS[k, 1] * 192 + 32 - 0.5) * 2)] = 0.7
    return write(path, TensorProto.FLOAT, ["batch", 3, 256, 192], {"simcc_x": x, "simcc_y": y})


def yolo(path: Path, transposed: bool, wide: int = 5) -> Path:
    rows = np.zeros((1, 40, wide + 51))
    rows[0, :, 4] = 0.01
    rows[0, 7, 4] = 0.95
    rows[0, 7, wide:] = np.concatenate([POINTS * 320, np.full((17, 1), 0.9)], 1).ravel()
    answer = rows.swapaxes(1, 2) if transposed else rows
    return write(path, TensorProto.FLOAT, [1, 3, 320, 320], {"output0": answer})


LAYOUTS = {
    "movenet-single": movenet_single,
    "movenet-multi": movenet_multi,
    "simcc": simcc,
    "yolo-pose": lambda path: yolo(path, transposed=True),
    "yolo-pose-end2end": lambda path: yolo(path, transposed=False, wide=6),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [64, 256])
def test_each_layout_is_recognised_and_gives_image_pixels(layout: str, size: int, tmp_path: Path) -> None:
    path = LAYOUTS[layout](tmp_path / "model.onnx")
    detector = OnnxDetector(path)
    assert detector.layout == layout
    found = detector.detect(np.zeros((2, size, size, 3), np.uint8))
    assert found.shape == (2, 17, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, :, :2], POINTS * size, atol=size / 300)
    np.testing.assert_allclose(found[..., 2], 0.7 if layout == "simcc" else 0.9, atol=1e-6)


def test_other_orders_and_whole_body_files_work_too(tmp_path: Path) -> None:
    images = np.zeros((1, 100, 100, 3), np.uint8)
    upright = OnnxDetector(yolo(tmp_path / "upright.onnx", transposed=False)).detect(images)
    whole_body = OnnxDetector(simcc(tmp_path / "wholebody.onnx", keypoints=133)).detect(images)
    np.testing.assert_allclose(upright[0, :, :2], POINTS * 100, atol=0.01)
    np.testing.assert_allclose(whole_body[0, :, :2], POINTS * 100, atol=0.3)


def test_unknown_layouts_and_files_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.onnx", TensorProto.FLOAT, [1, 3, 64, 64], {"out": np.zeros((1, 10, 85))})
    with pytest.raises(DetectorError, match=r"boxes\.onnx.*not a layout known here"):
        OnnxDetector(path)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(DetectorError, match=r"broken\.onnx: onnxruntime cannot load it"):
        OnnxDetector(tmp_path / "broken.onnx")
    with pytest.raises(DetectorError, match="no ONNX file"):
        load_detector(DetectorConfig("onnx", str(tmp_path / "absent.onnx")))
    with pytest.raises(DetectorError, match="input type"):
        recognise([("tensor(string)", [1, 3, 8, 8])], [[1, 56, 9]], "model")
    with pytest.raises(DetectorError, match="one input"):
        recognise([("tensor(float)", [1, 3])], [[1, 56, 9]], "model")


def test_people_are_counted_above_the_threshold_and_apart(tmp_path: Path) -> None:
    images = np.zeros((2, 64, 64, 3), np.uint8)
    strict = load_counter(CounterConfig(str(movenet_multi(tmp_path / "strict.onnx")), threshold=2.0))
    assert strict.count(images)[0].tolist() == [0] * len(images)
    counts, scores = load_counter(CounterConfig(str(movenet_multi(tmp_path / "multi.onnx")))).count(images)
    assert counts.tolist() == [1, 1]
    np.testing.assert_allclose(scores, 0.8, atol=1e-6)
    rows = np.zeros((1, 3, 56))
    rows[0, :, 4] = (0.9, 0.8, 0.7)
    for i, offset in enumerate((0, 3, 150)):  # the second is the first again
        rows[0, i, 5:] = np.concatenate([POINTS * 100 + offset, np.ones((17, 1))], 1).ravel()
    path = write(tmp_path / "yolo.onnx", TensorProto.FLOAT, [1, 3, 320, 320], {"out": rows})
    assert load_counter(CounterConfig(str(path))).count(images)[0].tolist() == [2, 2]
    with pytest.raises(DetectorError, match="cannot count"):
        load_counter(CounterConfig(str(movenet_single(tmp_path / "single.onnx"))))


def brightest(path: Path, batch: int | str) -> Path:
    """A SimCC model that answers where its input's first plane is bright: the first of the brightest rows and columns."""
    nodes = [
        helper.make_node("Slice", ["input", "zero", "one", "one"], ["plane"]),
        helper.make_node("ReduceMax", ["plane"], ["x"], axes=[2], keepdims=0),
        helper.make_node("ReduceMax", ["plane"], ["y"], axes=[3], keepdims=0),
        helper.make_node("Tile", ["x", "times"], ["simcc_x"]),
        helper.make_node("Tile", ["y", "times"], ["simcc_y"]),
    ]
    constants = {"zero": [0], "one": [1], "times": [1, 17, 1]}
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 17, side])
        for name, side in (("simcc_x", 192), ("simcc_y", 256))
    ]
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 256, 192])
    given = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "brightest", [picture], infos, given)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("crop", ["whole", "label"])
@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_images_of_a_batch_do_not_mix_whatever_the_file_leaves_open(
    batch: int | str, crop: Any, tmp_path: Path
) -> None:
    """Eleven pictures with a bright spot each, in blocks of the file's size; the spots themselves are the oracle."""
    spots = np.random.default_rng(1).integers(30, 90, (11, 2))
    images = np.zeros((11, 128, 128, 3), np.uint8)
    for image, (x, y) in zip(images, spots, strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    boxes = np.concatenate([spots - 25, np.full((11, 2), 50)], 1).astype(np.float32)
    detector = load_detector(DetectorConfig("onnx", str(brightest(tmp_path / "brightest.onnx", batch)), crop=crop))
    found = detector.detect(images, boxes)
    np.testing.assert_allclose(found[:, :, :2], np.broadcast_to(spots[:, None] + 0.5, (11, 17, 2)), atol=2)
    alone = np.concatenate([detector.detect(images[i : i + 1], boxes[i : i + 1]) for i in range(11)])
    np.testing.assert_array_equal(found, alone)


def test_providers_are_named_and_never_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = movenet_single(tmp_path / "model.onnx")
    here = DetectorConfig("onnx", str(path), providers=("CPUExecutionProvider",))
    assert load_detector(here).detect(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 17, 3)
    with pytest.raises(DetectorError, match="no provider TensorrtExecutionProvider; it has"):
        load_detector(DetectorConfig("onnx", str(path), providers=("TensorrtExecutionProvider",)))
    taken = []
    started = onnxruntime.InferenceSession
    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda file, options, providers: taken.append(providers) or started(file, options, ["CPUExecutionProvider"]),
    )
    load_detector(DetectorConfig("onnx", str(path)))
    assert taken == [["CUDAExecutionProvider", "CPUExecutionProvider"]]
    with pytest.raises(DetectorError, match="cannot start provider CUDAExecutionProvider"):
        load_detector(DetectorConfig("onnx", str(path), providers=("CUDAExecutionProvider",)))


@pytest.mark.skipif(
    not (SHARED / "data/models/movenet-thunder.onnx").exists() or not (SHARED / "data/photos").exists(),
    reason="the real MoveNet and photographs lie beside some checkouts only (POSEDREAMER_SHARED)",
)
def test_the_real_movenet_finds_people_in_photographs() -> None:
    import json

    from PIL import Image

    labels = json.loads((SHARED / "data/photos/person_keypoints.json").read_text())
    names = {image["id"]: image["file_name"] for image in labels["images"]}
    people = [a for a in labels["annotations"] if a["num_keypoints"] >= 14 and a["area"] > 12000][:6]
    detector = load_detector(DetectorConfig("onnx", str(SHARED / "data/models/movenet-thunder.onnx")))
    near = []
    for person in people:
        image = Image.open(SHARED / "data/photos" / names[person["image_id"]]).convert("RGB")
        x, y, w, h = person["bbox"]
        margin = 0.15 * max(w, h)
        crop = np.asarray(image.crop((int(x - margin), int(y - margin), int(x + w + margin), int(y + h + margin))))
        found = detector.detect(crop[None])[0]
        truth = np.array(person["keypoints"], float).reshape(17, 3)
        offset = found[:, :2] + [int(x - margin), int(y - margin)] - truth[:, :2]
        near.append((np.linalg.norm(offset, axis=-1) < 0.1 * max(w, h))[truth[:, 2] == 2].mean())
    assert np.mean(near) > 0.8
