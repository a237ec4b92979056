"""How commands end when a signal comes, or when something outside goes wrong."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from posedreamer_assets.cli.commands import cli
from posedreamer_assets.cli.endings import (
    INTERRUPTED,
    TERMINATED,
    Signals,
    in_one_line,
    is_interrupt,
    raise_if_signalled,
)
from posedreamer_assets.config import write_whole
from posedreamer_assets.storage import LanceStore

SIZES = ("poses.batch_size=2", "poses.batches=40", "poses.align_batches=1", "scenes.supersample=1")
# Without the first pictures, which take most of the time until the poses' turn.
POSES_ALONE = (
    "from posedreamer_assets.cli import run_command as command; "
    "command.stages_of = lambda *_: ['body_model', 'pose_library']; "
)


def command(home: Path, before: str = "") -> list[str]:
    given = [part for size in SIZES for part in ("--set", size)]
    return [
        sys.executable,
        "-c",
        f"{before}from posedreamer_assets.cli.commands import main; main()",
        "run",
        "--home",
        str(home),
        *given,
    ]


@pytest.mark.parametrize(
    ("number", "code", "background", "stages"),
    [
        (signal.SIGINT, INTERRUPTED, False, ""),
        (signal.SIGTERM, TERMINATED, False, POSES_ALONE),
        (signal.SIGTERM, TERMINATED, True, POSES_ALONE),
    ],
)
def test_a_signal_ends_a_run_in_one_line_and_what_was_made_stays(
    tmp_path: Path, number: int, code: int, background: bool, stages: str
) -> None:
    """Of a script's background job, which ignores SIGINT, too."""
    store, deadline = LanceStore(str(tmp_path / "storage")), time.monotonic() + 400  # computers may be busy
    before = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if background else []
    with subprocess.Popen(
        [*before, *command(tmp_path, stages)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            while len(store.partitions("pose_library")) < 2:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "nothing was made"
                time.sleep(0.2)
            process.send_signal(number)
            out, err = process.communicate(timeout=200)
        finally:
            process.kill()  # nothing, where it has ended
    assert process.returncode == code
    assert "interrupted; run again to go on" in err
    assert "Traceback" not in out + err
    assert 2 <= len(store.partitions("pose_library")) < 41


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_a_signal_that_dagster_forgets_is_remembered(number: int, code: int) -> None:
    from dagster._utils.interrupts import capture_interrupts

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests are a background job
        signals = Signals()
        raise_if_signalled()
        with capture_interrupts():
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            raise_if_signalled()
        assert signals.exit_code == code
        Signals()  # the next command
        raise_if_signalled()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_a_background_job_heeds_the_signal_that_it_does_not_ignore() -> None:
    from dagster._utils.interrupts import capture_interrupts

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Signals()
        with capture_interrupts():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise_if_signalled()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            raise_if_signalled()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: the disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "/data"), "read-only"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written"),
        (sqlite3.DatabaseError("database disk image is malformed"), "damaged"),
        (OSError(errno.ENOENT, "No such file", "x"), None),
        (ValueError("disk full"), None),
    ],
)
def test_what_lies_outside_is_told_with_a_remedy(error: Exception, word: str | None) -> None:
    found = in_one_line(error)
    assert found is None if word is None else found is not None and word in found


def test_causes_are_looked_at() -> None:
    outer = RuntimeError("step failed")
    outer.__cause__ = KeyboardInterrupt()
    assert is_interrupt(outer)
    assert not is_interrupt(RuntimeError("step failed"))


def test_a_read_only_home_is_told_in_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = tmp_path / "file"
        place.write_text("not a folder")
    else:
        place = tmp_path / "home"
        place.mkdir(mode=0o500)
    done = subprocess.run(command(place / "below"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("what", ["home", "storage"])
@pytest.mark.parametrize("command", ["run", "status", "export"])
def test_a_link_that_leads_nowhere_is_told_in_one_line_and_not_followed(
    tmp_path: Path, what: str, command: str
) -> None:
    home = tmp_path / "home"
    link = {"home": home, "storage": home / "storage"}[what]
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "disk" / "below")
    more = {"export": ["--format", "coco", "-o", str(tmp_path / "out")]}.get(command, [])
    done = CliRunner().invoke(cli, [command, "--home", str(home), *more])
    assert done.exit_code == 1, done.output
    assert done.stderr.strip().splitlines() == [
        f"posedreamer: StorageError: {link} is a symbolic link to {tmp_path / 'disk' / 'below'}, which does not exist: "
        "mount or make what it leads to, or remove the link, and run again"
    ]
    assert not (tmp_path / "disk").exists() and not (tmp_path / "out").exists()


def test_a_storage_that_is_given_and_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "below")
    done = CliRunner().invoke(cli, ["run", "--home", str(tmp_path / "home"), "--storage", str(link)])
    assert done.exit_code == 1, done.output
    assert f"StorageError: {link} is a symbolic link" in done.stderr
    assert not (tmp_path / "disk").exists() and not (tmp_path / "home").exists()


def test_what_names_no_file_is_told_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("posedreamer_assets.cli.status.status_of", full)
    done = CliRunner().invoke(cli, ["status", "--home", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"posedreamer: {tmp_path}: the disk is full: make room")


def test_a_file_that_could_not_be_written_whole_is_named_and_keeps_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "profile.yaml"
    write_whole(file, "former")

    def full(place: Path, *_: object, **__: object) -> None:
        place.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*profile\.yaml'$"):
        write_whole(file, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("profile.yaml", "former")]
