"""The pocket networks: a small ViTPose, a residual encoder-decoder, one that draws silhouettes, and a person-centre network.

The first ranks candidates and the second judges them, so they share neither architecture nor training data.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

if TYPE_CHECKING:  # takes seconds to import
    from transformers import VitPoseForPoseEstimation

# ImageNet statistics of RGB in 0..1, as in the published ViTPose and RTMPose models.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def make_vitpose(size: int = 128, patch: int = 8, width: int = 160, depth: int = 6) -> "VitPoseForPoseEstimation":
    """A ViTPose with the simple decoder; heatmaps have a quarter of the image's side.

    Position embeddings start as two-dimensional sines and cosines, so that tokens know where they are from the
    first step.
    """
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    backbone = VitPoseBackboneConfig(
        image_size=(size, size),
        patch_size=(patch, patch),
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 40,
        mlp_ratio=3,
        out_indices=[depth],  # pyright: ignore[reportCallIssue]
    )
    config = VitPoseConfig(
        backbone_config=backbone,
        scale_factor=patch // 4,
        use_simple_decoder=True,
        num_labels=17,  # pyright: ignore[reportCallIssue]
    )
    model = VitPoseForPoseEstimation(config)
    with torch.no_grad():
        model.backbone.embeddings.position_embeddings[:, :1].zero_()
        model.backbone.embeddings.position_embeddings[0, 1:].copy_(_sine_positions(size // patch, width))
    return model


def _sine_positions(side: int, width: int) -> Float[Tensor, "tokens width"]:
    frequency = torch.pi / side * 2.0 ** torch.linspace(0, 4, width // 4)
    angle = torch.arange(side)[:, None] * frequency
    waves = torch.cat([angle.sin(), angle.cos()], -1)
    rows = waves[:, None].expand(side, side, -1)
    return 0.5 * torch.cat([rows, rows.transpose(0, 1)], -1).reshape(side * side, width)


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.relu(x + self.body(x))


def _stem(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width // 2, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


class HeatmapNet(nn.Module):
    """A residual encoder-decoder with skips; heatmap logits have a quarter of the image's side."""

    def __init__(self, width: int = 48, keypoints: int = 17) -> None:
        super().__init__()
        w1, w2, w3 = width, 2 * width, 8 * width // 3
        self.stem = nn.Sequential(_stem(w1), Residual(w1))
        self.down2 = nn.Sequential(nn.Conv2d(w1, w2, 3, 2, 1), Residual(w2), Residual(w2))
        self.down3 = nn.Sequential(nn.Conv2d(w2, w3, 3, 2, 1), Residual(w3), Residual(w3))
        self.down4 = nn.Sequential(nn.Conv2d(w3, w3, 3, 2, 1), Residual(w3), Residual(w3))
        self.up3, self.join3 = nn.Conv2d(w3, w3, 1), Residual(w3)
        self.up2, self.join2 = nn.Conv2d(w3, w2, 1), Residual(w2)
        self.up1, self.join1 = nn.Conv2d(w2, w1, 1), Residual(w1)
        self.head = nn.Conv2d(w1, keypoints, 1)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h4 w4"]:
        x1 = self.stem(images)
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        x4 = self.down4(x3)
        x3 = self.join3(x3 + interpolate(self.up3(x4), scale_factor=2.0))
        x2 = self.join2(x2 + interpolate(self.up2(x3), scale_factor=2.0))
        x1 = self.join1(x1 + interpolate(self.up1(x2), scale_factor=2.0))
        return self.head(x1)


class SilhouetteNet(nn.Module):
    """Logits of "a person is seen here", for each pixel: the encoder-decoder, whose cells say it of their 4 x 4 pixels."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.cells = HeatmapNet(width, 4 * 4)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
        return pixel_shuffle(self.cells(images), 4)


class CentreNet(nn.Module):
    """Logits of "the centre of a person's visible box is here", at an eighth of the image's side (CenterNet, 2019)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w2, w3 = 2 * width, 3 * width
        self.stem = nn.Sequential(_stem(width), Residual(width))
        self.down2 = nn.Sequential(nn.Conv2d(width, w2, 3, 2, 1), Residual(w2), Residual(w2))
        self.down3 = nn.Sequential(nn.Conv2d(w2, w3, 3, 2, 1), Residual(w3), Residual(w3))
        self.down4 = nn.Sequential(nn.Conv2d(w3, w3, 3, 2, 1), Residual(w3), Residual(w3))
        self.up3, self.join3 = nn.Conv2d(w3, w3, 1), Residual(w3)
        self.up2, self.join2 = nn.Conv2d(w3, w2, 1), Residual(w2)
        self.head = nn.Conv2d(w2, 1, 1)
        # Nearly all cells hold no centre: start from that, or the first steps only learn it (Lin et al., 2017).
        nn.init.constant_(self.head.bias, -4.6)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h8 w8"]:
        x2 = self.down2(self.stem(images))
        x3 = self.down3(x2)
        x4 = self.down4(x3)
        x3 = self.join3(x3 + interpolate(self.up3(x4), scale_factor=2.0))
        x2 = self.join2(x2 + interpolate(self.up2(x3), scale_factor=2.0))
        return self.head(x2)


def normalise(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """RGB in 0..1 to zero mean and unit variance by ImageNet's statistics."""
    mean = images.new_tensor(MEAN)[:, None, None]
    return (images - mean) / images.new_tensor(STD)[:, None, None]
