"""Memory and time of painting with the large generators at real size on one GPU: random weights, so nothing is downloaded.

    python benchmarks/gpu_generate.py                       # on a GPU: flux and zimage, each precision, blocks of 1, 4, 8
    python benchmarks/gpu_generate.py --plan                # anywhere: what is expected, counted without computing anything
    python benchmarks/gpu_generate.py --tiny --device cpu   # anywhere, in a minute: that the program works

Prints a JSON object for each backend and precision as soon as it is known: GB of the painting networks' weights and the plan's,
the peak of each block beside the plan's, and seconds an image, the lesser of two. `--minutes` ends it: what was not begun by
then is named in `left_out`. Networks and autoencoder are the real architectures, lowered and prepared by the project's own code;
embeddings of captions are noise of the right shape, since text encoders are not on the GPU while images are painted
(`memory: park_text`). The control LoRA counts as merged: the input layer of FLUX has its width.
"""

import argparse
import gc
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxControlPipeline,
    FluxTransformer2DModel,
    ZImageControlNetModel,
    ZImageControlNetPipeline,
    ZImageTransformer2DModel,
)

from posedreamer_assets.config import GeneratorConfig, ImageConfig, load_profile
from posedreamer_assets.diffusion.backend import PipelineGenerator, prepare, resolve_dtype
from posedreamer_assets.diffusion.flux import MAX_CAPTION_TOKENS, FluxGenerator
from posedreamer_assets.diffusion.lowering import resident_bytes
from posedreamer_assets.diffusion.memory import plan
from posedreamer_assets.diffusion.shares import PRECISIONS
from posedreamer_assets.diffusion.zimage import PLACES, ZImageGenerator
from posedreamer_assets.errors import BackendError

GB = 1e9
ZIMAGE_TOKENS = 96  # of a caption of some sentences

FLUX: dict[str, Any] = {"in_channels": 128, "out_channels": 64, "guidance_embeds": True}
TINY_FLUX = FLUX | {
    "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "joint_attention_dim": 64, "pooled_projection_dim": 64,
}  # fmt: skip
ZIMAGE: dict[str, Any] = {}
UNION: dict[str, Any] = {
    "control_layers_places": PLACES[15], "control_refiner_layers_places": [0, 1], "control_in_dim": 33,
    "add_control_noise_refiner": "control_noise_refiner",
}  # fmt: skip
TINY_ZIMAGE: dict[str, Any] = {
    "dim": 64, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 64,
    "axes_dims": [8, 12, 12], "axes_lens": [600, 32, 32],
}  # fmt: skip
TINY_UNION = UNION | {"dim": 64, "n_heads": 2, "n_kv_heads": 2}
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16, "scaling_factor": 0.3611,
    "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
TINY_VAE = VAE | {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}


class Measured(PipelineGenerator):
    """What does not fit is told, not painted in smaller blocks."""

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        raise error


class RandomFlux(Measured, FluxGenerator):
    """FLUX whose captions are noise."""

    def encode_captions(self, captions: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sizes = self.transformer.config
        return (
            noise((len(captions), MAX_CAPTION_TOKENS, sizes["joint_attention_dim"]), self),
            noise((len(captions), sizes["pooled_projection_dim"]), self),
        )


class RandomZImage(Measured, ZImageGenerator):
    """Z-Image whose captions are noise."""

    def embeddings(self, captions: Any) -> list[torch.Tensor]:
        width = self.pipeline.transformer.config["cap_feat_dim"]
        return [noise((ZIMAGE_TOKENS, width), self) for _ in captions]


def noise(shape: tuple[int, ...], generator: PipelineGenerator) -> torch.Tensor:
    """The same numbers at every call."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return drawn.to(generator.device, resolve_dtype(generator.cfg.dtype, generator.device))


def random_network(kind: Any, sizes: dict[str, Any], dtype: torch.dtype, device: torch.device) -> Any:
    """A network with small random weights."""
    with torch.device("meta"):
        network = kind(**sizes)
    network = network.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.02)
    return network


def pipeline_of(backend: str, tiny: bool, dtype: torch.dtype, device: torch.device) -> Any:
    """The pipeline with everything but text encoders."""
    absent: Any = {"text_encoder": None, "tokenizer": None}
    vae = random_network(AutoencoderKL, TINY_VAE if tiny else VAE, dtype, device)
    if backend == "flux":
        transformer = random_network(FluxTransformer2DModel, TINY_FLUX if tiny else FLUX, dtype, device)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        more: Any = {"text_encoder_2": None, "tokenizer_2": None}
        return FluxControlPipeline(scheduler=scheduler, vae=vae, transformer=transformer, **absent, **more)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    transformer = random_network(ZImageTransformer2DModel, TINY_ZIMAGE if tiny else ZIMAGE, dtype, device)
    control = random_network(ZImageControlNetModel, TINY_UNION if tiny else UNION, dtype, device)
    return ZImageControlNetPipeline(scheduler=scheduler, vae=vae, transformer=transformer, controlnet=control, **absent)


def generator_of(cfg: GeneratorConfig, image: ImageConfig, tiny: bool) -> PipelineGenerator:
    """A generator with random weights, as `load` would have left one.

    Raises:
        BackendError: int8 or nf4 without bitsandbytes.
    """
    device = torch.device(cfg.device)
    kind: Any = RandomFlux if cfg.backend == "flux" else RandomZImage
    pipeline = pipeline_of(cfg.backend, tiny, resolve_dtype(cfg.dtype, device), device)
    if cfg.precision in ("int8", "nf4"):
        pipeline.to("cpu")  # bitsandbytes quantises what comes from there
    prepare(pipeline, kind, kind.painting_parts, replace(cfg, memory="resident"), image)
    return kind(pipeline, cfg, image, "random")


def painting_gb(generator: PipelineGenerator) -> float:
    """Of the painting networks' weights, those that two of them share once."""
    networks = torch.nn.ModuleList([getattr(generator.pipeline, name) for name in generator.painting_parts])
    return resident_bytes(networks) / GB


def measure_block(generator: PipelineGenerator, count: int) -> dict[str, float | None]:
    """Seconds an image and the peak of memory (0 without a GPU) of blocks of so many; None where they do not fit."""
    generator.cfg = replace(generator.cfg, batch_size=count)
    size = generator.image
    controls = np.random.default_rng(0).integers(0, 255, (count, size.height, size.width, 3), np.uint8)
    on_gpu = generator.device.type == "cuda"
    seconds = []
    try:
        for _ in range(3):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            generator.generate(controls, ["a person"] * count, list(range(count)))  # images arrive: the GPU has ended
            seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError:
        return {"image_s": None, "peak_gb": None}
    peak = torch.cuda.max_memory_allocated() / GB if on_gpu else 0.0
    return {"image_s": min(seconds[1:]) / count, "peak_gb": peak}


def planned(cfg: GeneratorConfig, image: ImageConfig, count: int) -> dict[str, float]:
    """The plan of a block, without text encoders, and without what CUDA itself takes, which torch does not count."""
    found = plan(replace(cfg, batch_size=count, memory="park_text", bake=True), image)
    assert found is not None, "the profiles name known models"
    return {
        "weights_gb": sum(size for part, size in found.parts.items() if part in ("transformer", "ControlNet")),
        "peak_gb": found.resident_gb + found.activations_gb,
    }


def report(cfg: GeneratorConfig, image: ImageConfig, counts: list[int], tiny: bool, plan_only: bool) -> dict[str, Any]:
    """One backend in one precision."""
    row: dict[str, Any] = {
        "backend": cfg.backend,
        "precision": cfg.precision,
        "side": image.width,
        "compile": cfg.compile,
    }
    row["blocks"] = [{"block": count, "plan": planned(cfg, image, count)} for count in counts]
    if plan_only:
        return row
    try:
        generator = generator_of(cfg, image, tiny)
    except (BackendError, torch.OutOfMemoryError) as error:
        return row | {"error": str(error).splitlines()[0]}
    row["weights_gb"] = painting_gb(generator)
    for block in row["blocks"]:
        block |= measure_block(generator, block["block"])
        if generator.device.type == "cuda":
            torch.cuda.empty_cache()
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=("flux", "zimage"), default=["flux", "zimage"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--steps", type=int, help="of the profile where it is not given")
    parser.add_argument("--compile", action="store_true", help="generator.compile")
    parser.add_argument("--attention", default="auto", help="generator.attention")
    parser.add_argument("--minutes", type=float, default=9.0, help="nothing is begun after so many")
    parser.add_argument("--plan", action="store_true", help="compute nothing")
    parser.add_argument(
        "--tiny", action="store_true", help="two blocks, 64 pixels, two steps; the plan is that of real size"
    )
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    start = time.monotonic()
    name = torch.cuda.get_device_name() if args.device == "cuda" and not args.plan else args.device
    print(json.dumps({"device": name, "torch": torch.__version__}), flush=True)
    left_out = []
    for backend in args.backends:
        profile = load_profile(backend)
        side = 64 if args.tiny else profile.image.width
        for precision in args.precisions:
            if (time.monotonic() - start) / 60 > args.minutes:
                left_out.append(f"{backend} {precision}")
                continue
            cfg = replace(
                profile.generator,
                precision=precision,
                bake=True,
                device=args.device,
                dtype="bfloat16" if args.device == "cuda" else "float32",
                steps=args.steps or (2 if args.tiny else profile.generator.steps),
                compile=args.compile,
                attention=args.attention,
            )
            counts = [1, 2] if args.tiny else args.blocks
            print(json.dumps(report(cfg, ImageConfig(side, side), counts, args.tiny, args.plan)), flush=True)
            gc.collect()
            if args.device == "cuda" and not args.plan:
                torch.cuda.empty_cache()
    print(json.dumps({"left_out": left_out}))


if __name__ == "__main__":
    main()
