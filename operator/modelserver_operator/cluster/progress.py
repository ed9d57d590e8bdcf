"""Asks starting pods how far they are; their answers are read, never trusted."""

import asyncio
from collections.abc import Iterable
from typing import Any

import aiohttp
import orjson

from modelserver_operator.plan.values import Manifest, PodProgress

PORT = 8080
PATH = "/startupz"
PATIENCE = aiohttp.ClientTimeout(total=1.5, sock_connect=1)
MOST_BYTES = 16 * 1024
MOST_PODS_AT_ONCE = 8
LONGEST_TEXT = 512


class ProgressProbe:
    """Reads `GET /startupz` of pods over their own addresses, without credentials."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._slots = asyncio.Semaphore(MOST_PODS_AT_ONCE)

    async def read(self, pods: Iterable[Manifest]) -> dict[str, PodProgress]:
        """By pod name; a pod that does not answer, or not in these words, is left out."""
        starting = [pod for pod in pods if is_starting(pod)]
        answers = await asyncio.gather(*(self._ask(pod) for pod in starting))
        pairs = zip(starting, answers, strict=True)
        return {pod["metadata"]["name"]: answer for pod, answer in pairs if answer}

    async def _ask(self, pod: Manifest) -> PodProgress | None:
        address = pod["status"]["podIP"]
        host = f"[{address}]" if ":" in address else address
        try:
            async with (
                self._slots,
                self._session.get(
                    f"http://{host}:{PORT}{PATH}", timeout=PATIENCE, allow_redirects=False
                ) as response,
            ):
                return progress_of(orjson.loads(await _body(response)))
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, OverflowError):
            return None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
    return body


def open_probe_session() -> aiohttp.ClientSession:
    """No proxy and no kept connections: pods come and go."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), trust_env=False)


def is_starting(pod: Manifest) -> bool:
    status = pod.get("status") or {}
    running = status.get("phase") in {"Pending", "Running"} and bool(status.get("podIP"))
    return running and not _is_ready(status) and "deletionTimestamp" not in pod["metadata"]


def _is_ready(status: Manifest) -> bool:
    conditions = status.get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def progress_of(answer: Any) -> PodProgress:
    """Raises ValueError or TypeError where the answer is not what the runtime writes."""
    if not isinstance(answer, dict):
        raise TypeError("not a JSON object")
    eta = answer.get("etaSeconds")
    return PodProgress(
        phase=str(answer.get("phase", ""))[:LONGEST_TEXT],
        percent=min(100.0, max(0.0, float(answer.get("percent", 0)))),
        done_bytes=max(0, int(answer.get("doneBytes", 0))),
        total_bytes=max(0, int(answer.get("totalBytes", 0))),
        eta_seconds=None if eta is None else max(0.0, float(eta)),
        message=str(answer.get("message", ""))[:LONGEST_TEXT],
    )
