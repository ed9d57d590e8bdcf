"""A process that asks for admission again and again, as one of several replicas does.

`python -m support.limit_process URL ALGORITHM LIMIT ATTEMPTS` prints how often it was admitted.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from modelserver_runtime.access.limits import Algorithm, Charge, Unit
from modelserver_runtime.access.limits.shared import SharedLimits
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import RedisStore
from modelserver_runtime.telemetry import Telemetry

_TESTS = Path(__file__).resolve().parents[1]


def start(url: str, algorithm: Algorithm, *, limit: int, attempts: int) -> subprocess.Popen[str]:
    arguments = [url, str(algorithm), str(limit), str(attempts)]
    path = os.pathsep.join([str(_TESTS), str(_TESTS.parent / "runtime")])
    return subprocess.Popen(
        [sys.executable, "-m", "support.limit_process", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


async def _admitted(url: str, algorithm: str, limit: int, attempts: int) -> int:
    settings = Settings(redis_url=url, redis_timeout_seconds=20)
    store = RedisStore(settings, Telemetry(), time.monotonic)
    charge = Charge(
        subject="key:a",
        unit=Unit.REQUESTS,
        limit=limit,
        burst=limit,
        cost=1,
        algorithm=Algorithm(algorithm),
    )
    answers = [await SharedLimits(store).admit([charge], None) for _ in range(attempts)]
    await store.close()
    return sum(answer is not None and answer.refusal is None for answer in answers)


if __name__ == "__main__":
    url, algorithm, limit, attempts = sys.argv[1:]
    print(asyncio.run(_admitted(url, algorithm, int(limit), int(attempts))))
