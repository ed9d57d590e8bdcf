"""The router: knows the present route, and passes each request on by it."""

import random

from modelserver_runtime.gateway.body import Receive, Scope, Send
from modelserver_runtime.gateway.choice import Chooser
from modelserver_runtime.gateway.counts import Tally
from modelserver_runtime.gateway.exchange import Exchange
from modelserver_runtime.gateway.hold import Holder
from modelserver_runtime.gateway.mirror import Mirroring, MirrorLimits
from modelserver_runtime.gateway.passing import Way
from modelserver_runtime.gateway.pool import Clock, Pool
from modelserver_runtime.gateway.reaching import until_reachable
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.gateway.route import Route


class Router:
    """An ASGI application."""

    def __init__(self, clock: Clock, limits: MirrorLimits) -> None:
        self.clock = clock
        self.tally = Tally()
        self.way: Way | None = None
        self.is_draining = False
        self._random = random.Random()  # noqa: S311  divides traffic
        self.holder = Holder(clock)
        self.mirroring = Mirroring(limits, self.tally.shadow, self._random)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Exchange(self, Request.of(scope), send).run(receive)

    def follow(self, route: Route) -> None:
        """From now on; requests that are under way end where they began."""
        before = self.way
        pools = {name: self._pool(name, target.address) for name, target in route.revisions.items()}
        chooser = Chooser(route, self._random, before.chooser if before else None)
        self.way = Way(route=route, chooser=chooser, pools=pools)
        self.mirroring.follow(route.mirror)
        receiving = [pools[name] for name in route.shares]
        # After the way is there: who waited goes it as soon as it leads somewhere.
        self.holder.follow(route.hold, lambda: until_reachable(receiving))
        for revision in route.revisions:
            self.tally.of_revision(revision)
        for experiment in route.experiments:
            self.tally.of_experiment(experiment.name)
        if before is not None:
            for pool in set(before.pools.values()) - set(pools.values()):
                pool.close()

    def begin_drain(self) -> None:
        """From now on it is not ready, and says with each answer that it will close."""
        self.is_draining = True

    def _pool(self, revision: str, address: tuple[str, int]) -> Pool:
        known = self.way.pools.get(revision) if self.way else None
        return known if known and known.address == address else Pool(address, self.clock)

    def close(self) -> None:
        """After the last request."""
        self.holder.close()
        self.mirroring.close()
        for pool in self.way.pools.values() if self.way else ():
            pool.close()
