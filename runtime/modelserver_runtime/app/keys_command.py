"""`modelserver-runtime keys`: makes, lists and revokes keys where a server finds them."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import yaml
from pydantic import ValidationError

from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.opening import key_store
from modelserver_runtime.access.principal import ApiKey
from modelserver_runtime.access.record import Grants, document_of
from modelserver_runtime.access.secret import digest_of, is_secret
from modelserver_runtime.access.stores import KeyStore
from modelserver_runtime.app.keys_flags import KEY_LIMITS
from modelserver_runtime.errors import InvalidConfiguration, KeysUnavailable, RuntimeCrash
from modelserver_runtime.settings import load_settings
from modelserver_runtime.storage import open_store
from modelserver_runtime.telemetry import Telemetry

_NOWHERE = "nowhere"
_HINT = "Set MODELSERVER_REDIS_URL or --access-state-directory to those of the server."
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLUMNS = ("id", "name", "prefix", "scopes", "models", "expires")
# A name of a Secret's entry.
_NOT_IN_A_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def run_keys(flags: Mapping[str, Any], *, standard_input: TextIO, now: float) -> str:
    """What is printed; `now` is Unix time in seconds."""
    match flags["action"]:
        case "generate":
            return _generate(flags, datetime.fromtimestamp(now, UTC))
        case "list":
            return _list(flags)
        case "revoke":
            return _revoke(flags)
        case _:
            return _hash(standard_input.read().strip())


def _generate(flags: Mapping[str, Any], now: datetime) -> str:
    expires = now + _duration(flags["expires_in"]) if flags["expires_in"] else None
    secret, key = make_key(_grants(flags), name=flags["name"], created=now, expires=expires)
    if flags["output"] == "secret":
        return _manifest(secret, key)

    async def keep(store: KeyStore) -> None:
        await store.add(key)

    place = _place(flags)
    if place != _NOWHERE:
        _with_store(flags, keep)
    if flags["output"] == "json":
        return json.dumps({"key": secret, "kept_in": place, **document_of(key)}, indent=2)
    advice = "" if place != _NOWHERE else _record_advice(key)
    return f"{secret}\n\nThis key is not shown again. Its hash is kept: {place}.{advice}"


def _record_advice(key: ApiKey) -> str:
    record = yaml.safe_dump(document_of(key), sort_keys=False).strip()
    return (
        f"\nA file with this record in the server's directory of keys makes it known:\n\n{record}"
    )


def _grants(flags: Mapping[str, Any]) -> Grants:
    content = {
        "tenant": flags["tenant"],
        "scopes": _listed(flags["scopes"]),
        "models": _listed(flags["models"]),
        "namespaces": _listed(flags["namespaces"]),
        "highest_priority": flags["highest_priority"],
        "limits": {name: flags[name] for name in KEY_LIMITS},
    }
    try:
        return Grants.model_validate(content)
    except ValidationError as error:
        sentences = [
            f"--{str(one['loc'][-1 if one['loc'][0] == 'limits' else 0]).replace('_', '-')} is "
            f"{one['input']!r}: {one['msg']}"
            for one in error.errors()
        ]
        raise InvalidConfiguration(
            "; ".join(sentences), hint="See modelserver-runtime keys generate --help."
        ) from error


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if found is None:
        raise InvalidConfiguration(
            f"--expires-in is {text!r}; it must be a number with s, m, h or d",
            hint="For ninety days: --expires-in 90d",
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _manifest(secret: str, key: ApiKey) -> str:
    """The Secret holds the record with the hash; the key itself goes to whoever uses it."""
    file = _NOT_IN_A_FILE_NAME.sub("-", key.name).strip(".-") or key.id
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "modelserver-keys"},
        "stringData": {f"{file}.yaml": yaml.safe_dump(document_of(key), sort_keys=False)},
    }
    return f"# The key, which is not shown again: {secret}\n" + yaml.safe_dump(
        manifest, sort_keys=False
    )


def _list(flags: Mapping[str, Any]) -> str:
    async def read(store: KeyStore) -> list[ApiKey]:
        if not await store.refresh() or store.problem:
            raise KeysUnavailable(store.problem or "Redis does not answer")
        return sorted(store.keys.values(), key=lambda key: (key.name, key.id))

    documents = [document_of(key) for key in _with_store(flags, read)]
    for document in documents:
        del document["hash"]
    if flags["output"] == "json":
        return json.dumps({"keys": documents}, indent=2)
    return _table([list(_COLUMNS), *([_cell(one, name) for name in _COLUMNS] for one in documents)])


def _cell(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name, "")
    return ",".join(value) if isinstance(value, list) else str(value)


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _revoke(flags: Mapping[str, Any]) -> str:
    async def remove(store: KeyStore) -> bool:
        return await store.remove(flags["id"])

    if not _with_store(flags, remove):
        raise InvalidConfiguration(
            f"There is no generated key {flags['id']!r}",
            hint="modelserver-runtime keys list has the ids; a Secret's keys are removed there.",
        )
    return f"Revoked {flags['id']}; servers follow within two seconds"


def _hash(secret: str) -> str:
    """Not from an argument, which everybody on the machine could read."""
    if not is_secret(secret):
        raise InvalidConfiguration(
            "Standard input holds no key: hf_ and 43 letters, digits, - and _",
            hint="Pipe the key into it: modelserver-runtime keys hash < key.txt",
        )
    return f"sha256:{digest_of(secret)}"


def _place(flags: Mapping[str, Any]) -> str:
    settings = load_settings(**_settings_given(flags))
    if settings.redis_url:
        return "redis"
    return "file" if settings.access_state_directory else _NOWHERE


def _settings_given(flags: Mapping[str, Any]) -> dict[str, Any]:
    names = ("access_state_directory", "config")
    return {name: flags[name] for name in names if flags.get(name)}


def _with_store[T](flags: Mapping[str, Any], work: Callable[[KeyStore], Awaitable[T]]) -> T:
    if _place(flags) == _NOWHERE:
        raise InvalidConfiguration("There is no place where generated keys are kept", hint=_HINT)

    async def run() -> T:
        settings = load_settings(**_settings_given(flags))
        redis = open_store(settings, Telemetry(), time.monotonic)  # noqa: TID251  a program of its own
        try:
            return await work(key_store(settings, redis))
        finally:
            if redis is not None:
                await redis.close()

    try:
        return asyncio.run(run())
    except KeysUnavailable as failure:
        raise RuntimeCrash(failure.message, hint=_HINT) from failure
