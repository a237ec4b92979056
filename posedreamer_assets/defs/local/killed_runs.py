"""Runs whose process was killed: Dagster would count them as running for ever, and start nothing beside them."""

import os
import socket
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import dagster as dg

PROCESS_TAG = "posedreamer/process"
_CLOCK_STEP_S = 120.0


def this_process() -> str:
    """A name of this process that no other has: host, process id and time of its start."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_gone(name: str) -> bool:
    """Whether that process ran on this machine and does so no more."""
    host, pid, started = name.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        # The clock may have been set between two looks at the same process.
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > _CLOCK_STEP_S
    except psutil.NoSuchProcess:
        return True


def report_killed_runs(instance: "dg.DagsterInstance") -> list[str]:
    """Report the unfinished runs of processes that are gone as failed, free their pool slots; returns their ids."""
    import dagster as dg

    unfinished = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
    )
    gone = [r for r in instance.get_runs(unfinished) if PROCESS_TAG in r.tags and is_gone(r.tags[PROCESS_TAG])]
    for run in gone:
        instance.report_run_failed(run, "the process of this run was killed")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in gone]
