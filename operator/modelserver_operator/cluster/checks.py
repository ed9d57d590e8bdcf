"""Asks others about a rollout: queries of the operator's Prometheus, webhooks of the namespace."""

import asyncio
import math
from collections.abc import Iterable
from http import HTTPStatus
from string import Template
from typing import Any

import aiohttp
import orjson

from modelserver_operator.apis.rollout import QueryCheck, WebhookCheck
from modelserver_operator.plan.checking import Checks
from modelserver_operator.rollout.sight import CheckAnswer

PATIENCE = aiohttp.ClientTimeout(total=10, sock_connect=2)
MOST_BYTES = 64 * 1024
LONGEST_TEXT = 200

_NO_ANSWER = (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError, IndexError)


class CheckProbe:
    """Without credentials. `prometheus_url` is the operator's own setting; empty: there is none."""

    def __init__(
        self, session: aiohttp.ClientSession, *, prometheus_url: str, cluster_domain: str
    ) -> None:
        self._session = session
        self._prometheus_url = prometheus_url.rstrip("/")
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
        if not self._prometheus_url:
            message = (
                "this operator has no Prometheus; set MODELSERVER_OPERATOR_PROMETHEUS_URL, or"
                " remove the query"
            )
            return CheckAnswer(name=check.name, passed=None, message=message)
        query = Template(check.query).safe_substitute(checks.words)
        try:
            value = await self._value_of(query)
        except _NO_ANSWER as failure:
            return CheckAnswer(name=check.name, passed=None, message=_said(failure))
        return _judged(check, value)

    async def _value_of(self, query: str) -> float:
        async with self._session.get(
            f"{self._prometheus_url}/api/v1/query",
            params={"query": query},
            timeout=PATIENCE,
            allow_redirects=False,
        ) as response:
            return _value_in(orjson.loads(await _body(response)))

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
        except _NO_ANSWER as failure:
            return CheckAnswer(name=check.name, passed=None, message=_said(failure))


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(MOST_BYTES + 1)
    while len(body) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES)):
        body += more
    if len(body) > MOST_BYTES:
        raise ValueError(f"the answer has more than {MOST_BYTES} bytes")
    return body


def _value_in(answer: Any) -> float:
    """Of a scalar, or of a vector with one element; raises ValueError for anything else."""
    if answer["status"] != "success":
        raise ValueError(f"Prometheus refuses the query: {answer.get('error')}")
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
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


def _said(failure: BaseException) -> str:
    text = str(failure) or "no answer in time"
    return f"{type(failure).__name__}: {text}"[:LONGEST_TEXT]
