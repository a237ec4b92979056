"""What stands for Blender's Python where its process is the question: told by the names of its jobs what to do.

It is started as the worker is, and notes every start in `starts` beside the jobs.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

GREY = 0.5


def install(folder: Path) -> str:
    """A program that behaves as this module says; its path."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    path.chmod(0o755)
    return str(path)


def main(arguments: list[str]) -> None:
    """`bpy` is asked for with -c; jobs come as -I -X faulthandler WORKER FOLDER NAMES."""
    if "-c" in arguments:
        print("Blender 0.1 fake")
        return
    folder, names = Path(arguments[4]), arguments[5:]
    with (folder / "starts").open("a") as starts:
        starts.write(" ".join(names) + "\n")
    for name in names:
        if "fails" in name or (folder / f"{name}.fails").exists():
            (folder / f"{name}.error").write_text("ValueError: planted")
        elif "dies" in name:
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        elif "hangs" in name:
            (folder / "hanging").touch()
            time.sleep(600)
        else:
            with np.load(folder / f"{name}.job.npz") as job:
                width, height = job["size"]
            part = folder / f"{name}.part.npz"
            np.savez(part, light=np.full((height, width, 4), [GREY, GREY, GREY, 1.0], np.float16))
            part.replace(folder / f"{name}.done.npz")


if __name__ == "__main__":
    main(sys.argv[1:])
