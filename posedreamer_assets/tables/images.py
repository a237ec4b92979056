"""Encoded images at the storage border; arrays everywhere else."""

import io

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image


def encode_png(image: UInt8[np.ndarray, "h w *c"] | UInt16[np.ndarray, "h w"]) -> bytes:
    """Lossless PNG of an RGB or grey image; 16-bit grey for uint16."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int = 95) -> bytes:
    """JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def encode(image: UInt8[np.ndarray, "h w 3"], image_format: str) -> bytes:
    """Encode as `png` or `jpeg`."""
    return encode_jpeg(image) if image_format == "jpeg" else encode_png(image)


def decode(data: bytes) -> np.ndarray:
    """The array of an encoded image, of the dtype and channels that it was encoded with."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def decode_all(blobs: list[bytes]) -> np.ndarray:
    """Decode images of one size into one (n, h, w, ...) array."""
    return np.stack([decode(blob) for blob in blobs])
