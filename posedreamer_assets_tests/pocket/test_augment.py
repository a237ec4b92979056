import numpy as np
import torch

from posedreamer_assets.body.joints import COCO17_MIRROR
from posedreamer_assets.pocket.augment import MILD, STRONG, Augmentation, augment, augment_silhouettes, degrade, warp


def dotted(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Black pictures with a soft white dot at keypoint 0 (the nose), which has no mirror partner."""
    rng = np.random.default_rng(seed)
    points = torch.tensor(rng.uniform(44, 84, (n, 17, 2)), dtype=torch.float32)
    grid = torch.arange(128) + 0.5
    fall = (
        torch.exp(-((grid[None] - points[:, 0, :1]) ** 2) / 18)[:, None]
        * torch.exp(-((grid[None] - points[:, 0, 1:]) ** 2) / 18)[:, :, None]
    )
    return fall[:, None].expand(-1, 3, -1, -1).contiguous(), points, torch.ones(n, 17, dtype=torch.bool)


def test_pixels_and_keypoints_move_together() -> None:
    images, points, visible = dotted(24, 0)
    warped, moved, _ = warp(images, points, visible, MILD, torch.Generator().manual_seed(3))
    grid = torch.arange(128) + 0.5
    mass = warped[:, 0] / warped[:, 0].sum((1, 2), keepdim=True)
    seen = torch.stack([(mass.sum(1) * grid).sum(1), (mass.sum(2) * grid).sum(1)], -1)
    inside = ((moved[:, 0] > 15) & (moved[:, 0] < 113)).all(-1)
    assert int(inside.sum()) > 15
    assert float((seen - moved[:, 0])[inside].abs().max()) < 0.15


def test_silhouettes_move_with_their_pixels() -> None:
    images = dotted(24, 4)[0]
    clean = Augmentation(colour=0.0, blur_share=0.0, noise=0.0, blocks_share=0.0)
    seen, silhouettes = augment_silhouettes(images, images[:, :1], clean, torch.Generator().manual_seed(3))
    torch.testing.assert_close(seen[:, :1], silhouettes)
    assert not torch.equal(silhouettes, images[:, :1])


def test_flipping_swaps_left_and_right() -> None:
    images, points, visible = dotted(32, 1)
    visible[:, 5] = False
    still = Augmentation(scale=0, shift=0, rotation_deg=0)
    _, moved, seen = warp(images, points, visible, still, torch.Generator().manual_seed(0))
    flipped = ~seen[:, 6]
    assert 0 < int(flipped.sum()) < 32
    mirrored = points[:, torch.from_numpy(COCO17_MIRROR)].clone()
    mirrored[..., 0] = 128 - mirrored[..., 0]
    torch.testing.assert_close(moved[flipped], mirrored[flipped])
    torch.testing.assert_close(moved[~flipped], points[~flipped])
    assert bool((seen[:, 5] == flipped).all())


def test_the_same_generator_gives_the_same_batch_and_values_stay_in_range() -> None:
    images, points, visible = dotted(8, 2)
    silhouettes = (images[:, :1] > 0.1).float()
    first, second = (
        augment(images, points, visible, silhouettes, STRONG, torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert float(first[0].min()) >= 0 and float(first[0].max()) <= 1


def test_degrading_changes_pixels_but_not_the_input() -> None:
    images, _, _ = dotted(8, 3)
    before = images.clone()
    options = Augmentation(blur_share=1.0, blocks_share=1.0)
    assert not torch.equal(degrade(images, options, torch.Generator().manual_seed(0)), images)
    assert torch.equal(images, before)
