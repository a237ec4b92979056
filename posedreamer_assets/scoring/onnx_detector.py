"""Keypoint detectors in ONNX files; what a file holds is recognised from its inputs and outputs.

| layout | input | output |
|---|---|---|
| MoveNet single pose | (1, h, w, 3), 0..255 | (1, 1, 17, 3): y, x, score, normalised |
| MoveNet multi pose | (1, h, w, 3), 0..255 | (1, 6, 56): 17 x (y, x, score), box, score |
| RTMPose SimCC | (n, 3, h, w), ImageNet-normalised | (n, k, w * s) and (n, k, h * s), k at least 17 |
| YOLO-pose | (n, 3, h, w), 0..1 | (1, 56, boxes) or (1, boxes, 56): box, score, 17 x (x, y, score), pixels |
| YOLO-pose end to end | (n, 3, h, w), 0..1 | (1, boxes, 57): box, score, class, 17 x (x, y, score) |
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float, UInt8

from posedreamer_assets.errors import DetectorError
from posedreamer_assets.progress import advance
from posedreamer_assets.scoring.fitting import GREY, Fitting, named
from posedreamer_assets.scoring.networks import MEAN, STD
from posedreamer_assets.scoring.weights import block_size, folder_digest

DYNAMIC_SIZE = {"movenet-multi": 256, "simcc": 256, "yolo-pose": 640}  # where the file leaves the input's side open
DTYPES = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}
DTYPES["tensor(float16)"] = np.float16

USUAL_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")

Decoder = Callable[[list[np.ndarray], int, int], np.ndarray]


class OnnxDetector:
    """A keypoint detector in an ONNX file.

    Images go through it in blocks of one size, the last one filled up with black: of the file's own size where that is
    fixed, of one image where its outputs are, and of `batch_size` where both are open.

    Args:
        path: of the file.
        batch_size: images that go through the network together where the file leaves that open.
        providers: of onnxruntime, in order of preference; empty is CUDA where onnxruntime has it, and the CPU.
        crop: see `DetectorConfig`.

    Raises:
        DetectorError: no such file, a damaged one, inputs and outputs of no known layout, or a provider that is not there.
    """

    def __init__(self, path: Path, *, batch_size: int = 1, providers: Sequence[str] = (), crop: str = "whole") -> None:
        if not path.is_file():
            raise DetectorError(f"no ONNX file at {path}")
        self._session = open_session(path, providers)
        self.layout = recognise(
            [(i.type, list(i.shape)) for i in self._session.get_inputs()],
            [list(o.shape) for o in self._session.get_outputs()],
            str(path),
        )
        self.name, self.digest = named(f"{self.layout} {path.name}", folder_digest(path), crop)
        self._input = self._session.get_inputs()[0]
        batch, *rest = self._input.shape
        answers = [output.shape[0] for output in self._session.get_outputs()]
        if is_fixed(batch):
            self._batch = batch
        else:
            self._batch = 1 if any(map(is_fixed, answers)) else block_size(batch_size)
        movenet = self.layout.startswith("movenet")
        default = DYNAMIC_SIZE.get(self.layout, 256)
        self._height, self._width = (s if is_fixed(s) else default for s in (rest[:2] if movenet else rest[1:]))
        self._fit = Fitting(
            crop, self._height, self._width, frame=0 if movenet else GREY, beyond=GREY if "yolo" in self.layout else 0
        )

    def detect(
        self, images: UInt8[np.ndarray, "n h w 3"], boxes: Float[np.ndarray, "n 4"] | None = None
    ) -> Float[np.ndarray, "n 17 3"]:
        """See `detectors.KeypointDetector.detect`."""
        people = [best_person(p) for p in self.detect_people(images, boxes)]
        return np.stack(people) if people else np.zeros((0, 17, 3), np.float32)

    def detect_people(
        self, images: UInt8[np.ndarray, "n h w 3"], boxes: Float[np.ndarray, "n 4"] | None = None
    ) -> list[Float[np.ndarray, "people 18 3"]]:
        """All candidates of each image; row 17 holds the person's score in its last column."""
        fitted, maps = self._fit(images, boxes)
        found: list[np.ndarray] = []
        for start in range(0, len(fitted), self._batch):
            part = fitted[start : start + self._batch]
            block: np.ndarray = np.zeros((self._batch, *part.shape[1:]), np.uint8)
            block[: len(part)] = part
            tensor = np.stack([self._prepare(block[i]) for i in range(self._batch)])
            outputs = [np.asarray(output) for output in self._session.run(None, {self._input.name: tensor})]
            decode = DECODERS[self.layout]
            found += [
                decode([o[i : i + 1] for o in outputs], self._height, self._width).astype(np.float32)
                for i in range(len(part))
            ]
            advance(len(part))
        for people, to_input in zip(found, maps, strict=True):
            people[:, :17, :2] = to_input.to_image(people[:, :17, :2])
            people[..., 2] = people[..., 2].clip(0, 1)
        return found

    def _prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
        dtype = DTYPES[self._input.type]
        if self.layout.startswith("movenet"):
            return image.astype(dtype)
        planes = image.transpose(2, 0, 1).astype(np.float32) / 255
        if self.layout == "simcc":
            planes = (planes - np.array(MEAN, np.float32)[:, None, None]) / np.array(STD, np.float32)[:, None, None]
        return planes.astype(dtype)


def open_session(path: Path, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session of a file on the named providers, or on CUDA where there is one and else on the CPU.

    All that onnxruntime has is never taken: it would put TensorRT first, which spends minutes on each shape.

    Raises:
        DetectorError: a named provider that onnxruntime lacks or cannot start, or a damaged file.
    """
    there = onnxruntime.get_available_providers()
    if missing := [name for name in providers if name not in there]:
        raise DetectorError(f"{path}: onnxruntime has no provider {missing[0]}; it has {', '.join(there)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    wanted = list(providers) or [name for name in USUAL_PROVIDERS if name in there]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=wanted)
    except Exception as error:  # onnxruntime's errors have no common base
        raise DetectorError(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from error
    if unstarted := [name for name in providers if name not in session.get_providers()]:
        raise DetectorError(f"{path}: onnxruntime cannot start provider {unstarted[0]} (its libraries or its device)")
    return session


def is_fixed(side: Any) -> bool:
    """Whether a file fixes a dimension; open ones are names, None or not positive."""
    return isinstance(side, int) and side > 0


def best_person(people: Float[np.ndarray, "people 18 3"]) -> Float[np.ndarray, "17 3"]:
    """The candidate of the highest score; zeros, of confidence 0, where there is none."""
    if not len(people):
        return np.zeros((17, 3), np.float32)
    return people[int(people[:, 17, 2].argmax()), :17]


def recognise(inputs: list[tuple[str, list]], outputs: list[list], where: str) -> str:
    """The layout's name; open dimensions are strings, None or not positive.

    Raises:
        DetectorError: none of the known layouts.
    """
    found = f"{where}: inputs {inputs}, outputs {outputs}"
    if len(inputs) != 1 or len(inputs[0][1]) != 4:
        raise DetectorError(f"{found}: expected one input of four dimensions")
    kind, shape = inputs[0]
    if kind not in DTYPES:
        raise DetectorError(f"{found}: input type {kind} is none of {', '.join(DTYPES)}")
    if shape[-1] == 3:
        if len(outputs) == 1 and outputs[0][-2:] == [17, 3]:
            return "movenet-single"
        if len(outputs) == 1 and outputs[0][-1] == 56:
            return "movenet-multi"
    elif shape[1] == 3:
        if len(outputs) == 2 and all(len(o) == 3 and isinstance(o[1], int) and o[1] >= 17 for o in outputs):
            return "simcc"
        if len(outputs) == 1 and len(outputs[0]) == 3 and 56 in outputs[0][1:]:
            return "yolo-pose"
        if len(outputs) == 1 and len(outputs[0]) == 3 and outputs[0][2] == 57:
            return "yolo-pose-end2end"
    raise DetectorError(
        f"{found}: not a layout known here (MoveNet single or multi pose, RTMPose SimCC, YOLO-pose with 17 keypoints)"
    )


def _person(x: np.ndarray, y: np.ndarray, score: np.ndarray, person_score: np.ndarray) -> np.ndarray:
    """(people, 17) arrays and (people,) scores to (people, 18, 3)."""
    people = np.zeros((len(x), 18, 3), np.float32)
    people[:, :17] = np.stack([x, y, score], -1)
    people[:, 17, 2] = person_score
    return people


def _movenet_single(outputs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    y, x, score = np.moveaxis(outputs[0].reshape(1, 17, 3), -1, 0)
    return _person(x * width, y * height, score, score.mean(1))


def _movenet_multi(outputs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    rows = outputs[0].reshape(-1, 56)
    y, x, score = np.moveaxis(rows[:, :51].reshape(-1, 17, 3), -1, 0)
    return _person(x * width, y * height, score, rows[:, 55])


def _simcc(outputs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Each axis is a classification over w * s or h * s bins; bin b is pixel index b / s (SimCC, ECCV 2022)."""
    x_maps, y_maps = outputs[0][:, :17], outputs[1][:, :17]
    x = x_maps.argmax(-1) * (width / x_maps.shape[-1]) + 0.5
    y = y_maps.argmax(-1) * (height / y_maps.shape[-1]) + 0.5
    score = np.minimum(x_maps.max(-1), y_maps.max(-1))
    return _person(x, y, score, score.mean(1))


def _yolo_pose(outputs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    rows = outputs[0][0]
    rows = rows.T if rows.shape[0] == 56 else rows
    points = rows[:, 5:].reshape(-1, 17, 3)
    return _person(points[..., 0], points[..., 1], points[..., 2], rows[:, 4])


def _yolo_pose_end2end(outputs: list[np.ndarray], height: int, width: int) -> np.ndarray:
    rows = outputs[0][0]
    points = rows[:, 6:].reshape(-1, 17, 3)
    return _person(points[..., 0], points[..., 1], points[..., 2], rows[:, 4])


DECODERS: dict[str, Decoder] = {
    "movenet-single": _movenet_single,
    "movenet-multi": _movenet_multi,
    "simcc": _simcc,
    "yolo-pose": _yolo_pose,
    "yolo-pose-end2end": _yolo_pose_end2end,
}
