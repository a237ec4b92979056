"""Latents of shards, encoded once, and random batches of them for the generator's training."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from posedreamer_assets.diffusion.halves import body_window, half_windows
from posedreamer_assets.diffusion.networks import decode, encode_mode, pack_latents, unpack_latents
from posedreamer_assets.diffusion.pixels import batches, to_pixels, to_signed
from posedreamer_assets.pocket.shards import ShardError, read_painted, shard_paths
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.precision import autocast


@torch.no_grad()
def encode_images(
    vae: AutoencoderTiny, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = 16
) -> Float[Tensor, "n tokens tc"]:
    """Packed, normalised latents as the transformer sees them."""
    scale, shift = vae.config["scaling_factor"], vae.config["shift_factor"]
    parts = []
    for rows in batches(len(images), batch_size):
        latents = encode_mode(vae, to_signed(images[rows]).to(vae.dtype))
        parts.append(pack_latents((latents - shift) * scale))
    return torch.cat(parts)


@torch.no_grad()
def decode_latents(
    vae: AutoencoderTiny, tokens: Float[Tensor, "n tokens tc"], height: int, width: int
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pixels of packed, normalised latents; height and width are the image's."""
    latents = unpack_latents(tokens, height // 4, width // 4)
    return to_pixels(decode(vae, latents / vae.config["scaling_factor"] + vae.config["shift_factor"]).float())


@dataclass
class LatentShard:
    """Encoded rows of one shard."""

    name: str
    images: np.ndarray  # float16 (n, tokens, c), memory-mapped
    controls: np.ndarray  # float16 (n, tokens, c), memory-mapped
    captions: list[str]
    body_share: np.ndarray  # float32 (n, tokens)
    held_out: np.ndarray  # bool (n,)


class LatentCache:
    """Latents of every shard of a folder, encoded once and kept as float16 files."""

    def __init__(self, shards: Path, cache: Path, vae: AutoencoderTiny, dtype: str, log: JsonLog) -> None:
        self.shards, self.cache, self.vae, self.dtype, self.log = shards, cache, vae, dtype, log
        self.parts: dict[str, LatentShard] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def refresh(self) -> bool:
        """Encode shards that are not known yet; a file that is still being written waits for the next call."""
        before = len(self.parts)
        for path in shard_paths(self.shards):
            if path.stem not in self.parts:
                self._add(path)
        return len(self.parts) > before

    def _add(self, path: Path) -> None:
        start = time.monotonic()
        try:
            shard = read_painted(path)
        except ShardError as error:
            self.log.write(event="shard_unreadable", shard=path.name, error=str(error))
            return
        images = self._encoded(f"{path.stem}.images.npy", shard.images)
        controls = self._encoded(f"{path.stem}.controls.npy", shard.controls)
        share = shard.body_share.reshape(len(shard), -1)
        captions = [str(caption) for caption in shard.captions]
        self.parts[path.stem] = LatentShard(path.stem, images, controls, captions, share, shard.held_out)
        self.log.write(event="shard", shard=path.stem, rows=len(shard), seconds=time.monotonic() - start)

    def _encoded(self, name: str, images: np.ndarray) -> np.ndarray:
        target = self.cache / name
        if not target.exists():
            part = target.with_suffix(".part.npy")
            with autocast(self.dtype):
                tokens = encode_images(self.vae, images)
            np.save(part, tokens.half().numpy())
            part.replace(target)
        return np.load(target, mmap_mode="r")


class LatentRows(NamedTuple):
    """A batch: images and controls (n, tokens, c), captions, share of each token's pixels that show the body."""

    images: Float[Tensor, "n tokens c"]
    controls: Float[Tensor, "n tokens c"]
    captions: list[str]
    body_share: Float[Tensor, "n tokens"]


class TrainingRows:
    """Random batches of the cached rows, without the held-out ones."""

    def __init__(self, cache: LatentCache) -> None:
        self.cache = cache
        self.index: list[tuple[str, int]] = []
        self.update()

    def update(self) -> None:
        """Take up shards that the cache has learnt about."""
        parts = self.cache.parts
        self.index = [(name, int(row)) for name, part in parts.items() for row in np.flatnonzero(~part.held_out)]
        self.held = [(name, int(row)) for name, part in sorted(parts.items()) for row in np.flatnonzero(part.held_out)]
        share = np.stack([parts[name].body_share[row] for name, row in self.index])
        side = math.isqrt(share.shape[1])
        self.windows = half_windows(side, side)
        self.window = body_window(share, self.windows, np.random.default_rng(0))

    def draw(self, rng: np.random.Generator, size: int) -> LatentRows:
        """Random rows."""
        return self._gather([self.index[i] for i in rng.integers(len(self.index), size=size)])

    def draw_half(self, rng: np.random.Generator, size: int) -> tuple[Int[np.ndarray, " tokens"], LatentRows]:
        """A half image's token indices, and random rows whose bodies it shows, cut to these tokens."""
        window = self.window[rng.integers(len(self.window))]
        mates = np.flatnonzero(self.window == window)
        tokens = self.windows[window]
        rows = self._gather([self.index[i] for i in rng.choice(mates, size)])
        cut = (rows.images[:, tokens], rows.controls[:, tokens], rows.captions, rows.body_share[:, tokens])
        return tokens, LatentRows(*cut)

    def held_out(self, size: int) -> LatentRows:
        """Held-out rows of the first shards, in order of name: the same ones whatever shards follow."""
        return self._gather(self.held[:size])

    def _gather(self, picked: list[tuple[str, int]]) -> LatentRows:
        parts = [(self.cache.parts[name], row) for name, row in picked]
        return LatentRows(
            torch.from_numpy(np.stack([p.images[r] for p, r in parts])).float(),
            torch.from_numpy(np.stack([p.controls[r] for p, r in parts])).float(),
            [p.captions[r] for p, r in parts],
            torch.from_numpy(np.stack([p.body_share[r] for p, r in parts])),
        )
