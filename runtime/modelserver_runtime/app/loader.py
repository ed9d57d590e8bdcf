"""Loads the model in a thread of its own, while the event loop answers probes."""

import asyncio
import gc
import importlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from modelserver_runtime.artifacts import (
    ArtifactPolicy,
    HubAccess,
    ModelSource,
    Phase,
    Progress,
    check_directory,
    fetch,
)
from modelserver_runtime.artifacts.contents import contents_digest
from modelserver_runtime.backends.base import LoadedModel
from modelserver_runtime.backends.detection import identify
from modelserver_runtime.backends.lean_imports import import_transformers, without_compiler
from modelserver_runtime.backends.machine import available_memory_bytes
from modelserver_runtime.errors import LoadTimeout, RuntimeCrash, StartupFailure
from modelserver_runtime.models.estimate import estimate_bytes
from modelserver_runtime.process.collecting import uncollected
from modelserver_runtime.settings import Settings

log = logging.getLogger(__name__)

HUB_SCHEME = "hf://"

type Load = Callable[[Settings, Progress], LoadedModel]


def load(settings: Settings, progress: Progress) -> LoadedModel:
    """Refuses what it can before it imports torch, which takes seconds."""
    check_directory(settings.model_directory, policy=source_of(settings).policy)
    identity = identify(settings.model_directory, settings.task)
    _import_libraries()
    from modelserver_runtime.backends.loading import LoadOptions  # noqa: PLC0415
    from modelserver_runtime.backends.registry import DeviceRequest, load_model  # noqa: PLC0415

    options = LoadOptions(
        directory=settings.model_directory,
        name=settings.api_name,
        dtype=settings.dtype,
        max_model_length=settings.max_model_length,
        allow_pickle=settings.allow_pickle,
        trust_remote_code=settings.trust_remote_code,
        threads=settings.threads,
        speculative_tokens=settings.speculative_tokens,
    )
    request = DeviceRequest(
        device=settings.device, order=settings.device_order, may_fall_back=settings.device_fallback
    )
    with without_compiler():
        model = load_model(options, identity, progress, request)
    contents = contents_digest(settings.model_directory)
    return replace(model, description=replace(model.description, contents=contents))


@cache
def _import_libraries() -> None:
    """Modules are no garbage, so that no later collection need look at what they hold."""
    with uncollected():
        import_transformers()
        importlib.import_module("modelserver_runtime.backends.registry")
        gc.freeze()


def fetch_then_load(settings: Settings, progress: Progress) -> LoadedModel:
    """For a laptop, where no init container has fetched the model."""
    progress.enter(Phase.FETCHING)
    fetch(
        source_of(settings),
        directory=settings.model_directory,
        hub=hub_of(settings),
        progress=progress,
    )
    return load(settings, progress)


def hub_of(settings: Settings) -> HubAccess:
    return HubAccess(endpoint=settings.hub_endpoint, token=settings.hf_token)


def source_of(settings: Settings) -> ModelSource:
    policy = ArtifactPolicy(
        allow_pickle=settings.allow_pickle, trust_remote_code=settings.trust_remote_code
    )
    return ModelSource(uri=settings.model_uri, revision=settings.model_revision, policy=policy)


def load_to_stay(load_model: Load) -> Load:
    """For a model that is never unloaded: what was made until then is no garbage, ever."""

    def load_and_freeze(settings: Settings, progress: Progress) -> LoadedModel:
        model = load_model(settings, progress)
        gc.collect()
        gc.freeze()
        return model

    return load_and_freeze


class DiskLoader:
    """See `models.manager.Loader`: for the models beside the primary."""

    def __init__(self, load_model: Load = load) -> None:
        self._load = load_model

    async def fetch(self, settings: Settings, progress: Progress) -> None:
        await asyncio.to_thread(self._fetch, settings, progress)

    def _fetch(self, settings: Settings, progress: Progress) -> None:
        source = source_of(settings)
        if settings.model_uri.startswith(HUB_SCHEME):
            progress.enter(Phase.FETCHING)
            directory, hub = settings.model_directory, hub_of(settings)
            fetch(source, directory=directory, hub=hub, progress=progress)
        check_directory(settings.model_directory, policy=source.policy)

    def estimate_bytes(self, settings: Settings) -> int:
        return estimate_bytes(settings)

    def free_bytes(self, device: str) -> int:
        if not device.startswith("cuda"):
            return available_memory_bytes()
        from modelserver_runtime.backends.loading import free_bytes  # noqa: PLC0415

        return free_bytes(device)

    async def load(self, settings: Settings, progress: Progress) -> LoadedModel:
        return await load_in_thread(self._load, settings, progress)

    def release(self) -> None:
        """A model is a net of objects that hold each other, and torch keeps what a GPU freed."""
        gc.collect()
        from modelserver_runtime.backends.loading import empty_caches  # noqa: PLC0415

        empty_caches()


async def load_in_thread(load_model: Load, settings: Settings, progress: Progress) -> LoadedModel:
    """Every failure is a StartupFailure; a thread that is too late is left behind."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[LoadedModel] = loop.create_future()

    def work() -> None:
        try:
            model = load_model(settings, progress)
        except StartupFailure as failure:
            _settle(loop, result, failure)
        except Exception as error:
            log.exception("Loading failed")
            crash = RuntimeCrash(
                f"Loading failed: {type(error).__name__}: {error}",
                hint="The log has the whole trace.",
            )
            _settle(loop, result, crash)
        else:
            _settle(loop, result, model)

    threading.Thread(target=work, name="loader", daemon=True).start()
    try:
        async with asyncio.timeout(settings.load_timeout_seconds):
            return await result
    except TimeoutError as error:
        raise LoadTimeout(
            f"The model was not ready after {settings.load_timeout_seconds:.0f} s "
            f"({progress.report().phase})",
            hint="Give it more processors, choose a smaller model, or raise the time to load.",
        ) from error


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[LoadedModel]",
    outcome: LoadedModel | StartupFailure,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if isinstance(outcome, StartupFailure):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
