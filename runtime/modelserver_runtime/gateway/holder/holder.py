"""Everything that is held at this gateway: a room for each model."""

from collections.abc import Callable

from modelserver_runtime.gateway.cluster import Address, Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.holder.activation import World
from modelserver_runtime.gateway.holder.model_hold import ModelHold
from modelserver_runtime.gateway.holder.surroundings import Probe, Wakes
from modelserver_runtime.gateway.holder.waiting import Held
from modelserver_runtime.gateway.refusal import Answer

_ENDING = Answer(
    status=503,
    code="gateway_ending",
    message="This gateway is being exchanged; try again, another one answers",
    retry_after_seconds=1.0,
)


class Holder:
    """`per_pod`: so many requests that waited are with each pod at the same time."""

    def __init__(
        self, wakes: Wakes, probe: Probe, *, clock: Callable[[], float], per_pod: int
    ) -> None:
        self.rooms: dict[ServerKey, ModelHold] = {}
        self._directory = Directory()
        self._wakes = wakes
        self._probe = probe
        self._clock = clock
        self._per_pod = per_pod

    def follow(self, directory: Directory) -> None:
        self._directory = directory
        for key, room in tuple(self.rooms.items()):
            model = directory.servers.get(key)
            room.follow(model)
            if model is None and room.is_idle:
                del self.rooms[key]

    def is_needed(self, model: ServedModel) -> bool:
        """Whether a request for it has to wait."""
        room = self.rooms.get(model.key)
        return room.is_needed(model) if room else not model.ready

    def pods(self, model: ServedModel) -> tuple[Address, ...]:
        """Who may be asked: also who is ready, and of whom the API server does not know it yet."""
        room = self.rooms.get(model.key)
        return room.pods(model) if room else model.ready

    def stage(self, model: ServedModel) -> str:
        room = self.rooms.get(model.key)
        return (room.stage if room else "") or model.state

    async def wait(self, model: ServedModel, held: Held) -> None:
        """Returns when it is the request's turn, of which `done` says the end. Raises Refused."""
        await self._room(model.key).wait(model, held)

    def done(self, model: ServedModel) -> None:
        self._room(model.key).done()

    def refuse_all(self) -> None:
        """When the process ends: another gateway may still have time."""
        for room in self.rooms.values():
            room.refuse_all(_ENDING)

    def close(self) -> None:
        for room in self.rooms.values():
            room.close()

    def _room(self, key: ServerKey) -> ModelHold:
        room = self.rooms.get(key)
        if room is None:
            world = World(
                model=lambda: self._directory.servers.get(key),
                wakes=self._wakes,
                probe=self._probe,
                clock=self._clock,
            )
            room = self.rooms[key] = ModelHold(world, self._per_pod)
        return room
