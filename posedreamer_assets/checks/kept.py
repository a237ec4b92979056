"""Expectations that say once what they are configured with, which takes a third of the time of checking few rows.

Great Expectations asks each expectation some ninety times, and an expectation builds its configuration anew whenever it is
asked. Nothing changes it while a suite is validated, and who adds to it takes a copy first.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def kept_configurations() -> Iterator[None]:
    """Within the block, by one thread at a time, the configuration of an expectation is built when it is first asked for."""
    from great_expectations.expectations.expectation import Expectation

    kept: dict[int, tuple[Any, Any]] = {}  # with the expectation: else another might be given its id

    def configuration(expectation: Any) -> Any:
        if id(expectation) not in kept:
            kept[id(expectation)] = (expectation, build(expectation))
        return kept[id(expectation)][1]

    with _ONE_AT_A_TIME:
        original = Expectation.configuration
        build: Any = original.fget
        Expectation.configuration = property(configuration)  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Expectation.configuration = original  # type: ignore[method-assign]
