"""The built wheel, in an environment and a folder that know no clone of this repository: `run`, and `dev` on what it made.

What the wheel depends on is taken from the environment that runs the tests, through a .pth file: pip would download it all
again. That those are the packages which the wheel names is tested on its metadata.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = (
    *("--batches", "1", "--align-batches", "1", "--poses-per-batch", "12", "--set", "alignment.method=none"),
    *("--set", "curriculum.rounds=[]", "--set", "quality.bootstrap=2", "--set", "curation.min_oks=0.1"),
    *("--set", "scenes.supersample=1", "--set", "generator.steps=1"),
)

pytestmark = pytest.mark.slow


def posedreamer(place: Path) -> list[str]:
    return [str(place / "venv" / "bin" / "posedreamer")]


def elsewhere() -> dict[str, str]:
    """The environment of a person who has no clone: nothing leads Python to this one."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "POSEDREAMER", "DAGSTER"))
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what git would hand out: files of the package, built in a copy so that the clone stays as it is."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(place),
        str(source),
    ]
    subprocess.run(command, check=True, env=elsewhere())
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a virtual environment that holds the wheel and reaches the packages of this one, less our own."""
    place = tmp_path_factory.mktemp("elsewhere")
    venv.create(place / "venv", with_pip=False, symlinks=True)
    python = place / "venv" / "bin" / "python"
    site = place / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--no-index", str(wheel)], check=True, env=elsewhere())
    (site / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    found = subprocess.run(
        [str(python), "-c", "import posedreamer_assets; print(posedreamer_assets.__file__)"],
        cwd=place, check=True, capture_output=True, text=True, env=elsewhere(),
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(site), "the wheel's own files are imported"
    return place


@pytest.fixture(scope="module")
def home(place: Path) -> Path:
    """A home that `posedreamer run` has made at the smallest size, in a folder of no importance."""
    command = [*posedreamer(place), "run", *SMALLEST]
    done = subprocess.run(command, cwd=place, env=elsewhere(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "first pictures: " in done.stderr
    return place / "posedreamer_home"


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "posedreamer_assets"
    kinds = (".py", ".yaml", ".yml", ".j2", ".json", ".safetensors", ".npz", ".txt", ".md")
    there = {str(f.relative_to(ROOT)) for f in package.rglob("*") if f.suffix in kinds and "__pycache__" not in f.parts}
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert there - held == set()
    assert not any(name.startswith(("posedreamer_assets_tests", "benchmarks")) for name in held)


def test_the_wheel_names_what_it_needs_and_the_pythons_that_it_runs_on(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {_name(line) for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert needed == {_name(line) for line in project["dependencies"]}
    assert {"dagster-webserver", "dagster-dg-cli"} <= needed, "`posedreamer dev` runs without extras"
    assert {*metadata["Requires-Python"].split(",")} == {*project["requires-python"].split(",")}


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found.group().lower().replace("_", "-")


def test_run_makes_dataset_and_report_outside_any_clone(home: Path) -> None:
    assert (home / "reports" / "latest" / "report.html").is_file()
    assert (home / "reports" / "latest" / "summary.json").is_file()
    assert (home / "reports" / "first.png").is_file()
    assert (home / "storage" / "dataset.lance").is_dir()


@pytest.fixture
def ui(place: Path, home: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `posedreamer dev` on that home, started in another folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*posedreamer(place), "dev", "--home", str(home), "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(command, cwd=tmp_path, env=elsewhere(), stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            child.send_signal(signal.SIGINT)
            child.wait(60)


def test_dev_serves_the_graph_of_that_home_from_any_folder(ui: str) -> None:
    query = b'{"query": "{ assetNodes { assetKey { path } } }"}'
    request = urllib.request.Request(f"{ui}/graphql", query, {"Content-Type": "application/json"})
    deadline, text = time.monotonic() + 600, ""
    while "quality_report" not in text:
        assert time.monotonic() < deadline, f"no graph was served: {text[:500]}"
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(1)
    assert "raw_generations" in text
