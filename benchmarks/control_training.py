"""Does control arrive? A control LoRA is trained on the shipped pocket generator after its own control was taken away.

The columns of the input layer through which it sees the control image are dropped; what is left paints whatever it likes. It
knows how people look, and its other layers were once trained with a control: that it learns again faster than FLUX.1-dev would
is to be expected. Held-out poses are painted before and after, with the control image and with a black one, and the judge looks.

    python benchmarks/control_training.py --home HOME --steps 1500

HOME is one of `posedreamer run`, whose rendered scenes are learnt from.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.diffusion.pocket_files import PARTS, SHIPPED
from posedreamer_assets_tests.diffusion.production import without_control


def main() -> None:
    """Make the base, and train on it by the command that users have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=None, help="default: HOME/control_benchmark")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    out = args.out or args.home / "control_benchmark"
    base = out / "base"
    if not base.exists():
        for part in PARTS:
            shutil.copytree(SHIPPED / part, base / part)
        without_control(base)
    begun, spent = time.monotonic(), time.process_time()
    words = ["train-control", "--home", str(args.home), "--out", str(out / "lora"), "--steps", str(args.steps)]
    cli.main([*words, "--set", f"generator.model_path={base}"], prog_name="posedreamer", standalone_mode=False)
    print(f"{time.monotonic() - begun:.0f} s, {time.process_time() - spent:.0f} CPU s")


if __name__ == "__main__":
    main()
