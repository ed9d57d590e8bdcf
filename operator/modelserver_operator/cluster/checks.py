"""Asks others about a rollout: queries of the operator's Prometheus, webhooks of the namespace."""

import asyncio
import math
from collections.abc import Iterable
from http import HTTPStatus
from string import Template
from typing import Any

import aiohttp

from modelserver_operator.apis.rollout import QueryCheck, WebhookCheck
from modelserver_operator.cluster.prometheus import NO_ANSWER, NOT_CONFIGURED, Prometheus, said
from modelserver_operator.plan.checking import Checks
from modelserver_operator.rollout.sight import CheckAnswer

MOST_BYTES = 64 * 1024


class CheckProbe:
    """Without credentials."""

    def __init__(
        self, session: aiohttp.ClientSession, *, prometheus: Prometheus, cluster_domain: str
    ) -> None:
        self._session = session
        self._prometheus = prometheus
        self._cluster_domain = cluster_domain

    async def ask(self, checks: Checks) -> tuple[CheckAnswer, ...]:
        """One answer for each check, also where nobody answers."""
        asked: Iterable[Any] = (
            *(self._query(one, checks) for one in checks.queries),
            *(self._webhook(one, checks) for one in checks.webhooks),
        )
        return tuple(await asyncio.gather(*asked))

    # -- queries -------------------------------------------------------------------------------

    async def _query(self, check: QueryCheck, checks: Checks) -> CheckAnswer:
        if not self._prometheus.is_configured:
            message = f"{NOT_CONFIGURED}, or remove the query"
            return CheckAnswer(name=check.name, passed=None, message=message)
        query = Template(check.query).safe_substitute(checks.words)
        try:
            value = value_in(await self._prometheus.query(query, most_bytes=MOST_BYTES))
        except NO_ANSWER as failure:
            return CheckAnswer(name=check.name, passed=None, message=said(failure))
        return _judged(check, value)

    # -- webhooks ------------------------------------------------------------------------------

    async def _webhook(self, check: WebhookCheck, checks: Checks) -> CheckAnswer:
        host = f"{check.service}.{checks.namespace}.svc.{self._cluster_domain}"
        try:
            async with self._session.post(
                f"http://{host}:{check.port}{check.path}",
                json=dict(checks.state),
                timeout=aiohttp.ClientTimeout(total=check.timeout_seconds),
                allow_redirects=False,
            ) as response:
                return _answered(check, response.status)
        except NO_ANSWER as failure:
            return CheckAnswer(name=check.name, passed=None, message=said(failure))


def value_in(data: Any) -> float:
    """Of a scalar, or of a vector with one element; raises ValueError for anything else."""
    kind, result = data["resultType"], data["result"]
    if kind == "vector" and len(result) != 1:
        raise ValueError(f"the query must have one value as its result; it has {len(result)}")
    if kind not in {"vector", "scalar"}:
        raise ValueError(f"the query must have one value as its result; it has a {kind}")
    value = float(result[0]["value"][1] if kind == "vector" else result[1])
    if math.isnan(value):
        raise ValueError("the result is not a number, as where something is divided by no requests")
    return value


def _judged(check: QueryCheck, value: float) -> CheckAnswer:
    least, most = check.min, check.max
    is_above = least is None or value >= float(least)
    is_below = most is None or value <= float(most)
    between = " and ".join(
        part for part in (f"at least {least}" * bool(least), f"at most {most}" * bool(most)) if part
    )
    message = f"the result is {value:.6g}; expected is {between}"
    return CheckAnswer(name=check.name, passed=is_above and is_below, message=message)


def _answered(check: WebhookCheck, status: int) -> CheckAnswer:
    if status == HTTPStatus.OK:
        return CheckAnswer(name=check.name, passed=True)
    is_refusal = status == HTTPStatus.FORBIDDEN
    message = f"Service {check.service} answered {status}; 200 passes, 403 fails"
    return CheckAnswer(name=check.name, passed=False if is_refusal else None, message=message)
