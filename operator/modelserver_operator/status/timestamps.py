"""Moments as Kubernetes writes them."""

from datetime import datetime


def timestamp(moment: datetime) -> str:
    """As metav1.Time: RFC 3339 in UTC, whole seconds. `moment` is in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
