"""Scenes rendered by Blender's Cycles, in a process of its own that speaks files and is started by a Python that has `bpy`.

Blender is GPL software that asks for another NumPy than this project: it is never imported here, see `blender_worker.py`.
What is labelled comes from the rasteriser, whose camera and people Cycles' equal (a test holds them against each other);
the colours alone are Cycles'.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float, Int, UInt8

from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.config import CrowdsConfig
from posedreamer_assets.config.environment import FromEnvironment, variable
from posedreamer_assets.errors import RenderError
from posedreamer_assets.render.shading import Light
from posedreamer_assets.scenes.picture import Surfaces

WORKER = Path(__file__).with_name("blender_worker.py")
SCENES_OF_WORKER = 50  # Blender keeps some memory of each scene: then another process goes on
WAIT_S = 1800.0  # for one scene
REMEDY = "python3.11 -m venv DIR && DIR/bin/pip install 'bpy==4.5.*' 'numpy<2'"
_POLL_S, _START_S = 0.05, 300.0


@dataclass(frozen=True)
class CyclesSettings(FromEnvironment):
    """`cycles_python`: the Python that has `bpy`, POSEDREAMER_CYCLES_PYTHON."""

    cycles_python: str = ""


def python_of(cfg: CrowdsConfig) -> str:
    """The Python that has `bpy`: the profile's, else the environment's.

    Raises:
        RenderError: none is named, or it has no `bpy`.
    """
    found = cfg.cycles_python or CyclesSettings.from_environment(os.environ).cycles_python
    if not found:
        raise RenderError(
            "crowds.renderer cycles needs a Python that has Blender: --set crowds.cycles_python=DIR/bin/python or "
            f"{variable('cycles_python')}, where {REMEDY} has made DIR"
        )
    python = str(Path(found).expanduser())
    blender_version(python)
    return python


@lru_cache(maxsize=4)
def blender_version(python: str) -> str:
    """The version of Blender that a Python has.

    Raises:
        RenderError: it has none, or is no program.
    """
    command = [python, "-I", "-c", "import bpy; print(); print('Blender', bpy.app.version_string)"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_START_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RenderError(f"crowds.cycles_python: {python} cannot be run ({error}); {REMEDY} makes one") from error
    versions = [line.split()[1] for line in asked.stdout.splitlines() if line.startswith("Blender ")]
    if asked.returncode or not versions:
        raise RenderError(f"crowds.cycles_python: {python} has no bpy ({last_line(asked.stderr)}): {REMEDY}")
    return versions[0]


def write_job(
    folder: Path,
    name: str,
    *,
    people: Surfaces,
    faces: Int[np.ndarray, "f 3"],
    ids: Sequence[int],
    camera: Cameras,
    light: Light,
    ground: Float[np.ndarray, "3"],
    samples: int,
    seed: int,
    map_scale: int = 0,
) -> None:
    """Write what one picture is rendered from.

    Args:
        folder: that is rendered.
        name: of the job.
        people: dressed.
        faces: of each person.
        ids: what each is called in the map of people, 1 to 254.
        camera: one.
        light: direction in the world's frame.
        ground: linear colour of what people stand on, at y = 0.
        samples: light paths of each pixel.
        seed: of the paths.
        map_scale: how many times as large a map of people and their distance is made beside; 0 for none.
    """
    np.savez(
        _job(folder, name),
        vertices=people.vertices.astype(np.float32),
        normals=people.normals.astype(np.float32),
        colours=people.colours.astype(np.float32),
        faces=faces.astype(np.int32),
        ids=np.array(ids, np.int32),
        rotation=camera.rotation[0],
        translation=camera.translation[0],
        focal_px=camera.focal_px[0],
        principal_px=camera.principal_px[0],
        size=np.array([camera.width, camera.height]),
        light=np.array([*light.direction, light.intensity, light.ambient]),
        ground=ground.astype(np.float32),
        samples=np.array(samples),
        seed=np.array(seed),
        map_scale=np.array(map_scale),
    )


def render_jobs(
    python: str,
    folder: Path,
    names: Sequence[str],
    done: Callable[[str], None],
    *,
    scenes_of_worker: int = SCENES_OF_WORKER,
    wait_s: float = WAIT_S,
) -> dict[str, str]:
    """Render the jobs of a folder, one after another; one that fails, or takes the process with it, leaves the others alone.

    Args:
        python: that has `bpy`.
        folder: where the jobs were written, and where their results are left.
        names: of the jobs.
        done: is told the name of each that has been rendered.
        scenes_of_worker: after so many another process goes on.
        wait_s: a process that takes longer for one scene is ended.

    Returns:
        By name, why a job failed, in one line.
    """
    failed: dict[str, str] = {}
    left = list(names)
    for name in left:  # of an attempt before
        _result(folder, name).unlink(missing_ok=True)
        _error(folder, name).unlink(missing_ok=True)
    while left:
        with tempfile.TemporaryFile() as said, _started(python, folder, left[:scenes_of_worker], said) as worker:
            try:
                seen = _follow(worker, folder, left[:scenes_of_worker], done, failed, said, wait_s)
            finally:
                worker.kill()
        left = left[seen:]
    return failed


def _started(python: str, folder: Path, names: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    # Isolated: neither this process's PYTHONPATH nor the worker's neighbours, of which one may be called as Blender's add-ons.
    command = [python, "-I", "-X", "faulthandler", str(WORKER), str(folder), *names]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)


def _follow(
    worker: subprocess.Popen[bytes],
    folder: Path,
    names: Sequence[str],
    done: Callable[[str], None],
    failed: dict[str, str],
    said: IO[bytes],
    wait_s: float,
) -> int:
    """Wait for a process's jobs; how many are over, the one among them that ended it."""
    for seen, name in enumerate(names):
        result, error = _result(folder, name), _error(folder, name)
        until = time.monotonic() + wait_s
        # Asked in this order: what a process wrote before it ended is found.
        while (running := worker.poll() is None) and not result.exists() and not error.exists():
            if time.monotonic() > until:
                failed[name] = f"took longer than {wait_s:.0f} s"
                return seen + 1
            time.sleep(_POLL_S)
        if result.exists():
            _job(folder, name).unlink()
            done(name)
        elif error.exists():
            failed[name] = last_line(error.read_text())
        elif not running:
            failed[name] = f"{_ending(worker.returncode)}: {_last_said(said)}"
            return seen + 1
    return len(names)


def is_rendered(folder: Path, name: str) -> bool:
    """Whether a job's result is there."""
    return _result(folder, name).exists()


def light_of(folder: Path, name: str) -> Float[np.ndarray, "h w 4"]:
    """What a job gave, for `composite.over`."""
    with np.load(_result(folder, name), allow_pickle=False) as found:
        return found["light"].astype(np.float32)


def maps_of(folder: Path, name: str) -> tuple[UInt8[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Who is where, and how far in metres (0 where nobody is), of a job that asked for it by `map_scale`."""
    with np.load(_result(folder, name), allow_pickle=False) as found:
        return found["instances"], found["depth_m"]


def _job(folder: Path, name: str) -> Path:
    return folder / f"{name}.job.npz"


def _result(folder: Path, name: str) -> Path:
    return folder / f"{name}.done.npz"


def _error(folder: Path, name: str) -> Path:
    return folder / f"{name}.error"


def last_line(text: str) -> str:
    """The last line of a text that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def _last_said(said: IO[bytes]) -> str:
    said.seek(0)
    return last_line(said.read().decode(errors="replace"))


def _ending(code: int) -> str:
    return f"Blender was killed by signal {-code}" if code < 0 else f"Blender ended with code {code}"
