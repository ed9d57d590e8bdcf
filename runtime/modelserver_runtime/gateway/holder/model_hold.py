"""The requests that wait for one model: bounded, in fair order, each until its own deadline."""

import asyncio
import contextlib
from dataclasses import replace

from modelserver_runtime.gateway.cluster import Address, HoldBounds, ServedModel
from modelserver_runtime.gateway.holder.activation import Activation, World
from modelserver_runtime.gateway.holder.fair_queue import FairQueue
from modelserver_runtime.gateway.holder.forecast import Forecast
from modelserver_runtime.gateway.holder.waiting import Held, Waiting, read_until_gone
from modelserver_runtime.gateway.refusal import Answer, Refused


class ModelHold:
    """`proven` are pods that have answered here before the directory knew it.

    `per_pod`: so many of the requests that waited are with each pod at the same time.
    """

    def __init__(self, world: World, per_pod: int) -> None:
        self.held_bytes = 0
        self.answering = 0
        self.wakings = 0
        self.proven: tuple[Address, ...] = ()
        self.forecast = Forecast()
        self._world = world
        self._per_pod = per_pod
        self._queue: FairQueue[str, Waiting] = FairQueue()
        self._activation: Activation | None = None
        self._task: asyncio.Task[None] | None = None

    # -- what there is ---------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        return not self._queue and self._task is None and not self.answering

    def pods(self, model: ServedModel) -> tuple[Address, ...]:
        return model.ready or self.proven

    def is_needed(self, model: ServedModel) -> bool:
        return self._task is not None or bool(self._queue) or not self.pods(model)

    @property
    def stage(self) -> str:
        return self._activation.stage if self._activation else ""

    # -- what happens ----------------------------------------------------------------------------

    async def wait(self, model: ServedModel, held: Held) -> None:
        """Returns when it is the request's turn, of which `done` says the end. Raises Refused."""
        self._require_room(model.hold, held)
        self._activate(model)
        seconds = self._patience(model, held)
        waiting = Waiting(held, asyncio.get_running_loop().create_future())
        self._queue.put(held.caller, waiting)
        self._count(waiting, held.body.ahead_bytes)
        self._release()
        try:
            await self._until_turn(model, waiting, seconds)
        except BaseException:
            self._leave(waiting)
            raise
        finally:
            self.held_bytes -= waiting.counted_bytes

    def done(self) -> None:
        """A request that was released has its answer."""
        self.answering -= 1
        self._release()

    def follow(self, model: ServedModel | None) -> None:
        """What the directory says now."""
        present = {*model.ready, *model.starting} if model else set()
        is_known = model is not None and bool(model.ready)
        self.proven = () if is_known else tuple(one for one in self.proven if one in present)
        if self._activation is not None:
            self._activation.look_again()
        elif self._queue and model is not None and not self.pods(model):
            self._activate(model)
        self._release()

    def refuse_all(self, answer: Answer) -> None:
        while self._queue:
            turn = self._queue.take().turn
            if not turn.done():
                turn.set_exception(Refused(answer))

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # -- how -------------------------------------------------------------------------------------

    def _activate(self, model: ServedModel) -> None:
        if self._task is None and not self.pods(model):
            self._activation = Activation(self._world)
            self._task = asyncio.create_task(self._bring_back(self._activation, model))
            self.wakings += 1

    async def _bring_back(self, activation: Activation, model: ServedModel) -> None:
        """Goes on for the longest time that anybody may wait, whether or not somebody does."""
        answer = None
        try:
            async with asyncio.timeout(model.hold.max_seconds):
                self.proven = await activation.run()
            self.forecast.note(self._world.clock() - activation.began)
        except TimeoutError:
            pass  # each request has its own time, and the next one tries again
        except Refused as refused:
            answer = refused.answer
        finally:
            self._task = self._activation = None
        if answer is not None:
            self.refuse_all(replace(answer, retry_after_seconds=self._retry_seconds(model, 0.0)))
        else:
            self._go_on()

    def _go_on(self) -> None:
        model = self._world.model()
        if self._queue and model is not None:
            self._activate(model)
        self._release()

    async def _until_turn(self, model: ServedModel, waiting: Waiting, seconds: float) -> None:
        def count(one: Waiting, size: int) -> None:
            self._count(one, size)
            if self.held_bytes > model.hold.max_bytes:
                raise Refused(self._no_room(model))

        reading = asyncio.ensure_future(read_until_gone(waiting, count))
        try:
            both = {waiting.turn, reading}
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if waiting.turn.done():
                waiting.turn.result()
            elif reading.done():
                reading.result()  # the client has gone, or sent too much
            else:
                raise Refused(self._too_late(model))
        finally:
            await _cancel(reading)

    def _require_room(self, bounds: HoldBounds, held: Held) -> None:
        size = max(held.announced_bytes, held.body.ahead_bytes)
        is_full = len(self._queue) >= bounds.max_requests
        if is_full or self.held_bytes + size > bounds.max_bytes:
            model = self._world.model()
            raise Refused(self._no_room(model))

    def _patience(self, model: ServedModel, held: Held) -> float:
        """How long the request may wait; who cannot wait long enough is told so at once."""
        longest = model.hold.max_seconds
        if held.seconds is None or held.seconds >= longest:
            return longest
        remaining = self.forecast.remaining(self._elapsed, model.cold_start_seconds)
        if self._task is not None and remaining is not None and remaining > held.seconds:
            raise Refused(self._too_late(model))
        return held.seconds

    def _count(self, waiting: Waiting, size: int) -> None:
        waiting.counted_bytes += size
        self.held_bytes += size

    def _leave(self, waiting: Waiting) -> None:
        self._queue.remove(waiting.held.caller, waiting)
        turn = waiting.turn
        if turn.done() and not turn.cancelled() and not turn.exception():
            self.done()

    def _release(self) -> None:
        model = self._world.model()
        if model is None or self._task is not None:
            return
        most = self._per_pod * len(self.pods(model))
        while self._queue and self.answering < most:
            turn = self._queue.take().turn
            if not turn.done():
                self.answering += 1
                turn.set_result(None)

    @property
    def _elapsed(self) -> float:
        return self._world.clock() - self._activation.began if self._activation else 0.0

    def _retry_seconds(self, model: ServedModel | None, elapsed: float | None = None) -> float:
        reported = model.cold_start_seconds if model else None
        passed = self._elapsed if elapsed is None else elapsed
        return self.forecast.retry_after(passed, reported)

    def _no_room(self, model: ServedModel | None) -> Answer:
        return Answer(
            status=429,
            code="hold_full",
            message="The model starts, and as many requests wait for it as may; try again later",
            retry_after_seconds=self._retry_seconds(model),
        )

    def _too_late(self, model: ServedModel) -> Answer:
        return Answer(
            status=503,
            code="hold_timeout",
            message="The model starts, and is not ready in the time that there is; try again later",
            retry_after_seconds=self._retry_seconds(model),
        )


async def _cancel(task: "asyncio.Task[None]") -> None:
    """Waits for its end: nobody may read from the client at the same time."""
    task.cancel()
    with contextlib.suppress(BaseException):
        await asyncio.wait({task})
