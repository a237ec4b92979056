"""What makes painting faster: compiled blocks and who computes attention, which change images by rounding at most, and steps
that are left out, which change them by more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers import TaylorSeerCacheConfig
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch import nn

from posedreamer_assets.errors import BackendError

# Names of diffusers, and the package that each needs.
ATTENTION = {
    "native": ("native", ""),
    "cudnn": ("_native_cudnn", "a GPU with cuDNN"),
    "flash": ("flash", "the package flash-attn"),
    "flash_3": ("_flash_3", "the package flash-attn-interface (flash-attention 3, Hopper GPUs)"),
    "xformers": ("xformers", "the package xformers"),
    "sage": ("sage", "the package sageattention"),
}
WHOLE_STEPS = 3  # that a cache begins with
COMPILER = "inductor"  # torch.compile's own default


def set_attention(networks: Sequence[nn.Module], name: str) -> None:
    """Let another library compute the networks' attention; `auto` leaves PyTorch's.

    Raises:
        BackendError: it is not installed, or the networks have no place for another.
    """
    if name == "auto":
        return
    backend, needed = ATTENTION[name]
    for network in networks:
        active, _ = _AttentionBackendRegistry.get_active_backend()
        try:
            network.set_attention_backend(backend)  # type: ignore[operator]
        except (RuntimeError, ValueError, ImportError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise BackendError(f"generator.attention {name} needs {needed}: {first}; or set auto") from error
        finally:
            _AttentionBackendRegistry.set_active_backend(active)  # other networks of this process keep theirs
    taken = [getattr(m.processor, "_attention_backend", None) for n in networks for m in n.modules() if _attends(m)]
    if not any(taken):
        raise BackendError(f"generator.attention {name}: this backend's networks have PyTorch's alone; set auto")


def _attends(module: Any) -> bool:
    return hasattr(module, "processor") and not isinstance(module.processor, nn.Module)


def compile_blocks(networks: Sequence[Any]) -> None:
    """Compile the blocks that each network repeats, those of one kind once; a network without such blocks stays as it is.

    Nothing is compiled before the first image.
    """
    for network in networks:
        if getattr(network, "_repeated_blocks", None):
            network.compile_repeated_blocks(backend=COMPILER)


@contextmanager
def leaving_out_steps(network: Any, interval: int | None) -> Iterator[None]:
    """Within, which is one block of images, a network's blocks are computed at the first steps and then at every `interval`th
    one; in between what its last layer gave goes on in a straight line. None leaves everything as it is.

    Which steps these are is fixed: caches that decide by what they see decide by the mean of all rows, and an image would depend
    on its neighbours. Nothing is kept afterwards, so that a training that follows sees the whole network.
    """
    if interval is None:
        yield
        return
    network.enable_cache(
        TaylorSeerCacheConfig(
            cache_interval=interval,
            disable_cache_before_step=WHOLE_STEPS,
            taylor_factors_dtype=network.dtype,
            use_lite_mode=True,
        )
    )
    try:
        with network.cache_context("paint"):  # not every pipeline has one; those that do put theirs in its place
            yield
    finally:
        network.disable_cache()
