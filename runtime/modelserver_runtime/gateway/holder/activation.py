"""One model on its way back: woken once, and asked until a pod of it answers.

wake (0 → 1) ─▶ pods that start are asked for /readyz ─▶ one is ready
    └ refused, or the model is gone: nobody waits in vain

It belongs to the model and not to a request: it goes on when the client that caused it has left.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from modelserver_runtime.errors import ApiRefused, ClusterFailure
from modelserver_runtime.gateway.cluster import Address, ServedModel
from modelserver_runtime.gateway.holder.surroundings import Probe, Probed, Wakes
from modelserver_runtime.gateway.refusal import Answer, Refused

log = logging.getLogger(__name__)

_ROUND_SECONDS = 0.25
# A wake-up that came to nothing, as when somebody put the model to sleep again.
_WAKE_AGAIN_SECONDS = 30.0
_TRY_WAKING_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`model` is what the directory says now, None where there is no such server any more."""

    model: Callable[[], ServedModel | None]
    wakes: Wakes
    probe: Probe
    clock: Callable[[], float]


class Activation:
    """`stage` is how far the start has come, in words."""

    def __init__(self, world: World) -> None:
        self.began = world.clock()
        self.stage = ""
        self._world = world
        self._next_wake = self.began
        self._news = asyncio.Event()

    def look_again(self) -> None:
        """Something has changed."""
        self._news.set()

    async def run(self) -> tuple[Address, ...]:
        """The pods that are ready. Raises Refused where waiting is in vain."""
        while True:
            model = self._world.model()
            if model is None:
                raise Refused(_answer(404, "model_not_found", "The model was deleted meanwhile"))
            if model.problem:
                raise Refused(_answer(503, "model_failed", f"It cannot start: {model.problem}"))
            await self._wake(model)
            if ready := await self._ready(model):
                return ready
            await self._pause()

    async def _wake(self, model: ServedModel) -> None:
        has_pods = model.ready or model.starting
        if has_pods or not model.may_sleep or self._world.clock() < self._next_wake:
            return
        try:
            has_woken = await self._world.wakes.wake(model)
        except ApiRefused as error:
            log.warning("%s cannot be woken: %s", model.key, error)
            message = "It sleeps, and the gateway may not wake it"
            raise Refused(_answer(503, "wake_refused", message)) from error
        except ClusterFailure as error:
            log.warning("%s could not be woken yet: %s", model.key, error)
            self._next_wake = self._world.clock() + _TRY_WAKING_AGAIN_SECONDS
            return
        self._next_wake = self._world.clock() + _WAKE_AGAIN_SECONDS
        log.info("%s is being woken" if has_woken else "%s was woken by others", model.key)

    async def _ready(self, model: ServedModel) -> tuple[Address, ...]:
        candidates = (*model.ready, *model.starting)
        probed = await asyncio.gather(*map(self._world.probe, candidates))
        self.stage = _furthest(probed) or model.state
        return tuple(
            address
            for address, one in zip(candidates, probed, strict=True)
            if one.is_ready or (one.is_silent and address in model.ready)
        )

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), _ROUND_SECONDS)
        self._news.clear()


def _furthest(probed: list[Probed]) -> str:
    return max((one.stage for one in probed), default="")


def _answer(status: int, code: str, message: str) -> Answer:
    return Answer(status=status, code=code, message=message)
