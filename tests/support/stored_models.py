"""A disk full of models that load at the test's word, for the manager of several models."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends.base import LoadedModel, ModelDescription
from modelserver_runtime.engine.service import start_service
from modelserver_runtime.errors import StartupFailure
from modelserver_runtime.models.manager import ManagerRules, ModelManager
from modelserver_runtime.models.served import Keeping, ServedModel
from modelserver_runtime.settings import Settings
from modelserver_runtime.telemetry import Telemetry
from support.fake_model import CountingBackend


@dataclass(kw_only=True)
class StoredModels:
    """See `models.manager.Loader`. `sizes` are bytes by name; `loads` names what was loaded."""

    sizes: Mapping[str, int]
    free: int = 1 << 40
    seconds: float = 0
    failures: dict[str, Exception] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def fetch(self, settings: Settings, progress: Progress) -> None: ...

    def estimate_bytes(self, settings: Settings) -> int:
        return self.sizes[settings.api_name]

    def free_bytes(self, _: str) -> int:
        return self.free

    def release(self) -> None: ...

    async def load(self, settings: Settings, _: Progress) -> LoadedModel:
        self.loads.append(settings.api_name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), self.seconds)
        except TimeoutError:
            pass
        finally:
            self.at_once -= 1
        if failure := self.failures.get(settings.api_name):
            raise failure
        return stored_model(self.sizes[settings.api_name])


def stored_model(size: int) -> LoadedModel:
    description = ModelDescription(
        task="TextGeneration",
        architecture="Fake",
        parameters=0,
        dtype="none",
        device="none",
        threads=1,
        memory_bytes=size,
    )
    return LoadedModel(description=description, backend=CountingBackend())


def manager_of(stored: StoredModels, *, pinned: frozenset[str] = frozenset(), **rules: object):
    """A manager whose first name is the primary, which is not started."""
    telemetry = Telemetry()
    clock = asyncio.get_running_loop().time

    def served(index: int, name: str) -> ServedModel:
        settings = Settings(
            model_directory=Path("/nowhere") / name, served_name=name, aliases=(f"also-{name}",)
        )
        keeping = Keeping(is_primary=index == 0, is_pinned=name in pinned)
        return ServedModel(settings, telemetry.of(name, "r"), clock, keeping)

    values = {
        "max_loaded": 3,
        "budget_bytes": 0,
        "load_on_request": True,
        "failure_pause_seconds": 30,
        "drain_seconds": 5,
    }
    return ModelManager(
        [served(index, name) for index, name in enumerate(stored.sizes)],
        rules=ManagerRules(**{**values, **rules}),
        loader=stored,
        start=lambda model, loaded: start_service(loaded, model.settings, model.telemetry, clock),
        telemetry=telemetry,
        clock=clock,
    )


def failure(message: str) -> StartupFailure:
    return StartupFailure(message, hint="Look at it.")
