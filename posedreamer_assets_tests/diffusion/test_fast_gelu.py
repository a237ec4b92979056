"""The fast GELU against PyTorch's own: values, gradients, and a network that is told to use it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from posedreamer_assets.diffusion import fast_gelu
from posedreamer_assets.diffusion.fast_gelu import tanh_gelu, use_fast_gelu
from posedreamer_assets.diffusion.networks import PocketSizes, build_transformer, image_ids


def test_it_is_gelu_in_its_tanh_form() -> None:
    x = torch.cat([torch.linspace(-30.0, 30.0, 20_001), torch.tensor([0.0, -0.0, 1e-30, 1e4, -1e4, 1e20, -1e20])])
    kept, expected = x.clone(), F.gelu(x.double(), approximate="tanh")
    with torch.no_grad():
        found = tanh_gelu(x)
    assert torch.equal(x, kept)
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-6)
    small = x.abs() < 4
    assert not torch.equal(found[small], F.gelu(x)[small])  # not the one with the error function


def test_gradients_are_pytorchs_own() -> None:
    x = torch.linspace(-5.0, 5.0, 101, requires_grad=True)
    (found,) = torch.autograd.grad(tanh_gelu(x).sum(), x)
    (expected,) = torch.autograd.grad(F.gelu(x, approximate="tanh").sum(), x)
    assert torch.equal(found, expected)


def test_half_precision_is_pytorchs_own() -> None:
    x = torch.linspace(-5.0, 5.0, 101).bfloat16()
    assert torch.equal(tanh_gelu(x), F.gelu(x, approximate="tanh"))


def test_a_network_that_uses_it_predicts_the_same_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    sizes = PocketSizes(heads=2, head_dim=16, double_layers=1, single_layers=2, text_dim=8)
    network = build_transformer(sizes).eval().requires_grad_(False)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.2)
    inputs = {
        "hidden_states": torch.randn(2, 16, 128), "timestep": torch.tensor([0.3, 0.9]), "img_ids": image_ids(8, 8),
        "pooled_projections": torch.randn(2, 8), "encoder_hidden_states": torch.randn(2, 5, 8), "txt_ids": torch.zeros(5, 3),
    }  # fmt: skip
    before = network(**inputs).sample
    assert use_fast_gelu(network) == 4  # image and caption of the double block, two single blocks
    after = network(**inputs).sample
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    calls = []
    plain = fast_gelu.F.gelu
    monkeypatch.setattr(fast_gelu.F, "gelu", lambda *args, **kwargs: calls.append(1) or plain(*args, **kwargs))
    network(**inputs)
    assert not calls
    assert set(network.state_dict()) == set(build_transformer(sizes).state_dict())
