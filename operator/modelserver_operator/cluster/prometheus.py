"""Asks the Prometheus of the operator's own configuration; its answers are read, never trusted."""

from typing import Any

import aiohttp
import orjson

from modelserver_operator.cluster.bodies import read_at_most

PATIENCE = aiohttp.ClientTimeout(total=10, sock_connect=2)
LONGEST_TEXT = 200
NOT_CONFIGURED = "this operator has no Prometheus; set MODELSERVER_OPERATOR_PROMETHEUS_URL"

NO_ANSWER = (
    aiohttp.ClientError,
    TimeoutError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
)


class Prometheus:
    """Without credentials. Whatever goes wrong is one of `NO_ANSWER`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    @property
    def is_configured(self) -> bool:
        return bool(self._url)

    async def query(self, text: str, *, most_bytes: int) -> Any:
        """The `data` of an instant query; by POST, since the names of many pods are long."""
        async with self._session.post(
            f"{self._url}/api/v1/query",
            data={"query": text},
            timeout=PATIENCE,
            allow_redirects=False,
        ) as response:
            answer = orjson.loads(await read_at_most(response, most_bytes))
        if answer["status"] != "success":
            raise ValueError(f"Prometheus refuses the query: {answer.get('error')}")
        return answer["data"]


def said(failure: BaseException) -> str:
    """In a sentence of a status."""
    text = str(failure) or "no answer in time"
    return f"{type(failure).__name__}: {text}"[:LONGEST_TEXT]
