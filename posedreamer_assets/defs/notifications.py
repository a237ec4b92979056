"""Tells somebody that a run has failed: `POSEDREAMER_FAILURE_HOOK` names a URL or a function."""

import importlib
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import dagster as dg

from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.errors import ConfigError

TIMEOUT_S = 10


def tell(hook: str, message: dict[str, Any]) -> None:
    """POST the message as JSON to a URL (`text` is what Slack-like services show), or call `package.module:function`.

    Raises:
        ConfigError: a hook that is neither.
        OSError: the URL did not answer with success.
    """
    if hook.startswith(("http://", "https://")):
        request = urllib.request.Request(
            hook, json.dumps(message).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return
    _function(hook)(message)


def _function(hook: str) -> Callable[[dict[str, Any]], object]:
    module, colon, name = hook.partition(":")
    found = getattr(importlib.import_module(module), name, None) if colon else None
    if not callable(found):
        raise ConfigError(f"POSEDREAMER_FAILURE_HOOK={hook}: expected an http(s) URL or package.module:function")
    return found


def failure_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """One message for each failed run."""
    told = dg.DefaultSensorStatus.RUNNING if deployment.failure_hook else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="run_failures",
        minimum_interval_seconds=30,
        default_status=told,
        description="Sends each failed run to POSEDREAMER_FAILURE_HOOK.",
    )
    def run_failures(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        hook = deployment.failure_hook
        if not hook:
            return dg.SkipReason("POSEDREAMER_FAILURE_HOOK is not set")
        run = context.dagster_run
        assets = sorted(key.to_user_string() for key in run.asset_selection or ())
        error = (context.failure_event.message or "").strip()
        partition = run.tags.get("dagster/partition")
        place = ", ".join(assets) or run.job_name
        tell(
            hook,
            {
                "text": f"posedreamer: run {run.run_id[:8]} failed: {place}{f' [{partition}]' if partition else ''}: {error}",
                "run_id": run.run_id,
                "assets": assets,
                "partition": partition,
                "error": error,
            },
        )
        return None

    return run_failures
