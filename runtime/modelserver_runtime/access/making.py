"""New keys."""

from datetime import datetime

from modelserver_runtime.access.principal import ApiKey, KeyLimits, Source
from modelserver_runtime.access.record import Grants
from modelserver_runtime.access.secret import digest_of, id_of, new_secret, shown
from modelserver_runtime.engine.request import Priority


def make_key(
    grants: Grants, *, name: str, created: datetime, expires: datetime | None = None
) -> tuple[str, ApiKey]:
    """The secret, which nothing else holds, and its record."""
    secret = new_secret()
    digest = digest_of(secret)
    key = ApiKey(
        id=id_of(digest),
        name=name,
        digest=digest,
        prefix=shown(secret),
        tenant=grants.tenant,
        scopes=grants.scopes,
        models=grants.models,
        namespaces=grants.namespaces,
        # To the second, as it is kept.
        expires=expires and expires.replace(microsecond=0),
        highest_priority=Priority[grants.highest_priority.upper()],
        limits=KeyLimits(**grants.limits.model_dump()),
        created=created.replace(microsecond=0),
        source=Source.GENERATED,
    )
    return secret, key
