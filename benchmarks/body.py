"""The body's forward pass against stock smplx, bodies one by one.

    python benchmarks/body.py [--bodies 64]

CPU milliseconds of one body, one thread, the least of several rounds; and the largest distance between the two. See
benchmarks/render.py for how to restrict the instruction set.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posedreamer_assets.body.model import FREE_BODY_PATH, load_body
from posedreamer_assets.body.params import BodyParams

ROUNDS = 7


def random_params(n: int) -> BodyParams:
    """Bodies with all parameters drawn from a normal distribution."""
    rng, zeros = np.random.default_rng(0), BodyParams.zeros(n)
    return zeros.replace(**{k: rng.normal(0, 0.3, getattr(zeros, k).shape).astype(np.float32) for k in zeros.to_flat()})


def least_ms(actions: dict[str, Callable[[], Any]], n: int) -> dict[str, float]:
    """CPU milliseconds of one body; the actions take turns, so that what else the machine does meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            started = time.process_time()
            action()
            found[name].append(time.process_time() - started)
    return {name: 1000 * min(times) / n for name, times in found.items()}


def compare(n: int) -> dict[str, float]:
    """Milliseconds of CPU of one body here and by stock smplx one by one, their ratio, and the largest distance, metres."""
    import smplx
    import torch

    torch.set_num_threads(1)
    body, params = load_body(), random_params(n)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name) / "smplx"
        folder.mkdir()
        (folder / "SMPLX_NEUTRAL.npz").write_bytes(FREE_BODY_PATH.read_bytes())
        stock = smplx.create(name, "smplx", use_pca=False, flat_hand_mean=True, num_betas=10, num_expression_coeffs=10)
    flat = {name: torch.tensor(values) for name, values in params.to_flat().items()}

    def one_by_one() -> np.ndarray:
        with torch.no_grad():
            posed = [stock(**{k: v[i : i + 1] for k, v in flat.items()}).vertices for i in range(n)]
        return torch.cat(posed).numpy()

    apart = float(np.linalg.norm(one_by_one() - body.forward(params).vertices, axis=-1).max())
    times = least_ms({"ours": lambda: body.forward(params), "smplx": one_by_one}, n)
    return {**times, "ratio": times["smplx"] / times["ours"], "apart_m": apart}


def main() -> None:
    """Pose, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=64)
    found = compare(parser.parse_args().bodies)
    print(f"smplx one by one {found['smplx']:.2f} ms, forward {found['ours']:.2f} ms: {found['ratio']:.1f} x")
    print(f"largest distance {1e6 * found['apart_m']:.2f} micrometres")


if __name__ == "__main__":
    main()
