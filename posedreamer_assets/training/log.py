"""The log of a training: one JSON object per line."""

import json
import sys
from pathlib import Path
from typing import Any


class JsonLog:
    """Appends lines to a file; `echo` prints them, too."""

    def __init__(self, path: Path, *, echo: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.echo = path, echo

    def write(self, **fields: Any) -> None:
        """One line; numbers are rounded to five places."""
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in fields.items()})
        with self.path.open("a") as file:
            file.write(line + "\n")
        if self.echo:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Every line of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]
