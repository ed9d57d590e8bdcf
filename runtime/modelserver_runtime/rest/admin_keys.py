"""/admin/keys: making, listing and revoking API keys, and what they have used."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from modelserver_runtime.access.ledger import Entry
from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.principal import ApiKey, Source
from modelserver_runtime.access.record import LimitsDocument
from modelserver_runtime.errors import Conflict, InvalidRequest, ResourceNotFound
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.schemas.keys import (
    GeneratedKey,
    GenerateKey,
    KeyDescription,
    KeyList,
    KeyUsage,
    RevokedKey,
    RevokeKey,
    UsageReport,
)

router = APIRouter(tags=["Admin"], prefix="/admin/keys")

_NOTES = {
    "redis": "It is known to all replicas.",
    "file": "It is known to this replica, and outlives it.",
    "memory": "It is known to this process and ends with it: set MODELSERVER_REDIS_URL or "
    "MODELSERVER_ACCESS_STATE_DIRECTORY to keep keys.",
}


@router.post("/generate", dependencies=[NeedsJson])
async def generate_key(body: GenerateKey, context: Context) -> GeneratedKey:
    """The key is in this answer and nowhere else: only its digest is kept."""
    now = datetime.fromtimestamp(context.wall_clock(), UTC)
    secret, key = make_key(body, name=body.name, expires=_expires(body, now), created=now)
    keyring = context.guard.keyring
    await keyring.add(key)
    place = keyring.generated.place
    return GeneratedKey(
        **_description(key, context).model_dump(),
        key=secret,
        kept_in=place,
        note=f"This key is not shown again. {_NOTES[place]}",
    )


@router.get("/list")
async def list_keys(context: Context) -> KeyList:
    keyring = context.guard.keyring
    keys = sorted(await keyring.all(), key=lambda key: (key.name, key.id))
    return KeyList(
        keys=[_description(key, context) for key in keys],
        kept_in=keyring.generated.place,
        problems=dict(keyring.problems()),
    )


@router.get("/usage")
async def usage_of_keys(context: Context) -> UsageReport:
    keys = await context.guard.keyring.all()
    entries, place = await context.guard.ledger.entries([key.id for key in keys])
    is_shared = context.redis is not None and context.redis.is_reachable
    return UsageReport(
        keys=[_usage(key, entries[key.id]) for key in keys],
        counted_in=place,
        limits_counted_in="redis" if is_shared else "memory",
    )


@router.post("/revoke", dependencies=[NeedsJson])
async def revoke_key(body: RevokeKey, context: Context) -> RevokedKey:
    """Other replicas follow within two seconds."""
    return await _revoke(body.id, context)


@router.delete("/{key_id}")
async def delete_key(key_id: str, context: Context) -> RevokedKey:
    """The same as revoking it."""
    return await _revoke(key_id, context)


async def _revoke(key_id: str, context: ServerContext) -> RevokedKey:
    guard = context.guard
    known = {key.id: key for key in await guard.keyring.all()}
    key = known.get(key_id)
    if key is not None and key.source is Source.SECRET:
        raise Conflict(
            f"The key {key.name!r} comes from the mounted Secret; remove it there", param="id"
        )
    if not await guard.keyring.remove(key_id):
        raise ResourceNotFound(
            f"There is no key {key_id!r}; GET /admin/keys/list has the ids", param="id"
        )
    guard.ledger.forget(key_id)
    return RevokedKey(id=key_id)


def _expires(body: GenerateKey, now: datetime) -> datetime | None:
    if body.expires is not None and body.expires_in_seconds is not None:
        raise InvalidRequest("Give expires or expires_in_seconds, not both", param="expires")
    if body.expires_in_seconds is not None:
        return now + timedelta(seconds=body.expires_in_seconds)
    if body.expires is not None and body.expires <= now:
        raise InvalidRequest("expires is in the past; the key could never be used", param="expires")
    return body.expires


def _description(key: ApiKey, context: ServerContext) -> KeyDescription:
    limits = key.limits
    return KeyDescription(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        tenant=key.tenant,
        scopes=sorted(key.scopes),
        models=list(key.models),
        namespaces=list(key.namespaces),
        expires=key.expires,
        has_expired=key.has_expired(context.wall_clock()),
        highest_priority=key.highest_priority.name.lower(),
        limits=LimitsDocument(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            concurrent_requests=limits.concurrent_requests,
        ),
        created=key.created,
        source=key.source,
    )


def _usage(key: ApiKey, entry: Entry) -> KeyUsage:
    return KeyUsage(
        id=key.id,
        name=key.name,
        requests=entry.requests,
        errors=entry.errors,
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        last_used=datetime.fromtimestamp(entry.last_used, UTC) if entry.last_used else None,
    )
