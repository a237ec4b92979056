"""Checkpoints with the architectures of FLUX.1-dev and SDXL and a few thousand random weights, in diffusers' layout."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxControlPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WIDTH = 32


def save_tiny_flux(folder: Path) -> None:
    """FLUX.1-dev: a transformer that takes no control latents, guidance embedding, CLIP and T5."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    tokenizer = word_tokenizer()
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=tiny_vae(scaling_factor=0.36, shift_factor=0.12, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(clip_config()),
        tokenizer=clip_tokenizer(folder),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2)
        ),
        tokenizer_2=tokenizer,
        transformer=transformer,
    )
    pipeline.save_pretrained(str(folder))


def save_tiny_control_lora(base: Path, folder: Path) -> Path:
    """A control LoRA as it is trained: the input layer is widened for the control latents, then all gets a LoRA."""
    torch.manual_seed(1)
    transformer: Any = FluxTransformer2DModel.from_pretrained(str(base / "transformer"))
    narrow = transformer.x_embedder
    wide = torch.nn.Linear(2 * narrow.in_features, narrow.out_features)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : narrow.in_features] = narrow.weight
        wide.bias.copy_(narrow.bias)
    transformer.x_embedder = wide
    targets = ["x_embedder", "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"]
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights="gaussian"))
    state = {k: 0.3 * torch.randn_like(v) for k, v in get_peft_model_state_dict(transformer).items()}
    FluxControlPipeline.save_lora_weights(str(folder), transformer_lora_layers=dict(state))
    return folder / "pytorch_lora_weights.safetensors"


def save_tiny_sdxl(folder: Path, control_folder: Path) -> None:
    """SDXL with its two CLIPs, and a ControlNet of its UNet."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),  # type: ignore[arg-type]  # diffusers says tuple[int]
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),  # type: ignore[arg-type]
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        cross_attention_dim=2 * WIDTH,
    )
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    with torch.no_grad():
        for parameter in control.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.3)
    control.save_pretrained(str(control_folder))
    tokenizer = clip_tokenizer(folder)
    scheduler: Any = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    StableDiffusionXLPipeline(
        vae=tiny_vae(scaling_factor=0.13),
        text_encoder=CLIPTextModel(clip_config()),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler,
    ).save_pretrained(str(folder))


def tiny_vae(**options: Any) -> AutoencoderKL:
    """A variational autoencoder that halves the image once; its encoder samples, as the large ones do."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * 2,  # type: ignore[arg-type]
        block_out_channels=(8, 8),  # type: ignore[arg-type]
        latent_channels=4,
        norm_num_groups=4,
        **options,
    )


def clip_config() -> CLIPTextConfig:
    """One layer of CLIP's text model."""
    return CLIPTextConfig(
        vocab_size=300,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with single bytes as its vocabulary."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters[:149], *(f"{c}</w>" for c in letters[:149])]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Letters as tokens, in the place of T5's sentence pieces."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {chr(97 + i): 3 + i for i in range(26)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[a-z]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def without_control(folder: Path) -> None:
    """Take the columns of the input layer away that a pocket generator sees its control image through."""
    whole: Any = FluxTransformer2DModel.from_pretrained(str(folder / "transformer"))
    seen = whole.config.in_channels // 2
    narrow: Any = FluxTransformer2DModel.from_config({**whole.config, "in_channels": seen})
    state = whole.state_dict()
    state["x_embedder.weight"] = state["x_embedder.weight"][:, :seen].clone()
    narrow.load_state_dict(state)
    narrow.save_pretrained(str(folder / "transformer"))
