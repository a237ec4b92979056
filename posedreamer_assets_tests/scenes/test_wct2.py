"""The network for style: wavelets against a plain loop, moments in closed form, regions, and files that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from posedreamer_assets.errors import RenderError
from posedreamer_assets.scenes.stylise import NO_STYLE, STYLISED, TOO_SMALL
from posedreamer_assets.scenes.wct2 import (
    Moments,
    Wct2,
    load_wct2,
    moments,
    pooled,
    recoloured,
    stylise_by,
    transferred,
    unpooled,
)
from posedreamer_assets.scenes.wct2_file import Layout, layout_of, names

NARROW = Layout((8, 12, 16, 16), joined=True)


def smooth(count: int, side: int, seed: int) -> Tensor:
    """Pictures with something to see at several sizes."""
    make = torch.Generator().manual_seed(seed)
    layers = [
        interpolate(torch.rand(count, 3, n, n, generator=make), size=side, mode="bicubic") for n in (2, 5, side // 2)
    ]
    return (0.5 * layers[0] + 0.35 * layers[1] + 0.15 * layers[2]).clamp(0, 1)


def random_network(layout: Layout, seed: int = 0) -> Wct2:
    """With weights that keep features about as large from layer to layer, and colours as they are before the first."""
    torch.manual_seed(seed)
    network = Wct2(layout)
    for name, one in network.named_parameters():
        torch.nn.init.zeros_(one) if name.endswith("bias") else torch.nn.init.kaiming_normal_(one)
    torch.nn.init.dirac_(network.get_parameter("encoder.conv0.weight"))
    return network.requires_grad_(False)


def reconstructed(network: Wct2, pictures: Tensor) -> Tensor:
    return network.decode(*network.encode(pictures))


@pytest.fixture(scope="module")
def trained() -> tuple[Wct2, float, float]:
    """A narrow network whose decoder has learnt for some steps, and its errors before and after on other pictures."""
    network = random_network(NARROW)
    held_out, before = smooth(4, 32, 99), 0.0
    with torch.no_grad():
        before = float(mse_loss(reconstructed(network, held_out), held_out))
    network.decoder.requires_grad_(True)
    optimizer = torch.optim.Adam(network.decoder.parameters(), 2e-3)
    for step in range(150):
        pictures = smooth(4, 32, step)
        loss = mse_loss(reconstructed(network, pictures), pictures)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)
    with torch.no_grad():
        after = float(mse_loss(reconstructed(network, held_out), held_out))
    return network, before, after


# Wavelets


def test_a_pooling_is_haars_and_its_components_together_are_what_was_pooled() -> None:
    features = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    components = pooled(features)
    for n, c, i, j in np.ndindex(2, 3, 3, 4):
        (a, b), (k, m) = features[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].tolist()
        wanted = [(a + b + k + m) / 2, (b + m - a - k) / 2, (k + m - a - b) / 2, (a + m - b - k) / 2]
        assert [float(one[n, c, i, j]) for one in components] == pytest.approx(wanted)
    spread = unpooled(components)
    assert torch.allclose(torch.stack(spread).sum(0), features, atol=1e-12)
    # Orthonormal: components have nothing in common, and together the energy of what was pooled.
    energies = [float((one**2).sum()) for one in components]
    assert sum(energies) == pytest.approx(float((features**2).sum()))
    assert float((spread[0] * spread[1]).sum()) == pytest.approx(0, abs=1e-9)
    assert float((spread[0] ** 2).sum()) == pytest.approx(energies[0])


# Moments


def test_moments_count_cells_by_their_share() -> None:
    features, shares = torch.rand(4, 50), torch.rand(50)
    shares[20:] = 0
    found = moments(features, shares)
    weights = shares.double().numpy()
    assert found.mean.numpy() == pytest.approx(np.average(features.numpy(), axis=1, weights=weights))
    wanted = np.cov(features.double().numpy(), aweights=weights, ddof=0)
    assert found.covariance.numpy() == pytest.approx(wanted)


def test_recoloured_features_have_the_mean_and_covariance_of_the_style() -> None:
    make = torch.Generator().manual_seed(3)
    mix = torch.randn(5, 5, generator=make)
    own, style = torch.randn(5, 400, generator=make) + 2, mix @ torch.randn(5, 300, generator=make) - 1
    wanted = moments(style, torch.ones(300))
    shares = torch.rand(400, generator=make)
    found = moments(recoloured(own, moments(own, shares), wanted), shares)
    assert found.mean.numpy() == pytest.approx(wanted.mean.numpy(), abs=1e-5)
    scale = float(wanted.covariance.diagonal().mean())
    assert found.covariance.numpy() == pytest.approx(wanted.covariance.numpy(), abs=0.01 * scale)
    assert moments(own, shares).covariance.numpy() != pytest.approx(wanted.covariance.numpy(), abs=0.1 * scale)


def test_a_region_of_one_colour_and_one_of_few_cells_give_numbers_and_own_moments_change_nothing() -> None:
    flat, few = torch.full((6, 9), 0.3), torch.rand(6, 3)
    of_few = moments(few, torch.ones(3))
    for own in (flat, few):
        assert recoloured(own, moments(own, torch.ones(own.shape[1])), of_few).isfinite().all()
    assert torch.allclose(recoloured(few, of_few, of_few), few, atol=1e-5)
    zero = Moments(torch.zeros(6).double(), torch.zeros(6, 6).double())
    assert recoloured(few, of_few, zero).isfinite().all()


# The network


def test_a_decoder_learns_to_give_back_what_was_encoded(trained: tuple[Wct2, float, float]) -> None:
    _, before, after = trained
    unseen = float(smooth(4, 32, 99).var((0, 2, 3)).mean())  # the error of one who knows no more than the mean colour
    assert after < 0.4 * unseen < before


@pytest.mark.parametrize("joined", [True, False])
def test_a_style_of_the_same_statistics_changes_nothing_but_what_the_decoder_does(joined: bool) -> None:
    network = random_network(Layout((4, 6, 8, 8), joined))
    picture, region = smooth(1, 48, 5), torch.zeros(48, 48)
    region[8:40, 5:30] = 1
    found = transferred(network, picture, region, region)
    assert torch.allclose(found, reconstructed(network, picture), atol=1e-4)
    other = torch.zeros(48, 48)
    other[:, 32:] = 1
    assert not torch.allclose(found, transferred(network, picture, region, other), atol=1e-3)


def test_a_region_like_the_other_stays_and_one_unlike_comes_nearer(trained: tuple[Wct2, float, float]) -> None:
    network, _, error = trained
    tile = (smooth(1, 64, 7)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    left = np.zeros((64, 128), bool)
    left[:, :64] = True
    # Mirrored, so that neither the seam nor the border is where only one half has it.
    alike = np.concatenate([tile, tile[:, ::-1]], axis=1)
    found = stylise_by(network, alike, left, ~left, 50)
    assert found.status == STYLISED
    unlike = np.where(left[..., None], alike // 3, alike).astype(np.uint8)
    moved = stylise_by(network, unlike, left, ~left, 50)

    def gap(picture: np.ndarray) -> float:
        return float(np.abs(picture[left].mean(0) - picture[~left].mean(0)).max())

    assert np.abs(found.picture[left] / 255 - alike[left] / 255).mean() < 2 * np.sqrt(error)
    assert gap(moved.picture) < 0.3 * gap(unlike)
    assert moved.colour_shift > found.colour_shift


# Regions


def test_pixels_outside_stay_and_those_far_from_both_regions_count_for_nothing() -> None:
    network = random_network(NARROW)
    picture = (smooth(1, 256, 8)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)[:41]
    content, style = np.zeros((2, 41, 256), bool)
    content[5:35, 3:33], style[2:38, 33:70] = True, True
    found = stylise_by(network, picture, content, style, 50)
    assert found.status == STYLISED and np.array_equal(found.picture[~content], picture[~content])
    assert not np.array_equal(found.picture[content], picture[content])
    # A cell of conv4_1 sees 34 pixels to a side, a pixel of the result some 40 more.
    far, near = picture.copy(), picture.copy()
    far[:, 150:] = 255 - far[:, 150:]
    near[style] = 255 - near[style]
    assert np.array_equal(stylise_by(network, far, content, style, 50).picture[content], found.picture[content])
    assert not np.array_equal(stylise_by(network, near, content, style, 50).picture[content], found.picture[content])


def test_the_edge_of_a_region_changes_half(monkeypatch: pytest.MonkeyPatch) -> None:
    from posedreamer_assets.scenes import wct2

    picture = np.full((64, 64, 3), 100, np.uint8)
    content = np.zeros((64, 64), bool)
    content[20:50, :40] = True
    monkeypatch.setattr(wct2, "_by_network", lambda network, seen, *regions: np.full_like(seen, 200 / 255))
    found = stylise_by(random_network(NARROW), picture, content, ~content, 50).picture[..., 0]
    assert found[20, 10] == found[30, 39] == 150 and found[21, 10] == found[30, 38] == 200
    assert found[30, 0] == 200  # the border of the picture is no edge of the region
    assert (found[~content] == 100).all()


def test_a_large_picture_is_seen_small_and_its_detail_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from posedreamer_assets.scenes import wct2

    seen: list[tuple[int, ...]] = []

    def spy(network: Wct2, small: np.ndarray, *regions: np.ndarray) -> np.ndarray:
        seen.append(small.shape)
        return small + np.float32(0.1)

    monkeypatch.setattr(wct2, "_by_network", spy)
    picture = np.random.default_rng(0).integers(50, 150, (300, 1200, 3), dtype=np.uint8)
    content = np.zeros((300, 1200), bool)
    content[:, :500] = True
    found = stylise_by(random_network(NARROW), picture, content, ~content, 50).picture
    assert seen == [(150, 600, 3)]
    change = found[:, :499].astype(int) - picture[:, :499]
    assert change.min() >= 25 and change.max() <= 26  # a tenth of 255


@pytest.mark.parametrize(
    ("content", "style", "status"), [(400, 2000, TOO_SMALL), (2000, 400, NO_STYLE), (600, 600, STYLISED)]
)
def test_regions_of_too_few_pixels_leave_the_picture_alone(content: int, style: int, status: str) -> None:
    picture = (smooth(1, 64, 8)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    flat = np.arange(64 * 64).reshape(64, 64)
    found = stylise_by(random_network(NARROW), picture, flat < content, flat >= 4096 - style, 50)
    assert found.status == status and (found.picture is picture) == (status != STYLISED)


def test_the_same_picture_gives_the_same_bits() -> None:
    network = random_network(NARROW)
    picture = (smooth(1, 64, 8)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    left = np.zeros((64, 64), bool)
    left[:, :30] = True
    first, second = (stylise_by(network, picture, left, ~left, 50).picture for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_picture_of_the_cpu(trained: tuple[Wct2, float, float]) -> None:
    picture = (smooth(1, 64, 8)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    left = np.zeros((64, 64), bool)
    left[:, :30] = True
    here = stylise_by(trained[0].cpu(), picture, left, ~left, 50).picture.astype(int)
    there, again = (stylise_by(trained[0].cuda(), picture, left, ~left, 50).picture for _ in range(2))
    trained[0].cpu()
    assert np.abs(there - here).max() <= 1 and np.array_equal(there, again)


# Files


def weights_of(layout: Layout) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in random_network(layout).state_dict().items()}


@pytest.mark.parametrize("joined", [True, False])
def test_widths_and_kind_are_read_off_a_file_and_other_tensors_left_alone(joined: bool, tmp_path: Path) -> None:
    layout = Layout((4, 6, 8, 10), joined)
    weights, file = weights_of(layout), tmp_path / "w.safetensors"
    assert sorted(weights) == names() and {k: tuple(v.shape) for k, v in weights.items()} == layout.shapes
    save_file({name: one.half() for name, one in weights.items()} | {"encoder.pool1.LL": torch.ones(2)}, file)
    assert layout_of(str(file)) == layout
    found = load_wct2(str(file)).state_dict()
    assert all(torch.equal(found[name], weights[name].half().float()) for name in weights)


def test_vgg19s_layers_have_the_shapes_of_the_paper() -> None:
    shapes = Layout((64, 128, 256, 512), joined=True).shapes
    assert len(shapes) == 38 and shapes["encoder.conv3_4.weight"] == (256, 256, 3, 3)
    assert shapes["encoder.conv4_1.weight"] == (512, 256, 3, 3) and shapes["encoder.conv0.weight"] == (3, 3, 1, 1)
    assert shapes["decoder.conv4_1.weight"] == (256, 512, 3, 3) and shapes["decoder.conv3_4.weight"] == (
        256,
        1280,
        3,
        3,
    )
    assert shapes["decoder.conv2_1.weight"] == (64, 128, 3, 3) and shapes["decoder.conv1_1.bias"] == (3,)


def test_files_that_do_not_fit_are_told_in_one_line_with_the_tensor(tmp_path: Path) -> None:
    file, good = tmp_path / "w.safetensors", weights_of(NARROW)

    def refusal(weights: dict[str, Tensor]) -> str:
        save_file(weights, file)
        with pytest.raises(RenderError) as raised:
            load_wct2(str(file))
        assert "\n" not in str(raised.value) and str(file) in str(raised.value)
        return str(raised.value)

    short = {name: one for name, one in good.items() if not name.startswith("decoder.conv3_3")}
    assert "has no decoder.conv3_3.bias (2 of 38 tensors are missing)" in refusal(short)
    assert "of 38 tensors are missing" in refusal({"x": torch.ones(1)})
    wrong = {**good, "encoder.conv2_2.weight": torch.ones(12, 12, 1, 1)}
    assert "encoder.conv2_2.weight is F32 of shape [12, 12, 1, 1]; expected floats of shape [12, 12, 3, 3]" in refusal(
        wrong
    )
    assert "decoder.conv1_2.weight" in refusal({**good, "decoder.conv1_2.weight": torch.ones(1)})
    assert "encoder.conv1_1.bias is I64" in refusal({**good, "encoder.conv1_1.bias": torch.ones(8, dtype=torch.int64)})
    assert "no finite numbers" in refusal({**good, "decoder.conv1_1.bias": torch.full((3,), torch.nan)})
    file.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(RenderError, match="is no safetensors file"):
        layout_of(str(file))
    with pytest.raises(RenderError, match=r"no file .*--set style\.weights=FILE"):
        layout_of(str(tmp_path / "none.safetensors"))
