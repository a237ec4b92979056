"""Captions by a vision-language model, on small ones of the published architectures with random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from posedreamer_assets.config import CaptionsConfig
from posedreamer_assets.errors import CaptionError, ConfigError
from posedreamer_assets.render.described import IMAGE_TOKEN, Describer, described, square

SIDE = 56
SPECIAL = ("<unk>", "<pad>", "<end>", "<|vision_start|>", IMAGE_TOKEN, "<|vision_end|>")
WORDS = (
    "Describe",
    "a",
    "person",
    "in",
    "red",
    "green",
    "coat",
    "under",
    "trees",
    "rain",
    "sun",
    "old",
    "young",
    "street",
)
TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
}
VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
TOKENS = {"image_token_id": 4, "vision_start_token_id": 3, "vision_end_token_id": 5, "video_token_id": 0}
MODELS: dict[str, tuple[Any, Any, dict[str, Any], int]] = {
    "Qwen2.5-VL": (
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLConfig,
        VISION | {"fullatt_block_indexes": [1], "window_size": 56, "patch_size": 14},
        14,
    ),
    "Qwen3-VL": (
        Qwen3VLForConditionalGeneration,
        Qwen3VLConfig,
        VISION | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16, "patch_size": 14},
        14,
    ),
}


def save_model(folder: Path, kind: str) -> Path:
    """A checkpoint as the hub has them: weights, image processor, tokenizer with its chat template."""
    network, config, vision, patch = MODELS[kind]
    torch.manual_seed(0)
    model = network(config(text_config=TEXT | {"head_dim": 8}, vision_config=vision, **TOKENS))
    with torch.no_grad():  # random weights of the usual size say one word for ever
        for parameter in model.parameters():
            parameter.mul_(8)
    model.generation_config.suppress_tokens = list(range(len(SPECIAL)))  # random weights would say them, too
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate((*SPECIAL, *WORDS))}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_model(tmp_path_factory.mktemp("model"), kind) for kind in MODELS}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (40 + 5 * i, 60, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def config(model: Path | str, photos: Path, **changes: Any) -> CaptionsConfig:
    asked = CaptionsConfig("vlm", path=str(photos), model=str(model), prompt="Describe a person", max_tokens=6)
    return replace(asked, photo_side=SIDE, **changes)


@pytest.mark.parametrize("kind", MODELS)
def test_words_are_the_likeliest_ones_one_after_the_other(kind: str, models: dict[str, Path], photos: Path) -> None:
    """The network itself, asked for the next word of each photograph alone, is the oracle."""
    cfg = config(models[kind], photos, batch_size=2)
    shown = np.stack([square(photos / f"{i}.png", SIDE) for i in range(3)])
    network: Any = AutoModelForImageTextToText.from_pretrained(models[kind]).eval()
    images: Any = Qwen2VLImageProcessorPil.from_pretrained(models[kind])
    expected = []
    for photo in shown:
        seen = images(images=[photo], return_tensors="pt")
        tokens = [3, *[4] * (SIDE // 28) ** 2, 5, *(len(SPECIAL) + WORDS.index(w) for w in cfg.prompt.split())]
        said: list[int] = []
        while len(said) < cfg.max_tokens:
            ids = torch.tensor([[*tokens, *said]])
            with torch.no_grad():
                logits = network(input_ids=ids, mm_token_type_ids=(ids == 4).int(), **seen).logits[0, -1]
            said.append(len(SPECIAL) + int(logits[len(SPECIAL) :].argmax()))
        expected.append(" ".join(WORDS[i - len(SPECIAL)] for i in said))
    found = Describer(cfg)(shown)
    assert found == expected
    assert len(set(found)) > 1, "photographs say something"


def test_a_caption_does_not_depend_on_its_neighbours(models: dict[str, Path], photos: Path) -> None:
    ids = [f"procedural-0000/{i:06d}" for i in range(12)]
    cfg = config(models["Qwen2.5-VL"], photos, batch_size=2)
    describer = Describer(cfg)
    whole = described(describer, cfg, ids, seed=3)
    assert [described(describer, cfg, [name], 3)[0] for name in ids] == whole
    assert described(describer, cfg, ids[::-1], 3) == whole[::-1]
    assert described(describer, cfg, ids, 4) != whole
    other = replace(cfg, batch_size=5)
    assert described(Describer(other), other, ids, 3) == whole


def test_a_photograph_is_looked_at_once_until_its_file_changes(tmp_path: Path, models: dict[str, Path]) -> None:
    class Counting(Describer):
        looked = 0

        def __call__(self, photos: np.ndarray) -> list[str]:
            self.looked += len(photos)
            return super().__call__(photos)

    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(file)
    describer = Counting(config(models["Qwen2.5-VL"], tmp_path))
    first = describer.of_files([file, file])
    assert describer.of_files([file]) == first[:1] == first[1:] and describer.looked == 1
    Image.fromarray(np.full((41, 40, 3), 255, np.uint8)).save(file)
    describer.of_files([file])
    assert describer.looked == 2


def test_photographs_are_shown_upright_and_whole(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255  # the left half is white
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # what is stored has to be turned clockwise
    turned.save(tmp_path / "a.jpg", exif=exif, quality=95)
    shown = square(tmp_path / "a.jpg", 40)
    assert shown.shape == (40, 40, 3)
    assert np.abs(shown[:8].astype(int) - 127).max() < 12, "grey above"
    assert shown[15:25, :18].mean() > 240 and shown[15:25, 22:].mean() < 15


def test_bad_photographs_models_and_settings_are_named(tmp_path: Path, models: dict[str, Path], photos: Path) -> None:
    cfg = config(models["Qwen3-VL"], tmp_path)
    describer = Describer(cfg)
    with pytest.raises(ConfigError, match=r"captions\.path: no images"):
        described(describer, cfg, ["a"], 0)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(CaptionError, match=r"bad\.jpg: cannot be read as an image"):
        described(describer, cfg, ["a"], 0)
    with pytest.raises(CaptionError, match="no such folder"):
        Describer(config(tmp_path / "nowhere", photos))
    with pytest.raises(CaptionError, match="not a model of the Qwen-VL kind"):
        Describer(config(tmp_path, photos))
    (models["Qwen3-VL"] / "model.safetensors").rename(tmp_path / "kept")
    (models["Qwen3-VL"] / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CaptionError, match="not a model of the Qwen-VL kind"):
        Describer(cfg)


class Silent(Describer):
    """A model that has nothing to say."""

    def __init__(self, cfg: CaptionsConfig) -> None:
        self._cfg, self._said_of = cfg, {}

    def __call__(self, photos: np.ndarray) -> list[str]:
        return [""] * len(photos)


def test_silence_is_an_error(photos: Path) -> None:
    cfg = config("none", photos)
    with pytest.raises(CaptionError, match=r"\.png: none says nothing of it"):
        described(Silent(cfg), cfg, ["a"], 0)
