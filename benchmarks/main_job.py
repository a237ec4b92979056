"""The table of what a run costs on two AVX2 cores: what it was, what it should be, what it is.

    python benchmarks/main_job.py [--only ROW ...] [--long] [--home DIR] [--json]

Each row is measured in a process of its own, restricted to AVX2 (`--unrestricted`: as the processor is), in CPU seconds
unless it says otherwise, so that neighbours count little. What takes a quarter of an hour or more, or downloads, is
measured with `--long` alone. `--home` names a home that a default run has finished, for the commands on a finished home;
else they are measured on one of the smallest size. A row that could not be measured says why.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import main_job_rows as rows
from main_job_rows import Measured, NotMeasuredError, Options

RESTRICTED = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's matrix products
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "LP_NATIVE_VECTOR_WIDTH": "256",  # Mesa's drawing
}
ALWAYS = {
    "PYOPENGL_PLATFORM": "egl",
    "TQDM_DISABLE": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "",  # or every process compiles what it imports, see docs/speed.md
}


@dataclass(frozen=True)
class Row:
    """What is measured, what it was on 2026-11-21, and what it should be."""

    what: str
    was: str
    aim: str
    measure: Callable[[Options], Measured]


ROWS = {
    "run": Row("`make run`, set-up not counted", "3,323 CPU s, 32 min", "<= 900 CPU s, <= 8 min", rows.whole_run),
    "setup": Row("set-up of `make run`", "4.5 min", "<= 2 min, half the disk", rows.set_up),
    "first": Row("first pictures", "at the end", "<= 90 s", rows.first_picture),
    "commands": Row(
        "run again / `status` / `doctor` / `--help`",
        "9.6 / 11 / 14 / ? CPU s",
        "<= 3 / 2 / 4 / 0.5 CPU s",
        rows.commands,
    ),
    "import": Row("import of the definitions against `import dagster`", "?", "<= 1.3 x", rows.importing),
    "maps": Row(
        "RGB against the reference; five maps against RGB, 512 px", "?", ">= 15 x; <= 1.5 x", rows.control_maps
    ),
    "scenes": Row("rendered scene, one body, 128 and 512 px", "0.13 s at 128", "<= 0.02 s, <= 0.1 s", rows.scenes),
    "poses": Row("a pose with camera and look", "0.036 s", "<= 0.006 s", rows.poses),
    "forward": Row("SMPL-X forward against stock smplx", "4 x", ">= 12 x, equal to 1e-5 m", rows.forward),
    "image": Row("an image of the pocket generator", "0.45 CPU s", "<= 0.15 CPU s", rows.image),
    "dpo": Row("Flow-DPO step against the reference structure", "?", ">= 3 x, loss equal to 1e-5", rows.alignment_step),
    "fid": Row("FID of 5,000 images against torch-fidelity", "?", ">= 1.5 x, equal to 1e-3", rows.fid),
    "oks": Row("OKS against pycocotools", "?", ">= 10 x, equal to 1e-6", rows.oks),
    "graph": Row(
        "graph against plain loop, with data checks", "+17 % wall", "<= +10 %; <= 2 % of 1,000", rows.orchestration
    ),
    "growth": Row("10 to 2,000 partitions", "flat", "within 2 x", rows.growth),
}


def measured(name: str, options: Options) -> dict[str, object]:
    """One row, measured in this process; a reason in place of figures where that was not possible."""
    row = ROWS[name]
    try:
        found = row.measure(options)
    except (NotMeasuredError, ImportError) as error:
        found = Measured(f"not measured: {error}")
    return {"row": name, "what": row.what, "was": row.was, "aim": row.aim, **asdict(found)}


def in_a_process(name: str, given: argparse.Namespace) -> dict[str, object]:
    """One row, measured by a process of its own."""
    command = [sys.executable, __file__, "--row", name]
    command += ["--long"] if given.long else []
    command += ["--home", str(given.home)] if given.home else []
    restricted = {} if given.unrestricted else RESTRICTED
    path = os.pathsep.join(filter(None, (str(rows.ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **ALWAYS, **restricted, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        row = ROWS[name]
        failed = Measured(f"not measured: the measurement ended with exit code {done.returncode}")
        return {"row": name, "what": row.what, "was": row.was, "aim": row.aim, **asdict(failed)}
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    """Processor and cores."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def instruction_set(unrestricted: bool) -> str:
    """What torch says that it was left with; asked in a process that is restricted as the rows are."""
    environment = {**os.environ, **({} if unrestricted else RESTRICTED)}
    command = [sys.executable, "-c", "import torch; print(torch.backends.cpu.get_cpu_capability())"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def as_line(found: dict[str, object]) -> str:
    """A line of the Markdown table."""
    met = {True: "yes", False: "no", None: ""}[found["met"]]  # type: ignore[index]
    return f"| {found['what']} | {found['was']} | {found['aim']} | {found['text']} | {found['ratio']} | {met} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--long", action="store_true", help="also what takes long or downloads")
    parser.add_argument("--home", type=Path, help="a home that a default run has finished")
    parser.add_argument("--unrestricted", action="store_true", help="use all instructions of the processor")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        print(json.dumps(measured(given.row, Options(given.home, given.long))))
        return
    about = {"machine": machine(), "instruction set": instruction_set(given.unrestricted)}
    found = []
    for number, name in enumerate(names := given.only or list(ROWS), start=1):
        print(f"{number} of {len(names)}: {ROWS[name].what}", file=sys.stderr, flush=True)
        found.append(in_a_process(name, given))
        print(f"    {found[-1]['text']}  {found[-1]['ratio']}", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps({**about, "rows": found}, indent=1))
        return
    print(f"{about['machine']}; instruction set {about['instruction set']}.\n")
    print("| what | 2026-11-21 | aim | measured | ratio | met |\n|---|---|---|---|---|---|")
    for row in found:
        print(as_line(row))


if __name__ == "__main__":
    main()
