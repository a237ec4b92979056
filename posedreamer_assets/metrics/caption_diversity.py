"""How varied captions are: distinct n-grams (Li et al. 2016, section 5) and the entropy of their words."""

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[\w'-]+")


def words_of(caption: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return _WORD.findall(caption.lower())


def distinct(captions: Sequence[str], n: int) -> float:
    """Number of different n-grams over the number of all, 0..1; n-grams do not reach over the end of a caption.

    It falls as captions grow in number: compare equal counts alone. NaN where no caption has n words.
    """
    found = Counter(gram for caption in captions for gram in _grams(words_of(caption), n))
    return len(found) / found.total() if found else math.nan


def word_entropy_bits(captions: Sequence[str]) -> float:
    """Shannon entropy of the distribution of words over all captions, bits; NaN where there are none."""
    counts = Counter(word for caption in captions for word in words_of(caption))
    total = counts.total()
    return -sum(c / total * math.log2(c / total) for c in counts.values()) if total else math.nan


def diversity(captions: Sequence[str]) -> dict[str, float]:
    """Figures of a set of captions: `distinct_1` to `distinct_3`, `word_entropy_bits`, and the share of unlike captions."""
    shares = {f"caption_distinct_{n}": round(distinct(captions, n), 4) for n in (1, 2, 3)}
    unlike = round(len(set(captions)) / len(captions), 4) if captions else math.nan
    return {
        **shares,
        "caption_word_entropy_bits": round(word_entropy_bits(captions), 3),
        "captions_unlike_share": unlike,
    }


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))
