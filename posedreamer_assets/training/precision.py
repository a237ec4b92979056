"""The arithmetic of a training: bfloat16 where the processor multiplies in it, else float32."""

import torch

from posedreamer_assets.errors import ConfigError

NAMES = ("auto", "bfloat16", "float32")


def cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; without them bfloat16 is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def training_dtype(name: str, device: str = "cpu") -> torch.dtype:
    """The dtype of matrix products; weights, their averages and optimizers stay in float32.

    Raises:
        ConfigError: another name than auto, bfloat16 or float32.
    """
    if name not in NAMES:
        raise ConfigError(f"dtype of a training: expected one of {', '.join(NAMES)}, found {name!r}")
    if name == "auto":
        name = "bfloat16" if not device.startswith("cpu") or cpu_multiplies_bfloat16() else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def autocast(name: str, device: str = "cpu") -> torch.autocast:
    """A context in which networks multiply in `training_dtype(name, device)`."""
    dtype = training_dtype(name, device)
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=dtype == torch.bfloat16)
