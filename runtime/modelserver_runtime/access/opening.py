"""A server's guard, from its settings."""

from collections.abc import Callable

from modelserver_runtime.access.directory import KeyDirectory
from modelserver_runtime.access.guard import Guard
from modelserver_runtime.access.keyring import Keyring, TokenReader
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
    replicas: Callable[[], int] = lambda: 1,
) -> Guard:
    """`clock` is monotonic, `wall_clock` gives Unix time.

    `replicas` is asked for each request where limits are not counted together in `store`.
    """
    mounted = settings.access_keys_directory
    keyring = Keyring(
        directory=KeyDirectory(mounted) if mounted else None,
        generated=key_store(settings, store),
        clock=clock,
        tokens=_tokens(settings, clock) if settings.jwt_issuer else None,
    )
    telemetry.access_problems.set_function(lambda: len(keyring.problems()))
    return Guard(
        settings,
        keyring=keyring,
        limiter=Limiter(clock, SharedLimits(store) if store else None, replicas),
        ledger=Ledger(telemetry, clock=clock, wall_clock=wall_clock, store=store),
        telemetry=telemetry,
        wall_clock=wall_clock,
    )


def _tokens(settings: Settings, clock: Callable[[], float]) -> TokenReader:
    # Cryptography takes a moment to import, and most servers know no issuer.
    from modelserver_runtime.access.issuer_keys import IssuerKeys, fetch_json  # noqa: PLC0415
    from modelserver_runtime.access.tokens import Claims, Tokens  # noqa: PLC0415

    issuer = settings.jwt_issuer
    keys = IssuerKeys(issuer, settings.jwks_url, clock=clock, fetch=fetch_json)
    claims = Claims(
        scopes=settings.jwt_scopes_claim,
        models=settings.jwt_models_claim,
        namespaces=settings.jwt_namespaces_claim,
    )
    return Tokens(issuer, settings.jwt_audience, claims, keys)


def key_store(settings: Settings, store: RedisStore | None) -> KeyStore:
    """Redis, which replicas share; else a file, which outlives the process; else memory."""
    if store is not None:
        return RedisKeys(store)
    directory = settings.access_state_directory
    return FileKeys(directory) if directory else MemoryKeys()
