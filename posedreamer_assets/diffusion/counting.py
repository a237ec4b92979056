"""What training keeps of a forward pass, counted on networks without weights: torch's meta device computes shapes alone."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import FluxControlPipeline, FluxTransformer2DModel
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from posedreamer_assets.config import AlignmentConfig, GeneratorConfig, ImageConfig
from posedreamer_assets.diffusion.adapters import add_adapter
from posedreamer_assets.diffusion.flux import MAX_CAPTION_TOKENS, FluxGenerator
from posedreamer_assets.diffusion.halves import half_windows

META = torch.device("meta")
VAE_SCALE = 8  # pixels of a latent's side
DEFAULTS: dict[str, Any] = {
    name: parameter.default for name, parameter in inspect.signature(FluxTransformer2DModel).parameters.items()
}
FEW_BLOCKS = 4
BLOCKS = ("num_layers", "num_single_layers")


class BareFlux(FluxGenerator):
    """A FLUX transformer with the weights that it begins with, and nothing that encodes; on the meta device it has shapes alone.

    Args:
        config: arguments of `FluxTransformer2DModel`; `in_channels` counts those of the control image.
        cfg: of the generator; its device and guidance are used.
        image: size of the images.
        dtype: of the weights.
    """

    def __init__(self, config: Mapping[str, Any], cfg: GeneratorConfig, image: ImageConfig, dtype: torch.dtype) -> None:
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(cfg.device):
                network: Any = FluxTransformer2DModel.from_config(dict(config))
        finally:
            torch.set_default_dtype(default)
        names = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
        absent: Any = dict.fromkeys(names)
        pipeline = FluxControlPipeline(transformer=network.eval().requires_grad_(False), **absent)
        super().__init__(pipeline, cfg, image, "bare")


class LeanAttention(torch.autograd.Function):
    """Attention that keeps inputs and output, as fused kernels do; on the meta device nothing is computed."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        return grad, grad, grad


class Lean(TorchFunctionMode):
    """Within this context attention is `LeanAttention`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            given = dict(kwargs or {})
            query, key, value = (*args, *(given[n] for n in ("query", "key", "value")[len(args) :]))[:3]
            return LeanAttention.apply(query, key, value)
        return func(*args, **(kwargs or {}))


class MixedPrecision(TorchFunctionMode):
    """Within, linear layers compute in `dtype` with copies of their weights, each made once, as torch.autocast has it; the meta
    device has none."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self._copies = dtype, dict[int, tuple[Tensor, Tensor]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            given, weight, *rest = (*args, *(kwargs or {}).values())
            return func(
                given.to(self.dtype), self.copy(weight), *(one if one is None else self.copy(one) for one in rest)
            )
        return func(*args, **(kwargs or {}))

    def copy(self, weight: Tensor) -> Tensor:
        """A weight's copy."""
        if id(weight) not in self._copies:
            self._copies[id(weight)] = weight, weight.to(self.dtype)
        return self._copies[id(weight)][1]


class Kept:
    """Storages that autograd keeps, each once; alive, so that no other takes its place."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._kept: dict[int, tuple[int, Tensor]] = {}

    def add(self, tensor: Tensor) -> Tensor:
        """Keep its storage but if it is a weight's; returns it."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights:
            self._kept[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size for size, _ in self._kept.values())


def saved_bytes(forward: Callable[[], object], weights: Iterable[Tensor], recomputed: Sequence[Any] = ()) -> int:
    """Bytes that autograd keeps of a forward pass, each storage once and those of `weights` left out.

    Args:
        forward: the pass.
        weights: that are there anyhow.
        recomputed: diffusers' networks whose blocks are computed again on the way back: of these their inputs are kept, and what
            is kept within the largest one.
    """
    weights = list(weights)
    kept, largest = Kept(weights), 0

    def block(compute: Callable[..., object], *inputs: object) -> object:
        nonlocal largest
        within = Kept(weights)
        with torch.autograd.graph.saved_tensors_hooks(within.add, lambda tensor: tensor):
            result = compute(*inputs)
        largest = max(largest, within.size)
        if any(isinstance(one, Tensor) and one.requires_grad for one in tree_leaves(result)):  # else nobody comes back
            for one in inputs:
                if isinstance(one, Tensor):
                    kept.add(one)
        return result

    for network in recomputed:
        network.enable_gradient_checkpointing(block)
    with torch.autograd.graph.saved_tensors_hooks(kept.add, lambda tensor: tensor):
        result = forward()
    for network in recomputed:
        network.disable_gradient_checkpointing()
    del result
    return kept.size + largest


class Counted(NamedTuple):
    """Of a Flow-DPO step: weights of the network and of the adapter, and bytes that autograd keeps of a part's forward pass."""

    network: int
    adapter: int
    kept: int


def count_flow_dpo(
    config: Mapping[str, Any], image: ImageConfig, cfg: AlignmentConfig, pairs: int, dtype: torch.dtype
) -> Counted:
    """Count a step in which `pairs` go through a FLUX transformer together, winners and losers.

    Blocks of a kind keep the same: beyond a few they are counted by what one more adds. With `cfg.gradient_checkpointing` the
    inputs of all blocks are kept, and what is kept within the largest one while it is computed again.

    Args:
        config: as for `BareFlux`.
        image: size of the images.
        cfg: rank, half or whole images, checkpointing.
        pairs: that go through together.
        dtype: of weights and activations.
    """
    config = DEFAULTS | dict(config)
    whole = _of_all_blocks(config, image, cfg, pairs, dtype)
    if not cfg.gradient_checkpointing:
        return whole
    ones = [{**config, **dict.fromkeys(BLOCKS, 0), kind: 1} for kind in BLOCKS if config[kind]]
    largest = max(_count(one, image, cfg, pairs, dtype).kept for one in ones)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    tokens = len(_shown(image, cfg)) + MAX_CAPTION_TOKENS
    inputs = sum(config[kind] for kind in BLOCKS) * 2 * pairs * tokens * width * dtype.itemsize
    return whole._replace(kept=inputs + largest)


def _of_all_blocks(
    config: Mapping[str, Any], image: ImageConfig, cfg: AlignmentConfig, pairs: int, dtype: torch.dtype
) -> Counted:
    """What few blocks take, and each one more of a kind; beside the first of a kind other things are kept."""
    most = 1 if sum(config[kind] for kind in BLOCKS) > FEW_BLOCKS else FEW_BLOCKS
    few = {kind: min(config[kind], most) for kind in BLOCKS}
    base = _count({**config, **few}, image, cfg, pairs, dtype)
    total = list(base)
    for kind in BLOCKS:
        if (more := config[kind] - few[kind]) > 0:
            larger = _count({**config, **few, kind: few[kind] + 1}, image, cfg, pairs, dtype)
            total = [so_far + more * (b - a) for so_far, a, b in zip(total, base, larger, strict=True)]
    return Counted(*total)


def _count(
    config: Mapping[str, Any], image: ImageConfig, cfg: AlignmentConfig, pairs: int, dtype: torch.dtype
) -> Counted:
    model = BareFlux(config, GeneratorConfig("flux", guidance=3.5, device="meta"), image, dtype)
    network = sum(p.numel() for p in model.network.parameters())
    add_adapter(model.network, cfg.lora_rank, model.lora_targets)
    adapter = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    n, shown = 2 * pairs, _shown(image, cfg)
    tokens = torch.empty(n, len(shown), config["in_channels"] // 2, device=META)
    sizes = ((MAX_CAPTION_TOKENS, config["joint_attention_dim"]), (config["pooled_projection_dim"],))
    captions = tuple(torch.empty(n, *size, device=META, dtype=dtype) for size in sizes)
    sigma = torch.empty(n, device=META)
    with Lean():
        kept = saved_bytes(lambda: model.velocity(tokens, tokens, captions, sigma, shown), model.network.parameters())
    return Counted(network, adapter, kept)


def _shown(image: ImageConfig, cfg: AlignmentConfig) -> Int[np.ndarray, " tokens"]:
    """Indices of the tokens that a step sees."""
    rows, columns = (side // (2 * VAE_SCALE) for side in (image.height, image.width))
    return half_windows(rows, columns)[0] if cfg.half_images else np.arange(rows * columns)
