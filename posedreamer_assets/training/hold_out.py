"""Which rows of a file of training data are never trained on: one rule for every model."""

import numpy as np
from jaxtyping import Bool

ONE_IN = 32


def held_out(rows: int) -> Bool[np.ndarray, " rows"]:
    """The last 32nd of the rows of a file, at least one.

    The rule looks at nothing but the file itself: whatever other files there are, now or later, and whichever model
    learns from them, a row is held out from all models or from none. A generator therefore never learns from the rows on
    which the detector that judges it was measured.

    Raises:
        ValueError: fewer than two rows, so that either nothing is held out or nothing is left.
    """
    if rows < 2:
        raise ValueError(f"{rows} rows cannot be divided into rows to learn from and rows held out")
    return np.arange(rows) >= rows - max(1, rows // ONE_IN)
