"""Pairs by number: what is read, how often, how much of it is in memory, and that latents are those of their images."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from posedreamer_assets.diffusion.pair_data import BLOCK, PairData, PairEncoder, PosePixels, batches_of, mapped
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import AlignmentError
from posedreamer_assets_tests.diffusion.conftest import draw_discs

POSES, CANDIDATES, SIDE = 10_000, 4, 8


class Counting:
    """Pixels that say which pose and candidate they are of; the number of poses asked for at a time is noted."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.times = np.zeros(POSES, int)

    def __call__(self, poses: np.ndarray) -> PosePixels:
        self.asked.append(len(poses))
        self.times[poses] += 1
        controls = np.full((len(poses), SIDE, SIDE, 3), 255, np.uint8)
        candidates = np.zeros((len(poses), CANDIDATES, SIDE, SIDE, 3), np.uint8)
        candidates[..., 0], candidates[..., 1] = (poses % 250)[:, None, None, None], (poses // 250)[:, None, None, None]
        candidates[..., 2] = np.arange(CANDIDATES)[None, :, None, None]
        return PosePixels(controls, candidates)


class Averaging:
    """A flow model of four tokens that encodes an image as the mean colour of each quarter, and counts captions."""

    device, token_grid = torch.device("cpu"), (2, 2)
    name = digest = adapter = network = lora_targets = block_size = None  # of a `FlowModel`, not used

    def generate(self) -> None:
        raise AssertionError("nothing is painted here")

    velocity = generate

    def __init__(self) -> None:
        self.captions = 0

    def encode_image(self, image: np.ndarray) -> torch.Tensor:
        half = SIDE // 2
        return torch.from_numpy(image.reshape(2, half, 2, half, 3).mean((1, 3)).reshape(4, 3).astype(np.float32))

    def encode_controls(self, controls: np.ndarray) -> torch.Tensor:
        return torch.stack([self.encode_image(one) for one in controls])

    def encode_captions(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        self.captions += len(captions)
        return torch.tensor([[[float(len(c))] * 2] for c in captions]), torch.tensor([[float(c)] for c in captions])


def many_pairs(read: Counting) -> PairData:
    """Three pairs of each pose: the first candidate beats each of the others."""
    poses = np.repeat(np.arange(POSES), CANDIDATES - 1)
    losers = np.tile(np.arange(1, CANDIDATES), POSES)
    return PairData(poses, np.zeros_like(poses), losers, poses % 10 == 0, [str(i) for i in range(POSES)], read)


def test_ten_thousand_poses_are_read_in_blocks_and_each_of_them_is_encoded_once(tmp_path: Path) -> None:
    read, model = Counting(), Averaging()
    encoder = PairEncoder(many_pairs(read), cast(Any, model), cache=True, halves=False, folder=tmp_path)
    assert max(read.asked) == BLOCK and (read.times == 1).all()
    assert model.captions == POSES, "not once for each of three pairs"
    rows = encoder.rows(np.array([3 * 777 + 1, 3 * 9_999]))
    assert rows.winners[:, 0].tolist() == [[777 % 250, 777 // 250, 0], [9_999 % 250, 9_999 // 250, 0]]
    assert rows.losers[:, 3].tolist() == [[777 % 250, 777 // 250, 2], [9_999 % 250, 9_999 // 250, 1]]
    assert rows.captions[1].ravel().tolist() == [777.0, 9_999.0]
    assert read.times.max() == 1, "batches are taken from what was encoded"
    assert list(tmp_path.iterdir()) == [], "the files of latents have no name"


def test_what_is_in_memory_of_ten_thousand_poses_at_512_pixels_is_below_8_gigabytes() -> None:
    """A block's pixels, the numbers of all pairs, and the body's share of each token; latents lie in files."""
    pixels = BLOCK * (1 + CANDIDATES) * 512 * 512 * 3
    pairs = many_pairs(Counting())
    numbers = sum(part.nbytes for part in (pairs.poses, pairs.winners, pairs.losers, pairs.validation)) * 2
    assert pixels + numbers + POSES * 32 * 32 * 4 < 0.2e9


def test_without_a_cache_a_pose_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    read, model = Counting(), Averaging()
    encoder = PairEncoder(many_pairs(read), cast(Any, model), cache=False, halves=False, folder=tmp_path)
    assert model.captions == 0
    rows = encoder.rows(np.array([3 * 777 + 1]))
    assert rows.losers[0, 0].tolist() == [777 % 250, 777 // 250, 2]
    assert read.times[777] == 2 and model.captions == 1


def test_latents_are_those_of_their_images_cut_to_the_half_with_the_body(
    tiny_generator: PocketGenerator, tmp_path: Path
) -> None:
    images, controls, captions = draw_discs(3)
    pairs = PairData.of_images(controls, images, 255 - images, captions, np.array([True, False, False]))
    encoder = PairEncoder(pairs, tiny_generator, cache=True, halves=True, folder=tmp_path)
    for i in range(3):
        rows = encoder.rows(np.array([i]))
        tokens = encoder.windows[encoder.window[i]]
        assert torch.equal(rows.winners[0], tiny_generator.encode_image(images[i])[tokens])
        assert torch.equal(rows.losers[0], tiny_generator.encode_image(255 - images[i])[tokens])
        assert torch.equal(rows.controls[0], tiny_generator.encode_controls(controls[i : i + 1])[0][tokens])
        assert all(
            torch.equal(a, b) for a, b in zip(rows.captions, tiny_generator.encode_captions([captions[i]]), strict=True)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mapped_tensors_keep_what_is_written(dtype: torch.dtype, tmp_path: Path) -> None:
    like = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = mapped(like, 4, tmp_path)
    kept[2] = like
    assert torch.equal(kept[2], like) and not kept[3].any() and kept.shape == (4, 3, 5)


def test_a_pair_of_a_pose_without_a_caption_is_refused() -> None:
    with pytest.raises(AlignmentError, match="pose 3, there are captions of 3"):
        PairData(np.array([3]), np.array([0]), np.array([1]), np.array([True]), ["a"] * 3, Counting())


def test_batches_go_through_all_rows_before_any_comes_again() -> None:
    batches = batches_of(np.arange(7), 3, np.random.default_rng(0))
    for _ in range(3):
        two = np.concatenate([next(batches), next(batches)])
        assert len(set(two.tolist())) == 6
