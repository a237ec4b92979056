"""Steps of data checks stay beside the run on a cluster: they take seconds, and a job or pod takes longer to start."""

import os
import subprocess
from collections.abc import Iterator

import dagster as dg
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)

CHECKS_TAG = "posedreamer/checks"  # of the steps that check, with what they check


def with_checks_here(cluster: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """An executor that gives each step to a cluster, but for checks, which become processes beside the run."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        made = cluster.executor_creation_fn(context)  # type: ignore[misc]  # None only of abstract ones
        assert isinstance(made, StepDelegatingExecutor), "executors of clusters delegate steps"
        made._step_handler = ChecksHere(made._step_handler)
        return made

    return dg.ExecutorDefinition(
        name=cluster.name,
        config_schema=cluster.config_schema,  # type: ignore[arg-type]  # it takes what it gives
        requirements=cluster._requirements_fn,
        executor_creation_fn=create,
        description=cluster.description,
    )


class ChecksHere(StepHandler):
    """Starts checks as processes and hands all other steps on to the cluster."""

    def __init__(self, cluster: StepHandler) -> None:
        super().__init__()
        self._cluster = cluster
        self._checks: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def name(self) -> str:
        return f"{self._cluster.name}, checks beside the run"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        step = checks_of(step_handler_context)
        if step is None:
            yield from self._cluster.launch_step(step_handler_context)
            return
        yield dg.DagsterEvent.step_worker_starting(
            step_handler_context.get_step_context(step),
            message=f'Executing step "{step}" beside the run.',
            metadata={},
        )
        arguments = step_handler_context.execute_step_args
        given = {entry["name"]: entry["value"] for entry in arguments.get_command_env()}
        command = [*arguments.get_command_args(skip_serialized_namedtuple=True)]
        self._checks[step] = subprocess.Popen(command, env={**os.environ, **given}, stdin=subprocess.DEVNULL)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        step = checks_of(step_handler_context)
        if step is None:
            return self._cluster.check_step_health(step_handler_context)
        if step not in self._checks:
            return CheckStepHealthResult.unhealthy(reason=f"{step} ran beside a run that is no more")
        code = self._checks[step].poll()
        if code:
            return CheckStepHealthResult.unhealthy(reason=f"the process of {step} ended with code {code}")
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        step = checks_of(step_handler_context)
        if step is None:
            yield from self._cluster.terminate_step(step_handler_context)
        elif step in self._checks:
            self._checks[step].terminate()


def checks_of(context: StepHandlerContext) -> str | None:
    """The key of a step that checks; None of any other."""
    (step,) = list(context.execute_step_args.step_keys_to_execute or [])
    return step if CHECKS_TAG in context.step_tags[step] else None
