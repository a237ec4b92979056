"""Backends of a transformer whose captions are embedded one at a time, by one text encoder."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from posedreamer_assets.config import GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.backend import PipelineGenerator


class EmbedsEachCaption(PipelineGenerator):
    """A generator whose captions are embedded one at a time, so that an embedding is the same whichever others there are."""

    text_parts = ("text_encoder",)

    def __init__(self, pipeline: Any, cfg: GeneratorConfig, image: ImageConfig, weights: str) -> None:
        super().__init__(pipeline, cfg, image, weights)
        self._embedded: dict[str, Tensor] = {}

    @property
    def network_name(self) -> str:
        return "transformer"

    @property
    @abstractmethod
    def away_from(self) -> str | None:
        """The caption that guidance moves away from; None without guidance."""

    @abstractmethod
    def _embed(self, caption: str) -> Tensor:
        """The embedding (tokens, d) of one caption."""

    def embed_ahead(self, captions: Sequence[str]) -> None:
        """Each caption once, and the one that guidance moves away from; kept in the CPU's memory."""
        guided = [] if self.away_from is None else [self.away_from]
        for caption in dict.fromkeys([*captions, *guided]):
            self._embedded[caption] = self._one(caption).cpu()

    def forget_embedded(self) -> None:
        self._embedded.clear()

    def embeddings(self, captions: Sequence[str]) -> list[Tensor]:
        """Embeddings (tokens, d) of captions, which may differ in their number of tokens."""
        return [
            self._embedded[caption].to(self.device) if caption in self._embedded else self._one(caption)
            for caption in captions
        ]

    def encode_away(self, count: int) -> list[Tensor] | None:
        """As many embeddings of the caption that guidance moves away from; None without guidance."""
        return None if self.away_from is None else self.embeddings([self.away_from] * count)

    @torch.no_grad()
    def _one(self, caption: str) -> Tensor:
        return self._embed(caption)
