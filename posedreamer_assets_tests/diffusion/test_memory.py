"""Plans of a generator's memory, against counts on architectures without weights; what fits is taken, what does not refused."""

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from posedreamer_assets.config import GeneratorConfig, ImageConfig, load_profile
from posedreamer_assets.diffusion.memory import (
    DECODER_BYTES,
    RUNTIME_GB,
    TRANSFORMER_WIDTHS,
    by_precision,
    chosen_precision,
    fitting,
    on_cards,
    parks_text,
    plan,
    possible,
    require_room,
)
from posedreamer_assets.errors import BackendError

GIB = 2**30 / 1e9
ZIMAGE = load_profile("zimage")


@pytest.fixture(autouse=True)
def no_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))


class Alive(TorchDispatchMode):
    """Counts bytes of tensors that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak, self.known = 0, 0, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(key)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.freed, key, storage.nbytes())
        return out

    def freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def test_the_decoder_needs_what_the_formula_says_and_not_half_of_it() -> None:
    with torch.device("meta"), torch.no_grad():
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
            block_out_channels=(128, 256, 512, 512),  # type: ignore[arg-type]
            layers_per_block=2,
            latent_channels=16,
        ).bfloat16()
        latents = torch.empty(1, 16, 64, 64, dtype=torch.bfloat16)
        with Alive() as alive:
            vae.decode(latents)  # type: ignore[arg-type]
    assert DECODER_BYTES / 2 < alive.peak / 512**2 <= DECODER_BYTES


def test_a_plan_is_the_sum_of_its_parts_and_of_what_a_block_needs() -> None:
    cfg = replace(ZIMAGE.generator, batch_size=8)
    resident = plan(cfg, ZIMAGE.image)
    parked = plan(replace(cfg, memory="park_text"), ZIMAGE.image)
    assert resident and parked
    weights = 2 * (6.15 + 4.02 + 0.08 + 3.36)
    block = 8 * (64 * 64 + 512) * 3840 * 2 * TRANSFORMER_WIDTHS / 1e9
    assert resident.resident_gb == pytest.approx(weights)
    assert resident.peak_gb == pytest.approx(weights + block + RUNTIME_GB)
    assert parked.peak_gb == pytest.approx(resident.peak_gb - 2 * 4.02)
    small = plan(replace(cfg, batch_size=1), ImageConfig(width=1024, height=1024))
    assert small and small.activations_gb == pytest.approx(1024 * 1024 * DECODER_BYTES / 1e9)


def test_captions_alone_can_be_the_peak() -> None:
    planned = plan(replace(ZIMAGE.generator, memory="park_text", batch_size=1), ZIMAGE.image)
    assert planned
    assert replace(planned, parts={"transformer": 1.0, "Qwen3": 8.0}).peak_gb == 8.0 + RUNTIME_GB


def test_zimage_fits_a_card_of_24_gib_without_its_text_encoder_and_one_of_48_with_it() -> None:
    cfg, image = ZIMAGE.generator, ZIMAGE.image
    small, middle = (fitting(cfg, image, card * GIB) for card in (24, 48))
    assert small and middle
    assert (small.memory, middle.memory, middle.batch) == ("park_text", "resident", cfg.batch_size)
    assert fitting(cfg, image, 12 * GIB) is None
    said = on_cards(cfg, image)
    assert [part.split(":")[0] for part in said.split("; ")] == ["24 GiB", "48 GiB", "80 GiB"]
    sdxl = load_profile("sdxl", {"image.width": 8192, "image.height": 8192})
    assert on_cards(sdxl.generator, sdxl.image).startswith("24 GiB: does not fit; 48 GiB: does not fit; 80 GiB: ")
    assert parks_text(cfg, image, 24 * GIB) and not parks_text(cfg, image, 48 * GIB)
    assert not parks_text(cfg, image, None)
    assert parks_text(replace(cfg, memory="park_text"), image, None)
    assert not parks_text(replace(cfg, memory="resident"), image, 24 * GIB)


def test_a_generator_without_room_is_refused_with_what_would_fit() -> None:
    cfg, image = replace(ZIMAGE.generator, memory="resident"), ZIMAGE.image
    with pytest.raises(BackendError, match=r"the GPU has 25\.8 GB: --set generator\.memory=park_text") as found:
        require_room(cfg, image, 24 * GIB)
    assert "\n" not in str(found.value)
    require_room(replace(cfg, memory="auto"), image, 24 * GIB)
    require_room(cfg, image, 48 * GIB)
    require_room(cfg, image, None)
    require_room(replace(cfg, device="cpu"), image, 8.0)
    with pytest.raises(BackendError, match="no setting of memory, batch_size or precision fits"):
        require_room(cfg, image, 6 * GIB)
    flux = load_profile("flux")
    with pytest.raises(BackendError, match=r"batch_size=2 needs .* or --set generator\.precision=fp8 .* other images"):
        require_room(flux.generator, flux.image, 24 * GIB)
    with pytest.raises(BackendError, match=r"the GPU has 17\.2 GB: --set generator\.precision=int8"):
        require_room(flux.generator, flux.image, 16 * GIB)
    require_room(flux.generator, flux.image, 48 * GIB)
    crowded = replace(cfg, memory="auto", batch_size=64)
    with pytest.raises(BackendError, match=r"batch_size=(1|2|4|8|16|32) needs"):
        require_room(crowded, image, 48 * GIB)


def test_models_of_unknown_size_have_no_plan_and_are_let_pass() -> None:
    cfg = GeneratorConfig(backend="zimage", model_path="owner/model", control_lora_path="owner/net")
    assert plan(cfg, ImageConfig()) is None
    assert possible(cfg, ImageConfig()) == []
    require_room(cfg, ImageConfig(), 1.0)
    assert not parks_text(cfg, ImageConfig(), 1.0)


def test_precision_auto_is_the_largest_that_fits_with_the_configured_block() -> None:
    flux = load_profile("flux", {"generator.precision": "auto", "alignment.method": "none"})
    cfg, image = flux.generator, flux.image
    chosen = {card: chosen_precision(cfg, image, card * GIB) for card in (8, 12, 16, 24, 48)}
    assert chosen == {8: "nf4", 12: "nf4", 16: "int8", 24: "fp8", 48: "bf16"}
    assert chosen_precision(cfg, image, None) == "bf16"
    assert chosen_precision(replace(cfg, precision="int8"), image, 48 * GIB) == "int8"
    assert chosen_precision(replace(cfg, model_path="owner/model"), image, 1.0) == "bf16"
    card = fitting(cfg, image, 24 * GIB)
    assert card and (card.precision, card.batch) == ("fp8", cfg.batch_size)
    require_room(cfg, image, 24 * GIB)
    with pytest.raises(BackendError, match=r"precision=nf4; the GPU has 8\.6 GB: "):
        require_room(cfg, image, 8 * GIB)


def test_the_plan_of_a_precision_is_what_is_lowered_and_what_is_kept() -> None:
    flux = load_profile("flux")
    planned = {
        p: plan(replace(flux.generator, precision=p, memory="park_text"), flux.image) for p in ("bf16", "fp8", "nf4")
    }
    assert all(planned.values())
    whole, fp8, nf4 = (one for one in planned.values() if one)
    assert whole.resident_gb == pytest.approx(2 * (11.90 + 0.08))
    assert fp8.resident_gb == pytest.approx(8.61 + 2 * 3.293 + 2 * 0.08)
    assert fp8.peak_gb == pytest.approx(fp8.resident_gb + whole.activations_gb + RUNTIME_GB)
    assert nf4.resident_gb == pytest.approx(6.66 + 2 * 0.067 + 2 * 0.08)
    assert nf4.peak_gb == pytest.approx(2 * (4.76 + 0.12) + RUNTIME_GB), "captions are embedded, all else is aside"
    said = by_precision(flux.generator, flux.image)
    assert [part.split()[0] for part in said.split("; ")] == ["bf16", "fp8", "int8", "nf4"]
    assert f"{fp8.peak_gb:.1f} GB (park_text)" in said
