"""The pods that this gateway talks to: connections to each, and what each has to do."""

from collections.abc import Callable
from random import Random

import orjson

from modelserver_runtime.errors import UpstreamFailure
from modelserver_runtime.gateway.balance import Balancer
from modelserver_runtime.gateway.cluster import Address, Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.headers import head_of
from modelserver_runtime.gateway.holder import Probed
from modelserver_runtime.gateway.host import Addresses
from modelserver_runtime.gateway.pool import Pool

_PROBE_SECONDS = 2.0
_OK, _UNREADY = 200, 503
_MOST_STAGE_BYTES = 64 << 10
_FETCHING = "Fetching"
_WORDS = {"WarmingUp": "warming"}


class Pods:
    def __init__(self, clock: Callable[[], float], random: Random) -> None:
        self._clock = clock
        self._random = random
        self._pools: dict[Address, Pool] = {}
        self._balancers: dict[ServerKey, Balancer[Address]] = {}

    def follow(self, directory: Directory) -> None:
        """Lets go of what is not there any more; requests that are under way end where they are."""
        models = directory.servers.values()
        present = {one for model in models for one in (*model.ready, *model.starting)}
        for address in set(self._pools) - present:
            self._pools.pop(address).close()
        for key in set(self._balancers) - set(directory.servers):
            del self._balancers[key]

    def balancer(self, model: ServedModel, pods: tuple[Address, ...]) -> Balancer[Address]:
        """That of the model, with these pods."""
        known = self._balancers.get(model.key)
        if known is None:
            known = self._balancers[model.key] = Balancer(self._random)
        if known.pods != pods:
            known.follow(pods)
        return known

    def pool(self, address: Address) -> Pool:
        known = self._pools.get(address)
        if known is None:
            known = self._pools[address] = Pool(address, self._clock, _as_it_is)
        return known

    async def probe(self, address: Address) -> Probed:
        """Never raises; who does not answer is not ready."""
        try:
            status, _ = await self._get(address, b"/readyz")
            if status == _UNREADY:
                _, report = await self._get(address, b"/startupz")
                return Probed(is_ready=False, stage=_stage(report))
            # An image of engine Custom need not have this page.
            return Probed(is_ready=status == _OK, is_silent=status != _OK)
        except UpstreamFailure:
            return Probed(is_ready=False)

    async def _get(self, address: Address, path: bytes) -> tuple[int, bytes]:
        """The status and what was answered. Raises UpstreamFailure."""
        pool = self.pool(address)
        connection = await pool.take()
        try:
            connection.ask("GET", head_of("GET", path, [(b"host", str(address).encode())]))
            head = await connection.head(_PROBE_SECONDS)
            content = b""
            while part := await connection.chunk(_PROBE_SECONDS):
                content = (content + part)[:_MOST_STAGE_BYTES]
        finally:
            pool.give_back(connection)
        return head.status, content

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def _stage(report: bytes) -> str:
    """Of /startupz: the phase, and how much of the model is there while it is fetched."""
    try:
        known = orjson.loads(report)
        phase, percent = str(known.get("phase") or ""), known.get("percent")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    word = _WORDS.get(phase, phase.lower())
    return f"{word} {percent:g} %" if phase == _FETCHING and _is_number(percent) else word


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


async def _as_it_is(host: str) -> Addresses:
    """Pods are known by address; there is nothing to look up."""
    return (host,)
