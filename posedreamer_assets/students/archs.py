"""Sizes of the students that see images. Numbers alone: a study is read without torch."""

from dataclasses import dataclass

POSE_HEAD = "pose-head"
"""The student on cached features of a frozen network, see `networks.PoseHead`."""
RANDOM = "random"
"""The init of a backbone that has learnt nothing yet."""


@dataclass(frozen=True)
class Size:
    """A vision transformer as ViTPose has it, and the decoder that reads it.

    Attributes:
        width, depth, heads: of the backbone; its perceptrons are four times as wide.
        decoder_width, decoder_depth, decoder_heads: of the decoder; its perceptrons are as wide as itself.
        patch: side of a token, pixels.
    """

    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    patch: int = 16


ARCHS = {
    "vit-tiny": Size(32, 2, 2, 32, 2, 2),  # for tests: the same classes in seconds
    "vit-s": Size(384, 12, 12, 384, 6, 6),
    "vit-b": Size(768, 12, 12, 768, 6, 12),
    "vit-l": Size(1024, 24, 16, 1024, 6, 16),
}
