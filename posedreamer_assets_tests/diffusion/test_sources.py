"""What a generator needs, without loading it: files on this computer, models of the hub, and errors that say what to do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.numpy import save_file

from posedreamer_assets.config import GeneratorConfig, load_profile
from posedreamer_assets.diffusion.sources import KNOWN, needs, require
from posedreamer_assets.errors import BackendError

FLUX = "black-forest-labs/FLUX.1-dev"
DEPTH = "black-forest-labs/FLUX.1-Depth-dev"
NAMED = GeneratorConfig(backend="flux", model_path=DEPTH)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return folder


def hub_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(HfApi, "auth_check", refuse)


def answered(kind: type[Exception]) -> Exception:
    return kind("no", response=MagicMock())  # type: ignore[call-arg]


class ConnectError(Exception):
    """As the hub's client raises it where there is no network."""


ConnectError.__module__ = "httpx2"


def test_gigabytes_of_a_folder_are_those_of_its_arrays(tmp_path: Path) -> None:
    for part, shape in (("transformer", (1000, 500)), ("vae", (10, 10, 3))):
        (tmp_path / "model" / part).mkdir(parents=True)
        save_file({"w": np.zeros(shape, np.float32)}, tmp_path / "model" / part / "model.safetensors")
    save_file({"w": np.zeros(7000, np.float32)}, tmp_path / "model" / "all-in-one.safetensors")  # a copy of the parts
    (need,) = needs(GeneratorConfig(backend="flux", model_path=str(tmp_path / "model"), dtype="bfloat16"))
    assert need.here
    assert need.gigabytes == {"transformer": 2 * 500_000 / 1e9, "vae": 2 * 300 / 1e9}
    (need,) = needs(GeneratorConfig(backend="flux", model_path=str(tmp_path / "model"), dtype="float32"))
    assert need.gigabytes["transformer"] == 4 * 500_000 / 1e9


def test_a_single_file_is_one_part(tmp_path: Path) -> None:
    save_file({"w": np.zeros((3, 4), np.float32)}, tmp_path / "lora.safetensors")
    (need,) = needs(GeneratorConfig(model_path=str(tmp_path / "lora.safetensors"), dtype="bfloat16"))
    assert need.gigabytes == {"lora": 24 / 1e9}


def test_of_two_precisions_one_counts(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.fp16.safetensors"):
        (tmp_path / "unet").mkdir(exist_ok=True)
        save_file({"w": np.zeros(100, np.float32)}, tmp_path / "unet" / name)
    (need,) = needs(GeneratorConfig(backend="sdxl", model_path=str(tmp_path), dtype="bfloat16"))
    assert need.gigabytes == {"unet": 200 / 1e9}


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(BackendError, match=r"bad\.safetensors"):
        needs(GeneratorConfig(model_path=str(tmp_path / "bad.safetensors")))
    with pytest.raises(BackendError, match="no such file or folder"):
        needs(GeneratorConfig(model_path=str(tmp_path / "absent")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackendError, match=r"no \*\.safetensors"):
        needs(GeneratorConfig(model_path=str(tmp_path / "empty")))


@pytest.mark.parametrize("name", ["flux", "sdxl", "zimage"])
def test_the_shipped_profiles_models_are_known_by_size_and_licence(name: str) -> None:
    for need in needs(load_profile(name).generator):
        assert not need.here
        assert need.gigabytes
        assert need.licence


def test_sizes_are_those_of_the_architecture() -> None:
    import torch
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        counted = sum(p.numel() for p in FluxTransformer2DModel(guidance_embeds=True).parameters())
    assert KNOWN[FLUX].parameters["transformer"] == pytest.approx(counted / 1e9, abs=0.01)


def test_sizes_of_z_image_are_those_of_the_architecture() -> None:
    import torch
    from diffusers import ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    qwen3_4b = Qwen3Config(
        vocab_size=151936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    )
    with torch.device("meta"):
        networks = {"transformer": ZImageTransformer2DModel(), "Qwen3": Qwen3Model(qwen3_4b)}
    known = KNOWN["Tongyi-MAI/Z-Image-Turbo"].parameters
    for part, network in networks.items():
        assert known[part] == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e9, abs=0.01)


def test_a_cached_model_is_here_and_the_hub_is_not_asked(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = empty_cache / "models--black-forest-labs--FLUX.1-Depth-dev"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    place = root / "snapshots" / ("0" * 40) / "transformer"
    place.mkdir(parents=True)
    save_file({"w": np.zeros(1, np.float32)}, place / "model.safetensors")
    hub_raises(monkeypatch, AssertionError("asked"))
    cfg = NAMED
    assert [need.here for need in needs(cfg)] == [True]
    require(cfg)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answered(GatedRepoError), "HF_TOKEN"),
        (answered(RepositoryNotFoundError), "none of that name"),
        (ConnectError("no route"), "cannot be reached"),
        (TimeoutError(), "cannot be reached"),
    ],
)
def test_what_the_hub_says_becomes_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    hub_raises(monkeypatch, error)
    with pytest.raises(BackendError, match=said) as found:
        require(NAMED)
    assert "\n" not in str(found.value)
    assert DEPTH in str(found.value)


def test_one_file_of_a_model_is_looked_for_and_asked_for(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "owner/nets/union.safetensors"
    cfg = GeneratorConfig(backend="zimage", model_path="owner/model", control_lora_path=name)
    asked: list[str] = []
    monkeypatch.setattr(HfApi, "auth_check", lambda _, model: asked.append(model))
    assert [need.here for need in needs(cfg)] == [False, False]
    require(cfg)
    assert asked == ["owner/model", "owner/nets"]
    root = empty_cache / "models--owner--nets"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    place = root / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    save_file({"w": np.zeros(1, np.float32)}, place / "union.safetensors")
    assert [need.here for need in needs(cfg)] == [False, True]


def test_a_mistake_of_this_program_is_not_blamed_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_raises(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        require(NAMED)


def test_without_a_network_by_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub_raises(monkeypatch, AssertionError("asked"))
    with pytest.raises(BackendError, match="HF_HUB_OFFLINE"):
        require(NAMED)


def test_a_model_that_may_be_downloaded_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HfApi, "auth_check", lambda *_: None)
    require(NAMED)


def test_a_revision_that_the_hub_does_not_have_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such(_: HfApi, model: str, revision: str) -> None:
        assert (model, revision) == (DEPTH, "v9")
        raise answered(RevisionNotFoundError)

    monkeypatch.setattr(HfApi, "auth_check", lambda *_: None)
    monkeypatch.setattr(HfApi, "model_info", no_such)
    with pytest.raises(BackendError, match="no revision 'v9' of it"):
        require(replace(NAMED, revision="v9"))


@pytest.mark.parametrize(
    ("backend", "model", "said"),
    [
        ("flux", None, "generator.model_path"),
        ("sdxl", None, "generator.model_path"),
        ("flux", FLUX, "alone sees no control image"),
        ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "alone sees no control image"),
    ],
)
def test_what_the_profile_does_not_name_is_asked_for_first(
    monkeypatch: pytest.MonkeyPatch, backend: str, model: str | None, said: str
) -> None:
    hub_raises(monkeypatch, AssertionError("asked"))
    with pytest.raises(BackendError, match=said):
        require(GeneratorConfig(backend=backend, model_path=model))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, posedreamer_assets.diffusion.sources; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
