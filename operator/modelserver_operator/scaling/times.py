"""Stored moments: RFC 3339 in UTC, whole seconds.

A clock that is set back must not keep a server awake or asleep for ever: a stored time that lies in
the future counts as now.
"""

from datetime import datetime


def timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def seconds_since(text: str | None, now: datetime) -> float:
    """0 for a time that is not set or lies in the future."""
    return max(0.0, (now - parse(text)).total_seconds()) if text else 0.0


def believed(text: str | None, now: datetime) -> str | None:
    """A time in the past as it is; one that lies in the future is now."""
    return timestamp(now) if text and parse(text) > now else text
