"""A server's guard, from its settings."""

from collections.abc import Callable

from modelserver_runtime.access.directory import KeyDirectory
from modelserver_runtime.access.guard import Guard
from modelserver_runtime.access.keyring import Keyring
from modelserver_runtime.access.ledger import Ledger
from modelserver_runtime.access.limits import Limiter
from modelserver_runtime.access.limits.shared import SharedLimits
from modelserver_runtime.access.stores import FileKeys, KeyStore, MemoryKeys, RedisKeys
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import RedisStore
from modelserver_runtime.telemetry import Telemetry


def open_guard(
    settings: Settings,
    telemetry: Telemetry,
    store: RedisStore | None,
    *,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> Guard:
    """`clock` is monotonic, `wall_clock` gives Unix time."""
    mounted = settings.access_keys_directory
    keyring = Keyring(
        directory=KeyDirectory(mounted) if mounted else None,
        generated=key_store(settings, store),
        clock=clock,
    )
    telemetry.access_problems.set_function(lambda: len(keyring.problems()))
    return Guard(
        settings,
        keyring=keyring,
        limiter=Limiter(clock, SharedLimits(store) if store else None),
        ledger=Ledger(telemetry, clock=clock, wall_clock=wall_clock, store=store),
        telemetry=telemetry,
        wall_clock=wall_clock,
    )


def key_store(settings: Settings, store: RedisStore | None) -> KeyStore:
    """Redis, which replicas share; else a file, which outlives the process; else memory."""
    if store is not None:
        return RedisKeys(store)
    directory = settings.access_state_directory
    return FileKeys(directory) if directory else MemoryKeys()
