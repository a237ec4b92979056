"""Tells somebody that a run has failed: `POSEDREAMER_FAILURE_HOOK` names a URL or a function."""

import importlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import dagster as dg

from posedreamer_assets.defs.deployment import SECRETS, Deployment
from posedreamer_assets.errors import ConfigError

TIMEOUT_S = 10
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def tell(hook: str, message: dict[str, Any]) -> None:
    """POST the message as JSON to a URL (`text` is what Slack-like services show), or call `package.module:function`.

    Raises:
        ConfigError: a hook that is neither.
        OSError: the URL did not answer with success. No error names the URL, which is a secret.
    """
    if _FUNCTION.fullmatch(hook):
        _function(hook)(message)
        return
    if not hook.startswith(("http://", "https://")):
        raise ConfigError(f"{SECRETS[0]}: expected an http(s) URL or package.module:function; its value is not shown")
    try:
        request = urllib.request.Request(
            hook, json.dumps(message).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        error.close()
        what = f"HTTP {error.code}"
    except urllib.error.URLError as error:
        what = type(error.reason).__name__
    except (ValueError, HTTPException) as error:  # a URL with a blank or without a host, an answer that is not HTTP
        what = type(error).__name__
    raise ConnectionError(f"the URL in {SECRETS[0]} did not take a message: {what}") from None


def _function(hook: str) -> Callable[[dict[str, Any]], object]:
    module, _, name = hook.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not callable(found):
        raise ConfigError(f"{SECRETS[0]}={hook}: there is no such function")
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
