"""The pocket generator: what an image depends on, and what loading refuses."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from posedreamer_assets import progress
from posedreamer_assets.config import ImageConfig
from posedreamer_assets.diffusion.backend import PipelineGenerator, resolve_dtype
from posedreamer_assets.diffusion.generator import load_generator
from posedreamer_assets.diffusion.pocket import PocketGenerator
from posedreamer_assets.errors import BackendError
from posedreamer_assets_tests.diffusion.conftest import IMAGE, draw_discs, tiny_config


def test_an_image_is_the_same_in_any_order_and_company(tiny_generator: PocketGenerator) -> None:
    _, controls, captions = draw_discs(5)
    seeds = [11, 12, 13, 14, 15]
    together = tiny_generator.generate(controls, captions, seeds)
    order = [3, 0, 4]
    some = tiny_generator.generate(controls[order], [captions[i] for i in order], [seeds[i] for i in order])
    alone = tiny_generator.generate(controls[2:3], captions[2:3], seeds[2:3])
    assert np.array_equal(together[order], some)
    assert np.array_equal(together[2:3], alone)


def test_a_control_image_is_encoded_once_whatever_is_painted_over_it(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates at several strengths, and draws with and without an adapter, share their poses' control images."""
    _, controls, captions = draw_discs(4)
    strengths = (1.0, 0.5, 0.0, 1.0)
    fresh = [
        PocketGenerator.load(tiny_config(tiny_folder), IMAGE).generate(
            controls, captions, [1, 2, 3, 4], control_strength=s
        )
        for s in strengths
    ]
    generator, encoded = PocketGenerator.load(tiny_config(tiny_folder), IMAGE), []
    plain = generator.encode_image
    monkeypatch.setattr(generator, "encode_image", lambda image: encoded.append(image) or plain(image))
    for strength, expected in zip(strengths, fresh, strict=True):
        found = generator.generate(controls, captions, [1, 2, 3, 4], control_strength=strength)
        assert np.array_equal(found, expected)
    assert len(encoded) == 5  # four and a black one


def test_cores_that_ask_for_one_control_image_wait_for_the_one_that_encodes_it(
    tiny_generator: PocketGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, controls, _ = draw_discs(1)
    encoded, plain, others = [], tiny_generator.encode_image, threading.Event()

    def encode(image: np.ndarray) -> torch.Tensor:
        encoded.append(image)
        assert others.wait(30)
        return plain(image)

    monkeypatch.setattr(tiny_generator, "encode_image", encode)
    with ThreadPoolExecutor(3) as cores:
        waiting = [cores.submit(tiny_generator.encode_controls, controls) for _ in range(3)]
        time.sleep(0.2)
        others.set()
        first, *more = (future.result() for future in waiting)
    assert len(encoded) == 1 and all(torch.equal(first, one) for one in more)


def test_a_control_image_that_could_not_be_encoded_is_tried_again(
    tiny_generator: PocketGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, controls, _ = draw_discs(1)
    plain = tiny_generator.encode_image

    def fail(image: np.ndarray) -> torch.Tensor:
        raise RuntimeError("no memory")

    monkeypatch.setattr(tiny_generator, "encode_image", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        tiny_generator.encode_controls(controls)
    monkeypatch.setattr(tiny_generator, "encode_image", plain)
    assert tiny_generator.encode_controls(controls).isfinite().all()


def test_no_more_control_images_are_remembered_than_there_is_room_for(
    tiny_generator: PocketGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posedreamer_assets.diffusion.flux.REMEMBERED_CONTROLS", 2)
    _, controls, _ = draw_discs(5)
    once, again = tiny_generator.encode_controls(controls), tiny_generator.encode_controls(controls)
    assert torch.equal(once, again) and len(tiny_generator._controls) == 2


def test_filling_a_block_up_gives_rows_of_the_asked_number(
    tiny_generator: PocketGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def record(
        _: object, controls: np.ndarray, captions: list[str], noise: list[torch.Generator], strength: float
    ) -> np.ndarray:
        assert strength == 1.0
        assert len(controls) == len(captions) == len(noise)
        sizes.append(len(controls))
        return controls

    monkeypatch.setattr(tiny_generator, "run_block", record)
    monkeypatch.setattr(PipelineGenerator, "block_size", 4)
    _, controls, captions = draw_discs(6)
    assert np.array_equal(tiny_generator.generate(controls, captions, list(range(6))), controls)
    assert sizes == [4, 4]


def test_rows_go_one_by_one_on_a_cpu_and_in_blocks_on_a_gpu(tiny_generator: PocketGenerator) -> None:
    assert tiny_generator.block_size == 1
    tiny_generator.device = torch.device("cuda")
    assert tiny_generator.block_size == tiny_generator.cfg.batch_size != 1


def test_a_weaker_control_lies_between_the_image_and_that_of_a_black_control(tiny_generator: PocketGenerator) -> None:
    _, controls, captions = draw_discs(2)
    seeds = [1, 2]
    black = tiny_generator.generate(np.zeros_like(controls), captions, seeds)
    assert np.array_equal(tiny_generator.generate(controls, captions, seeds, control_strength=0.0), black)
    full = tiny_generator.generate(controls, captions, seeds)
    assert np.array_equal(tiny_generator.generate(controls, captions, seeds, control_strength=1.0), full)
    weak = tiny_generator.generate(controls, captions, seeds, control_strength=0.5)
    assert not np.array_equal(weak, full)
    assert not np.array_equal(weak, black)
    latents = tiny_generator.encode_controls(controls, 0.25)
    ends = tiny_generator.encode_controls(np.zeros_like(controls)), tiny_generator.encode_controls(controls)
    torch.testing.assert_close(latents, 0.75 * ends[0] + 0.25 * ends[1])


@pytest.fixture
def three_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_cores")
def test_cores_paint_rows_side_by_side_and_leave_the_same_bits(
    tiny_generator: PocketGenerator,
) -> None:
    _, controls, captions = draw_discs(7)
    seeds = list(range(7))
    side_by_side = tiny_generator.generate(controls, captions, seeds)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert np.array_equal(side_by_side, tiny_generator.generate(controls, captions, seeds))


@pytest.mark.usefixtures("three_cores")
def test_a_row_that_fails_among_several_cores_fails_the_batch(
    tiny_generator: PocketGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> np.ndarray:
        raise ValueError("no such row")

    monkeypatch.setattr(tiny_generator, "run_block", fail)
    _, controls, captions = draw_discs(4)
    with pytest.raises(ValueError, match="no such row"):
        tiny_generator.generate(controls, captions, [1, 2, 3, 4])
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("what", ["seed", "caption", "control"])
def test_seed_caption_and_control_each_change_the_image(tiny_generator: PocketGenerator, what: str) -> None:
    _, controls, captions = draw_discs(2)
    same = {"controls": controls[:1], "captions": captions[:1], "seeds": [1]}
    other = {"seed": {"seeds": [2]}, "caption": {"captions": captions[1:]}, "control": {"controls": controls[1:]}}
    assert not np.array_equal(tiny_generator.generate(**same), tiny_generator.generate(**{**same, **other[what]}))


def test_no_rows_make_no_images(tiny_generator: PocketGenerator) -> None:
    assert tiny_generator.generate(np.zeros((0, 32, 32, 3), np.uint8), [], []).shape == (0, 32, 32, 3)


def test_progress_counts_images(tiny_generator: PocketGenerator) -> None:
    class Count:
        total = 0

        def advance(self, n: int, note: str = "") -> None:
            self.total += n

    _, controls, captions = draw_discs(3)
    count = Count()
    with progress.watching(count):
        tiny_generator.generate(controls, captions, [1, 2, 3])
    assert count.total == 3


def test_inputs_that_do_not_match_are_refused(tiny_generator: PocketGenerator) -> None:
    _, controls, captions = draw_discs(2)
    with pytest.raises(BackendError, match="2 control images, 1 captions and 2 seeds"):
        tiny_generator.generate(controls, captions[:1], [1, 2])
    with pytest.raises(BackendError, match="expected uint8"):
        tiny_generator.generate(np.zeros((2, 16, 16, 3), np.uint8), captions, [1, 2])


def test_the_digest_is_of_the_weights_alone(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    (copy / "training").mkdir()
    (copy / "training" / "log.txt").write_text("not part of the generator")
    digest = PocketGenerator.load(tiny_config(tiny_folder), IMAGE).digest
    assert PocketGenerator.load(tiny_config(copy, steps=7), IMAGE).digest == digest
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state[min(state)] += 1e-3
    save_file(state, weights, metadata={"format": "pt"})
    assert PocketGenerator.load(tiny_config(copy), IMAGE).digest != digest


def test_a_missing_part_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "vae")
    with pytest.raises(BackendError, match="missing vae"):
        load_generator(tiny_config(tmp_path / "copy"), IMAGE)


def test_a_missing_weight_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "copy")
    weights = tmp_path / "copy" / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["proj_out.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(BackendError, match=r"proj_out\.weight"):
        load_generator(tiny_config(tmp_path / "copy"), IMAGE)


def test_weights_of_another_size_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "copy")
    config = tmp_path / "copy" / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_attention_heads": 4}))
    with pytest.raises(BackendError, match="transformer"):
        load_generator(tiny_config(tmp_path / "copy"), IMAGE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "dalle"}, "expected one of pocket, flux, sdxl"),
        ({"guidance": 3.5}, "has no guidance"),
        ({"dtype": "int8"}, "generator.dtype"),
        ({"device": "cuda:99"}, "cannot be used"),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny_folder: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        load_generator(tiny_config(tiny_folder, **changes), IMAGE)


def test_a_size_that_does_not_pack_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(BackendError, match="multiples of 8"):
        load_generator(tiny_config(tiny_folder), ImageConfig(width=30, height=32))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_half_precision_is_used_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_dtype("auto", torch.device("cpu")) == expected
    assert resolve_dtype("auto", torch.device("meta")) == torch.bfloat16
    assert resolve_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(BackendError, match="auto, float32"):
        resolve_dtype("double", torch.device("cpu"))
