"""What `make` gives to the programs that it starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_python_keeps_bytecode_where_the_environment_forbids_it(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("")
    forbidden = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    forbidden.pop("PYTHONPYCACHEPREFIX", None)
    imports = f"import-thing: ; @cd '{tmp_path}' && '{sys.executable}' -c 'import thing'"
    command = ["make", "--silent", "-f", str(ROOT / "Makefile"), "--eval", imports, "import-thing"]
    subprocess.run(command, cwd=ROOT, env=forbidden, check=True)
    assert list(tmp_path.glob("__pycache__/thing.*.pyc"))
