"""Half images: where the body is, in tokens, and the half of the image that shows most of it.

A step on half images costs less than half of one on whole images, and what it leaves out is mostly background.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8


def body_share(control: UInt8[np.ndarray, "h w 3"], rows: int, columns: int) -> Float[np.ndarray, " tokens"]:
    """The share of each token's pixels that show the body: control images are black elsewhere."""
    height, width = control.shape[0] // rows, control.shape[1] // columns
    return control.any(-1).reshape(rows, height, columns, width).mean((1, 3)).ravel().astype(np.float32)


def half_windows(rows: int, columns: int) -> Int[np.ndarray, "windows tokens"]:
    """Token indices of the upright half images of a grid of tokens, from left to right, and of the lying ones, downwards.

    Both sides of the grid must be even, so that all have the same number of tokens.
    """
    grid = np.arange(rows * columns).reshape(rows, columns)
    upright = [grid[:, start : start + columns // 2] for start in range(columns - columns // 2 + 1)]
    lying = [grid[start : start + rows // 2] for start in range(rows - rows // 2 + 1)]
    return np.stack([window.ravel() for window in upright + lying])


def body_window(
    share: Float[np.ndarray, "n tokens"], windows: Int[np.ndarray, "windows half"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Of each body the window that shows most of it; of equal ones a random one."""
    shown = np.stack([share[:, window].sum(1) for window in windows], axis=1)
    return (shown + 1e-3 * rng.random(shown.shape)).argmax(1)
