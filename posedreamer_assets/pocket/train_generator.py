"""Training of the pocket generator from rendered shards, on one CPU core.

    python -m posedreamer_assets.pocket.train_generator vae  --shards DIR --out DIR --minutes 12
    python -m posedreamer_assets.pocket.train_generator flux --shards DIR --out DIR --minutes 80
    python -m posedreamer_assets.pocket.train_generator decoder --shards DIR --out DIR --minutes 30

All write into the same folder, which becomes the generator: `vae/`, `transformer/`, `scheduler/`, `text_encoder/`,
`tokenizer/`. `flux` adds `training/` with the latents, the resumable state, a JSON-lines log and sample grids; it takes
up shards that appear while it runs. `decoder` makes the autoencoder's decoder anew, for the latents that the transformer guesses.
"""

import argparse
from pathlib import Path
from typing import Any

from posedreamer_assets.pocket.train_decoder import DecoderTraining, train_decoder
from posedreamer_assets.pocket.train_flow import FluxTraining, train_flux
from posedreamer_assets.pocket.train_vae import VaeTraining, train_vae
from posedreamer_assets.training.precision import NAMES


def main() -> None:
    """Command line: `vae`, `flux` or `decoder`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("vae", "flux", "decoder"))
    parser.add_argument("--shards", type=Path, required=True, help="folder of npz shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the generator")
    parser.add_argument("--minutes", type=float, help="of the processor")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--dtype", choices=NAMES, default="auto", help="auto: bfloat16 where the processor multiplies in it"
    )
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-start", action="store_true", help="flux: keep the transformer, renew the captions")
    parser.add_argument("--resume", action="store_true", help="flux: go on from the last checkpoint")
    args = parser.parse_args()
    given = {"minutes": args.minutes, "batch_size": args.batch_size}
    options: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    options |= {"threads": args.threads, "dtype": args.dtype, "seed": args.seed}
    if args.what == "vae":
        train_vae(args.shards, args.out, VaeTraining(**options))
    elif args.what == "decoder":
        train_decoder(args.shards, args.out, DecoderTraining(**options))
    else:
        train_flux(args.shards, args.out, FluxTraining(**options, warm_start=args.warm_start), resume=args.resume)


if __name__ == "__main__":
    main()
