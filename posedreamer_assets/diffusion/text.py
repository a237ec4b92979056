"""Captions to embeddings: a phrase-level tokenizer and a tiny T5 encoder, both in transformers' own classes.

A token is a phrase of the caption grammar ("blue trousers", "a red", "short black hair") or else a word. FLUX's text tokens
have no positions, so with single words the encoder would first have to learn which garment a colour belongs to.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from posedreamer_assets.diffusion.networks import PocketSizes

PAD, UNKNOWN, END = "<pad>", "<unk>", "</s>"
_WORD = r"[\w-]+"  # a hyphenated word is one token, any other punctuation mark is one too
TOKEN = rf"(?:in|on) a {_WORD}|a {_WORD}|{_WORD} {_WORD} hair|{_WORD} (?:trousers|shorts|shoes|skin)|{_WORD}|[^\w\s-]"


def build_tokenizer(captions: Iterable[str], max_tokens: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is every phrase and word of the captions, lower case; a caption ends with `</s>`."""
    words = sorted({word for caption in set(captions) for word in re.findall(TOKEN, caption.lower())})
    vocabulary = {token: i for i, token in enumerate([PAD, UNKNOWN, END, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        model_max_length=max_tokens,
        padding_side="right",
        truncation_side="right",
    )


def build_text_encoder(vocabulary_size: int, sizes: PocketSizes) -> T5EncoderModel:
    """An untrained T5 encoder."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary_size,
            d_model=sizes.text_dim,
            d_kv=32,
            d_ff=2 * sizes.text_dim,
            num_layers=sizes.text_layers,
            num_heads=max(1, sizes.text_dim // 32),
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=2,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


class CaptionEncoder(nn.Module):
    """Captions to the two inputs of a FLUX transformer: token embeddings (zero where padded) and their masked mean."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, encoder: T5EncoderModel) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both int64 (n, max_tokens), always padded to the full length."""
        batch = self.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"]

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Float[Tensor, "n tokens d"], Float[Tensor, "n d"]]:
        """Embeddings of tokenised captions and the pooled embedding."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.to(hidden.dtype)[..., None]
        hidden = hidden * weight
        return hidden, hidden.sum(1) / weight.sum(1)

    def encode(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n tokens d"], Float[Tensor, "n d"]]:
        """Tokenise and embed."""
        ids, mask = self.tokenize(captions)
        return self(ids, mask)

    def save(self, folder: Path) -> None:
        """Write `tokenizer/` and `text_encoder/` in transformers' format."""
        self.tokenizer.save_pretrained(str(folder / "tokenizer"))
        self.encoder.save_pretrained(str(folder / "text_encoder"))

    @classmethod
    def load(cls, folder: Path) -> "CaptionEncoder":
        """Read what `save` wrote, in evaluation mode."""
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder / "tokenizer"))
        encoder = T5EncoderModel.from_pretrained(str(folder / "text_encoder"), dtype=torch.float32)
        return cls(tokenizer, encoder).eval()
