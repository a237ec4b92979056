"""An S3 server on loopback (moto's, in its own process), and a proxy before it that answers badly on purpose."""

import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STARTING_S = 60


def options(endpoint: str) -> dict[str, str]:
    """Storage options for a server without accounts, with short waits between repeated requests."""
    return {
        "aws_endpoint": endpoint,
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_region": "us-east-1",
    }


def environment(endpoint: str) -> dict[str, str]:
    """The same as environment variables, as a user sets them."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


def new_bucket(endpoint: str) -> str:
    """Make an empty bucket and return the URI of a root in it."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    return f"s3://{name}/some/root"


@contextmanager
def running_server() -> Iterator[str]:
    """Start the server; yields its endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _wait_for(endpoint: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + STARTING_S
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/").close()
        except urllib.error.URLError:
            if server.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


class FaultyProxy:
    """Passes requests on, and spoils a share of them.

    Before a request is passed on: 500, 503, or the connection is dropped. After it: the answer is dropped, so that the
    client cannot know that the request was carried out.

    Attributes:
        share: of the requests that are spoilt.
        faults: kinds of spoilt requests, counted.
        draw_put: chooses the fault of a PUT by its path; None leaves it to chance.
        dropped_headers: lower-case names of headers that are not passed on, as by a store that ignores them.
    """

    KINDS = ("500", "503", "dropped before", "dropped after")

    def __init__(self, endpoint: str, share: float, seed: int) -> None:
        self.share = share
        self.faults: Counter[str] = Counter()
        self.draw_put: Callable[[str], str | None] = lambda path: None
        self.dropped_headers: tuple[str, ...] = ()
        self._target = endpoint.removeprefix("http://")
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self, method: str, path: str) -> str | None:
        """The fault of the next request."""
        with self._lock:
            chosen = self.draw_put(path) if method == "PUT" else None
            if chosen:
                self.faults[chosen] += 1
                return chosen
            if self._random.random() >= self.share:
                return None
            kind = self.KINDS[self.faults.total() % len(self.KINDS)]
            self.faults[kind] += 1
            return kind

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve; yields the endpoint."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, self._target))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(proxy: FaultyProxy, target: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.draw(self.command, self.path)
            if fault in ("500", "503"):
                self._answer(int(fault), [("Content-Type", "application/xml")], b"<Error><Code>Injected</Code></Error>")
                return
            if fault == "dropped before":
                self._drop()
                return
            connection = HTTPConnection(target, timeout=30)
            try:
                kept = {n: v for n, v in self.headers.items() if n.lower() not in proxy.dropped_headers}
                connection.request(self.command, self.path, body, kept)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, HTTPException):
                self._drop()
                return
            finally:
                connection.close()
            if fault == "dropped after":
                self._drop()
                return
            self._answer(answer.status, answer.getheaders(), content)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            # The length of a HEAD's answer is that of what a GET would bring.
            length = next((v for n, v in headers if n.lower() == "content-length"), str(len(content)))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _drop(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

    return Handler
