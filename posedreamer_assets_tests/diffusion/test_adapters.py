"""LoRA adapters: what is refused, and that taking one off gives the base model back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from posedreamer_assets.diffusion.adapters import (
    WEIGHTS_NAME,
    adapter_state,
    add_adapter,
    sort_header,
    without_adapter,
)
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs, tiny_config

LAYER = "transformer.transformer_blocks.0.attn.to_q"


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter with an effect."""
    generator = PocketGenerator.load(tiny_config(tiny_folder), IMAGE)
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = add_adapter(generator.transformer, 2, ["to_q", "to_v"])
    state = {k: torch.randn_like(v) for k, v in adapter_state(generator.transformer).items()}
    generator.adapter.write(folder, state, config)
    return folder


def generate(generator: PocketGenerator, adapter: Path | None = None) -> np.ndarray:
    _, controls, captions = draw_discs(2)
    return generator.generate(controls, captions, [1, 2], adapter_path=adapter)


def test_base_images_come_back_when_the_adapter_is_taken_off(tiny_generator: PocketGenerator, adapter: Path) -> None:
    base = generate(tiny_generator)
    adapted = generate(tiny_generator, adapter)
    assert not np.array_equal(base, adapted)
    assert np.array_equal(generate(tiny_generator), base)
    assert np.array_equal(generate(tiny_generator, adapter / WEIGHTS_NAME), adapted)


def test_a_changed_file_is_loaded_anew(tiny_generator: PocketGenerator, adapter: Path, tmp_path: Path) -> None:
    file = tmp_path / WEIGHTS_NAME
    file.write_bytes((adapter / WEIGHTS_NAME).read_bytes())
    first = generate(tiny_generator, file)
    save_file({k: -v if "lora_B" in k else v for k, v in load_file(file).items()}, file)
    assert not np.array_equal(generate(tiny_generator, file), first)


def test_an_adapter_of_zeros_changes_nothing(tiny_generator: PocketGenerator, adapter: Path, tmp_path: Path) -> None:
    state = {k: torch.zeros_like(v) if "lora_B" in k else v for k, v in load_file(adapter / WEIGHTS_NAME).items()}
    save_file(state, tmp_path / WEIGHTS_NAME)
    assert np.array_equal(generate(tiny_generator, tmp_path), generate(tiny_generator))


@torch.no_grad()
def test_switching_an_adapter_off_equals_the_base_model(tiny_generator: PocketGenerator, adapter: Path) -> None:
    tokens, controls, hidden, pooled = (torch.randn(1, *shape) for shape in ((16, 16), (16, 16), (12, 32), (32,)))

    def velocity() -> Tensor:
        return tiny_generator.velocity(tokens, controls, (hidden, pooled), torch.tensor([0.4]))

    base = velocity()
    tiny_generator.adapter.use(adapter)
    adapted = velocity()
    with without_adapter(tiny_generator.transformer):
        assert torch.equal(velocity(), base)
    assert torch.equal(velocity(), adapted)
    assert not torch.equal(adapted, base)


def without_key(state: dict[str, Tensor]) -> None:
    del state[f"{LAYER}.lora_B.weight"]


def without_layer(state: dict[str, Tensor]) -> None:
    del state[f"{LAYER}.lora_A.weight"], state[f"{LAYER}.lora_B.weight"]


def with_strange_key(state: dict[str, Tensor]) -> None:
    state["unet.down.lora_A.weight"] = torch.zeros(2, 2)


def with_strange_layer(state: dict[str, Tensor]) -> None:
    for half in "AB":
        state[f"transformer.transformer_blocks.7.attn.to_q.lora_{half}.weight"] = torch.zeros(2, 2)


def with_wrong_shape(state: dict[str, Tensor]) -> None:
    state[f"{LAYER}.lora_A.weight"] = torch.zeros(2, 5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_key, "only its lora_A half"),
        (without_layer, "missing weights of 1 layers"),
        (with_strange_key, "unexpected key 'unet"),
        (with_strange_layer, r"no such layer"),
        (with_wrong_shape, "has shapes"),
    ],
)
def test_a_damaged_adapter_is_refused_and_the_base_stays(
    tiny_generator: PocketGenerator, adapter: Path, tmp_path: Path, damage: object, message: str
) -> None:
    base = generate(tiny_generator)
    with safe_open(adapter / WEIGHTS_NAME, framework="pt") as handle:
        metadata = handle.metadata()
    state = load_file(adapter / WEIGHTS_NAME)
    assert callable(damage)
    damage(state)
    save_file(state, tmp_path / WEIGHTS_NAME, metadata=metadata)
    with pytest.raises(BackendError, match=message):
        generate(tiny_generator, tmp_path)
    assert np.array_equal(generate(tiny_generator), base)


def test_files_that_differ_in_the_order_of_their_header_alone_become_equal(tmp_path: Path) -> None:
    weights = torch.arange(6.0).reshape(2, 3).numpy().tobytes()
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, len(weights)]}
    for name, keys in (("a", ["format", "more"]), ("b", ["more", "format"])):
        header = json.dumps({"w": entry, "__metadata__": dict.fromkeys(keys, "pt")}).encode()
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header + weights)
        sort_header(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_file(tmp_path / "a")["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_what_is_no_safetensors_file_is_refused(tiny_generator: PocketGenerator, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no LoRA adapter"):
        generate(tiny_generator, tmp_path)
    (tmp_path / "lora.bin").write_bytes(b"pickle")
    with pytest.raises(BackendError, match="no LoRA adapter"):
        generate(tiny_generator, tmp_path / "lora.bin")
    (tmp_path / WEIGHTS_NAME).write_bytes(b"not one")
    with pytest.raises(BackendError, match="not a safetensors file"):
        generate(tiny_generator, tmp_path)
