"""A backfill of everything against a running `posedreamer dev`, with its daemon and web server, as a browser asks for it.

    python -m posedreamer_assets_tests.defs.dev_backfill HOME PROFILE [PORT]

HOME is a fresh folder and PROFILE the profile that its first page shows. The process is asked through GraphQL over HTTP
alone, and ended with SIGTERM. Prints what it saw; exit code 1 unless every partition was made.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from posedreamer_assets.config import load_profile, save_profile
from posedreamer_assets.runtime.home import Home

READY_S, BACKFILL_S = 180, 3000
ASSETS = "{ assetNodes { assetKey { path } partitionKeys isPartitioned } }"
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message }
  }
}
"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } }
  }
}
"""


class Dev:
    """A running `posedreamer dev`."""

    def __init__(self, home: Path, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"
        main = "from posedreamer_assets.cli.commands import main; main()"
        command = [sys.executable, "-c", main, "dev", "--home", str(home), "--port", str(port)]
        self.log = home.parent / f"{home.name}.dev.log"
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT)

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of an answer."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert not found.get("errors"), found["errors"]
        return dict(found["data"])

    def assets(self) -> list[dict[str, Any]]:
        """Once the page answers: all assets with the partitions that it shows."""
        deadline = time.monotonic() + READY_S
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, "no answer with assets"
            with suppress(urllib.error.URLError, ConnectionError):  # it does not listen yet
                if found := self.ask(ASSETS)["assetNodes"]:
                    return list(found)
            time.sleep(0.5)

    def backfill(self, paths: list[list[str]]) -> dict[str, Any]:
        """As the button "materialize all" launches it; waits for its end and returns its status."""
        params = {"assetSelection": [{"path": path} for path in paths], "allPartitions": True}
        launched = self.ask(LAUNCH, {"params": params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        deadline = time.monotonic() + BACKFILL_S
        while time.monotonic() < deadline:
            found = self.ask(STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]
            if found["status"] not in ("REQUESTED", "COMPLETING", "FAILING", "CANCELING"):
                return found
            time.sleep(2)
        raise AssertionError("the backfill did not end")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Its exit code after a signal, and how long it took."""
        started = time.monotonic()
        os.kill(self.process.pid, number)
        return self.process.wait(60), time.monotonic() - started


def main(place: Path, profile: Path, port: int) -> None:
    home = Home(place)
    home.path.mkdir(parents=True)
    save_profile(load_profile(profile), home.profile_path)
    started = time.monotonic()
    dev = Dev(place, port)
    try:
        assets = [one for one in dev.assets() if one["assetKey"]["path"][0] != "pocket"]
        print(f"first page after {time.monotonic() - started:.0f} s: {len(assets)} assets")
        for one in assets:
            print(f"  {'/'.join(one['assetKey']['path'])}: {one['partitionKeys'] if one['isPartitioned'] else '-'}")
        assert all(one["partitionKeys"] for one in assets if one["isPartitioned"])
        started = time.monotonic()
        found = dev.backfill([one["assetKey"]["path"] for one in assets])
        print(
            f"backfill of everything: {found['status']} after {time.monotonic() - started:.0f} s {found['error'] or ''}"
        )
    finally:
        code, seconds = dev.end()
    print(f"SIGTERM: exit code {code} after {seconds:.1f} s")
    sys.exit(found["status"] != "COMPLETED_SUCCESS")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 3917)
