"""A hook for failed runs, as a user would write one."""

REMEMBERED: list[dict[str, object]] = []


def remember(message: dict[str, object]) -> None:
    """Keep the message."""
    REMEMBERED.append(message)
