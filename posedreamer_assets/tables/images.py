"""Encoded images at the storage border; arrays everywhere else."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from posedreamer_assets.errors import ImageError

# Drawn maps compress a thousandfold: the first 256 MiB of pixels are free. Beyond, photographs compress 100 times at most.
FREE_BYTES, MULTIPLE = 256 << 20, 200
# Whatever a file is called: Pillow knows forms that start other programs (PostScript) or that nobody has photographs in.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


@contextmanager
def opened(source: bytes | Path) -> Iterator[Image.Image]:
    """An image whose pixels take no more memory than its file accounts for; they are not unpacked before that is known.

    Raises:
        ImageError: its pixels would take more than FREE_BYTES and more than MULTIPLE times the file.
        OSError: it is not an image of FORMATS.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    what = "an image" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # Pillow's limit is 0.5 GB, whatever the file
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{what} of {size} bytes: {error}") from error
    with image:
        depth = 4 if image.mode in ("I", "F") else 2 if image.mode.startswith("I;") else len(image.getbands())
        if image.width * image.height * depth > max(FREE_BYTES, MULTIPLE * size):
            raise ImageError(
                f"{what} of {size} bytes says that it has {image.width} x {image.height} pixels, more than {MULTIPLE} times "
                "its size: it is not read"
            )
        yield image


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
    """The array of an encoded image, of the dtype and channels that it was encoded with; raises ImageError, see `opened`."""
    with opened(data) as image:
        return np.asarray(image)


def decode_rgb(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a photograph's file as RGB, whatever it has: grey, a palette, CMYK; raises ImageError, see `opened`."""
    with opened(data) as image:
        return np.asarray(image.convert("RGB"))


def decode_all(blobs: list[bytes]) -> np.ndarray:
    """Decode images of one size into one (n, h, w, ...) array."""
    return np.stack([decode(blob) for blob in blobs])
