"""Preference pairs by number, and their latents: pixels are read in blocks of poses, encoded once, and kept in mapped files."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posedreamer_assets.diffusion.generator import FlowModel
from posedreamer_assets.diffusion.halves import body_share, body_window, half_windows
from posedreamer_assets.errors import AlignmentError

BLOCK = 32  # poses whose pixels are in memory at a time: 126 MB at 512 x 512 with four candidates each


class PosePixels(NamedTuple):
    """Control images and the k candidates of p poses."""

    controls: UInt8[np.ndarray, "p h w 3"]
    candidates: UInt8[np.ndarray, "p k h w 3"]


ReadPoses = Callable[[np.ndarray], PosePixels]
"""Pixels of the poses with these numbers, in this order."""


@dataclass(frozen=True)
class PairData:
    """n preference pairs of p poses; no pixels.

    Attributes:
        poses: (n,) the number of each pair's pose, 0 to p - 1.
        winners: (n,) which of the pose's candidates wins.
        losers: (n,) which loses.
        validation: (n,) pairs that choose the checkpoint and are never trained on.
        captions: one per pose.
        read: where pixels come from, asked for no more than BLOCK poses at a time.
    """

    poses: Int[np.ndarray, "n"]
    winners: Int[np.ndarray, "n"]
    losers: Int[np.ndarray, "n"]
    validation: Bool[np.ndarray, "n"]
    captions: list[str]
    read: ReadPoses

    def __post_init__(self) -> None:
        if not len(self.poses) == len(self.winners) == len(self.losers) == len(self.validation):
            raise AlignmentError("poses, winners, losers and validation differ in length")
        if len(self.poses) and not 0 <= self.poses.min() <= self.poses.max() < len(self.captions):
            raise AlignmentError(f"a pair is of pose {self.poses.max()}, there are captions of {len(self.captions)}")

    def __len__(self) -> int:
        return len(self.poses)

    @classmethod
    def of_images(
        cls,
        controls: UInt8[np.ndarray, "n h w 3"],
        winners: UInt8[np.ndarray, "n h w 3"],
        losers: UInt8[np.ndarray, "n h w 3"],
        captions: list[str],
        validation: Bool[np.ndarray, "n"],
    ) -> "PairData":
        """One pair of each pose, from images in memory.

        Raises:
            AlignmentError: the arguments differ in length.
        """
        n = len(controls)
        if not n == len(winners) == len(losers) == len(captions) == len(validation):
            raise AlignmentError("controls, winners, losers, captions and validation differ in length")

        def read(poses: np.ndarray) -> PosePixels:
            return PosePixels(controls[poses], np.stack([winners[poses], losers[poses]], axis=1))

        return cls(np.arange(n), np.zeros(n, int), np.ones(n, int), validation, captions, read)


class PairRows(NamedTuple):
    """Encoded pairs on the model's device."""

    winners: Float[Tensor, "b tokens c"]
    losers: Float[Tensor, "b tokens c"]
    controls: Float[Tensor, "b tokens c"]
    body: Float[Tensor, "b tokens"]  # share of the token's pixels that show the body
    window: Int[Tensor, "b"]  # index of the half image that the tokens are of; 0 where they are of the whole
    captions: tuple[Float[Tensor, "b ..."], ...]  # what the model is told about each caption


class EncodedPose(NamedTuple):
    """What the model is shown of one pose: its candidates, its control image, its caption."""

    candidates: Float[Tensor, "k tokens c"]
    control: Float[Tensor, "tokens d"]
    captions: tuple[Tensor, ...]


class PairEncoder:
    """Latents and caption embeddings of the poses of pairs.

    With `cache` every pose is encoded once, at the start, and its latents lie in files in `folder` that are mapped into
    memory and have no name any more: the system drops and reads their pages as it likes, and they vanish with the process.
    Without it a pose is read and encoded whenever one of its pairs is asked for.
    """

    def __init__(self, pairs: PairData, generator: FlowModel, *, cache: bool, halves: bool, folder: Path) -> None:
        self.pairs, self.generator, self.folder = pairs, generator, folder
        rows, columns = generator.token_grid
        self.windows = half_windows(rows, columns) if halves else np.arange(rows * columns)[None]
        self.body = np.empty((len(pairs.captions), rows * columns), np.float32)
        self._mapped: EncodedPose | None = None
        for poses in np.split(np.arange(len(pairs.captions)), range(BLOCK, len(pairs.captions), BLOCK)):
            pixels = pairs.read(poses)
            self.body[poses] = [body_share(control, rows, columns) for control in pixels.controls]
            if cache:
                for row, pose in enumerate(poses):
                    self._keep(int(pose), self._encode(int(pose), pixels.controls[row], pixels.candidates[row]))
        # Of equal windows a pair takes a random one, which depends on its number alone.
        chosen = (
            body_window(self.body[pose][None], self.windows, np.random.default_rng(i))
            for i, pose in enumerate(pairs.poses)
        )
        self.window: Int[np.ndarray, "n"] = np.concatenate(list(chosen)) if len(pairs) else np.empty(0, int)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Tokens and channels of one image, or of the half of it that is trained on."""
        return tuple(self.rows(np.array([0])).winners.shape[1:])

    def rows(self, indices: np.ndarray) -> PairRows:
        """The pairs at these indices, as one batch."""
        found = [self._row(int(i)) for i in indices]
        captions = zip(*(row.captions for row in found), strict=True)
        images = (self._stack(part) for part in zip(*(row[:-1] for row in found), strict=True))
        return PairRows._make((*images, tuple(map(self._stack, captions))))

    def _stack(self, rows: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(rows)).to(self.generator.device)

    def _row(self, index: int) -> PairRows:
        pairs, pose = self.pairs, int(self.pairs.poses[index])
        encoded = self._pose(pose)
        tokens = torch.from_numpy(self.windows[self.window[index]])
        return PairRows(
            encoded.candidates[int(pairs.winners[index])][tokens],
            encoded.candidates[int(pairs.losers[index])][tokens],
            encoded.control[tokens],
            torch.from_numpy(self.body[pose])[tokens],
            torch.tensor(int(self.window[index])),
            encoded.captions,
        )

    def _pose(self, pose: int) -> EncodedPose:
        if self._mapped is not None:
            candidates, control, captions = self._mapped
            return EncodedPose(candidates[pose], control[pose], tuple(part[pose] for part in captions))
        pixels = self.pairs.read(np.array([pose]))
        return self._encode(pose, pixels.controls[0], pixels.candidates[0])

    def _encode(self, pose: int, control: np.ndarray, candidates: np.ndarray) -> EncodedPose:
        generator = self.generator
        return EncodedPose(
            torch.stack([generator.encode_image(image).cpu() for image in candidates]),
            generator.encode_controls(control[None])[0].cpu(),
            tuple(part[0].cpu() for part in generator.encode_captions([self.pairs.captions[pose]])),
        )

    def _keep(self, pose: int, encoded: EncodedPose) -> None:
        count = len(self.pairs.captions)
        if self._mapped is None:
            candidates, control = (mapped(part, count, self.folder) for part in encoded[:2])
            self._mapped = EncodedPose(candidates, control, tuple(mapped(p, count, self.folder) for p in encoded[2]))
        self._mapped.candidates[pose], self._mapped.control[pose] = encoded.candidates, encoded.control
        for kept, part in zip(self._mapped.captions, encoded.captions, strict=True):
            kept[pose] = part


def mapped(like: Tensor, count: int, folder: Path) -> Tensor:
    """An empty tensor of `count` tensors of this shape and dtype, in a file without a name on the disk of `folder`."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        size = count * like.numel()
        file.truncate(size * like.element_size())
        return torch.from_file(file.name, shared=True, size=size, dtype=like.dtype).view(count, *like.shape)


def batches_of(rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of `size` of these rows without end, each pass in another order; what a pass leaves over is left out."""
    while True:
        order = rng.permutation(rows)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]
