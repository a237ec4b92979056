"""Another attempt after a transient fault, and only then: a wrong file or a bug fails at once.

Transient is what may be gone in a minute: a lost connection, a timeout, a throttled or unavailable service, a file handle of
a network disk that went stale.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from posedreamer_assets.defs.deployment import deployment
from posedreamer_assets.errors import PoseDreamerError

LONGEST_WAIT_S = 300.0
_ERRNO = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
# Lance, Arrow and object stores report faults of the network as text alone.
_WORDS = (
    "connection refused",
    "connection reset",
    "connection closed",
    "connection error",
    "could not connect",
    "curlcode",
    "dispatch failure",
    "error sending request",
    "internalerror",
    "operation timed out",
    "requesttimeout",
    "service unavailable",
    "serviceunavailable",
    "slow down",
    "slowdown",
    "temporarily unavailable",
    "timed out",
    "too many requests",
)
_CODES = frozenset(
    ("InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException")
)


def is_transient(error: BaseException) -> bool:
    """Whether the error, or one that caused it, may be gone at another attempt."""
    seen: BaseException | None = error
    while seen is not None:
        if _is_transient_alone(seen):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def _is_transient_alone(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    response = getattr(error, "response", None)  # botocore's ClientError
    if isinstance(response, dict) and response.get("Error", {}).get("Code") in _CODES:
        return True
    if not isinstance(error, (OSError, PoseDreamerError)):
        return False
    text = str(error).lower()
    return getattr(error, "errno", None) in _ERRNO or any(word in text for word in _WORDS)


def wait_s(attempt: int) -> float:
    """Seconds before another attempt after `attempt` of them: doubled each time, at most LONGEST_WAIT_S."""
    return min(LONGEST_WAIT_S, deployment().retry_wait_s * 2**attempt)


@contextmanager
def retrying(attempt: int) -> Iterator[None]:
    """Ask Dagster to try the step again where a transient fault ends the block.

    Args:
        attempt: how often the step has been tried again already.

    Raises:
        dagster.RetryRequested: after a transient fault; Dagster gives up after `max_retries`.
    """
    try:
        yield
    except Exception as error:
        if not is_transient(error):
            raise
        raise dg.RetryRequested(max_retries=deployment().max_retries, seconds_to_wait=wait_s(attempt)) from error
