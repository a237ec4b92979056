"""Captions to embeddings."""

from pathlib import Path

import torch

from posedreamer_assets.diffusion.text import CaptionEncoder, build_text_encoder, build_tokenizer
from posedreamer_assets_tests.diffusion.conftest import CAPTIONS, SIZES


def make_encoder() -> CaptionEncoder:
    torch.manual_seed(0)
    tokenizer = build_tokenizer([*CAPTIONS, "a striped t-shirt, plain"], SIZES.max_tokens)
    return CaptionEncoder(tokenizer, build_text_encoder(len(tokenizer), SIZES)).eval()


def test_phrases_and_words_are_tokens_and_case_does_not_count() -> None:
    tokenizer = make_encoder().tokenizer
    ids = tokenizer("A Striped T-shirt, plain").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["a striped", "t-shirt", ",", "plain", "</s>"]


def test_a_colour_and_its_garment_are_one_token() -> None:
    caption = "short black hair throwing a ball wearing a red plain shirt blue shorts and white shoes in a gym"
    tokenizer = build_tokenizer([caption], 32)
    expected = "short black hair|throwing|a ball|wearing|a red|plain|shirt|blue shorts|and|white shoes|in a gym|</s>"
    assert tokenizer.convert_ids_to_tokens(tokenizer(caption).input_ids) == expected.split("|")


def test_a_strange_word_is_unknown_and_the_empty_caption_is_its_end() -> None:
    tokenizer = make_encoder().tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("plain quokka").input_ids) == ["plain", "<unk>", "</s>"]
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]


@torch.no_grad()
def test_padding_is_zero_and_outside_the_pooled_mean() -> None:
    encoder = make_encoder()
    hidden, pooled = encoder.encode(["a red disc"])
    assert hidden.shape == (1, SIZES.max_tokens, SIZES.text_dim)
    assert not hidden[0, 3:].any()
    assert torch.allclose(pooled[0], hidden[0, :3].mean(0), atol=1e-6)


@torch.no_grad()
def test_words_behind_the_mask_have_no_influence() -> None:
    encoder = make_encoder()
    ids, mask = encoder.tokenize(["a red disc"])
    other = torch.where(mask == 0, 5, ids)
    for left, right in zip(encoder(ids, mask), encoder(other, mask), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


@torch.no_grad()
def test_a_saved_encoder_loads_equal(tmp_path: Path) -> None:
    encoder = make_encoder()
    encoder.save(tmp_path)
    loaded = CaptionEncoder.load(tmp_path)
    for left, right in zip(encoder.encode(CAPTIONS), loaded.encode(CAPTIONS), strict=True):
        assert torch.equal(left, right)
