"""Dagster's UI and daemon on a home, and a small server of the home's pages, so that links in the metadata can be clicked.

Browsers do not follow links from a web page to files, so the pages are served on this machine's loopback address alone.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from posedreamer_assets.defs.local.register_planned import register_planned
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.runtime.home import HOME_VARIABLE, PAGES_VARIABLE, Home

SERVED = ("reports", "checks")
_GRACE_S = 20.0
_LOOK_S = 0.2  # between two looks whether Dagster has ended
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_BEGIN = "import sys; from posedreamer_assets.cli.dev import begin; begin(int(sys.argv.pop(1)))"
_DG = "import sys; sys.argv[0] = 'dg'; from dagster_dg_cli.cli import main; main()"  # `dg`, of this very Python


class _Pages(SimpleHTTPRequestHandler):
    """Files below the folders SERVED of a home; nothing else of it."""

    def send_head(self) -> Any:
        first = self.path.lstrip("/").split("/")[0]
        if first not in SERVED:
            self.send_error(404)
            return None
        return super().send_head()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: Dagster's own log is the one to read."""


def serve_pages(home: Home, port: int) -> ThreadingHTTPServer:
    """A server of the home's pages in a thread of its own; `server_address` says where."""
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Pages, directory=str(home.path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def require_free(port: int, option: str) -> None:
    """Raise ConfigError where nothing can be served at a port of the loopback address; 0 stands for any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"{option} {port} cannot be served at: {error}. Another program may hold it, such as a second `posedreamer dev`: "
                f'end it, or give another (make dev ARGS="{option} {port + 1}")'
            ) from error


def serve(home: Home, port: int, pages_port: int) -> int:
    """Run the UI until it ends or a signal comes; returns its exit code."""
    home.prepare()
    register_planned(home)
    pages = serve_pages(home, pages_port)
    url = f"http://127.0.0.1:{pages.server_address[1]}"
    environment = {
        **os.environ,
        HOME_VARIABLE: str(home.path),
        "DAGSTER_HOME": str(home.dagster),
        PAGES_VARIABLE: url,
    }
    what = ["dev", "-m", "posedreamer_assets.definitions", "--port", str(port)]
    command = [sys.executable, "-c", f"{_BEGIN}\n{_DG}", str(os.getpid()), *what]
    print(
        f"UI      http://127.0.0.1:{port}\nreport  {url}/reports/latest/report.html\nchecks  {url}/checks/index.html",
        flush=True,
    )
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: came.append(number))
    try:
        # A handler could not wait for the child while `child.wait` does: both take the same lock.
        while child.poll() is None and not came:
            time.sleep(_LOOK_S)
    finally:
        _end(child)
        pages.shutdown()
    return 128 + came[0] if came else child.returncode


def begin(parent: int) -> None:
    """What Dagster's process does first: it takes signals, and ends with its parent, however that ends.

    Background jobs of a script ignore SIGINT, and Dagster would do so, too. Dagster ends its own processes after a SIGINT.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):  # Linux alone has it
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it ended before that was said
            raise KeyboardInterrupt


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the UI with all processes that it started."""
    for number, wait in ((signal.SIGINT, _GRACE_S), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, number)
            child.wait(wait)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
