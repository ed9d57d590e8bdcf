"""Lets a request in, or says why not; afterwards counts what it has used."""

import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from modelserver_runtime.access.addresses import limited_part
from modelserver_runtime.access.caller import Caller
from modelserver_runtime.access.credentials import presented, unknown
from modelserver_runtime.access.keyring import Keyring
from modelserver_runtime.access.ledger import Ledger, Usage
from modelserver_runtime.access.limits import (
    Admission,
    Algorithm,
    Charge,
    Limiter,
    Slot,
    Unit,
    Verdict,
)
from modelserver_runtime.access.principal import ApiKey, Scope, Source, spoken
from modelserver_runtime.access.record import iso
from modelserver_runtime.errors import (
    KeysUnavailable,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
    RequestFailure,
)
from modelserver_runtime.settings import Settings
from modelserver_runtime.telemetry import Telemetry

# Of English text; what is reserved with it is corrected as soon as the truth is known.
_BYTES_PER_TOKEN = 4
# A place is given back when the answer ends; this much later nobody is left who could do it.
_SLOT_GRACE_SECONDS = 30.0
_MAKE_ADMIN_KEY = (
    "make one with `modelserver-runtime keys generate --scopes admin` and put it into the "
    "directory of MODELSERVER_ACCESS_KEYS_DIRECTORY"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is known of a request before its body is read.

    `what` names it in errors; `tokens_bytes` is the size of a body that becomes tokens, else None.
    """

    what: str
    scope: Scope
    address: str
    authorization: Sequence[str] = ()
    api_key: Sequence[str] = ()
    tokens_bytes: int | None = None
    is_copy: bool = False  # of a request that was counted where its client got the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """`failure` is why the request may not go on; `admission` is None where nothing is limited."""

    caller: Caller
    admission: Admission | None = None
    failure: RequestFailure | None = None
    is_copy: bool = False


class Guard:
    """`wall_clock` gives Unix time in seconds."""

    def __init__(
        self,
        settings: Settings,
        *,
        keyring: Keyring,
        limiter: Limiter,
        ledger: Ledger,
        telemetry: Telemetry,
        wall_clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self.keyring = keyring
        self._limiter = limiter
        self.ledger = ledger
        self._telemetry = telemetry
        self._wall_clock = wall_clock

    async def identify(self, arrival: Arrival) -> Caller:
        """Without taking anything from a limit. Raises what `admit` tells as its failure."""
        caller = await self._identify(arrival)
        await self._require_scope(caller, arrival)
        return caller

    async def admit(self, arrival: Arrival) -> Passage:
        """Whoever sends wrong keys uses up the address's share as well."""
        caller = Caller(address=arrival.address)
        failure: RequestFailure | None = None
        try:
            caller = await self.identify(arrival)
        except (NotAuthenticated, NotPermitted, KeysUnavailable) as denied:
            failure = denied
        # Of a request that goes nowhere only the address is charged.
        key = None if failure else caller.key
        if arrival.is_copy and failure is None:
            return Passage(caller=caller, is_copy=True)
        charges = list(self._charges(arrival, key))
        slot = self._slot(key)
        if not charges and slot is None:
            return Passage(caller=caller, failure=failure)
        admission = await self._limiter.admit(charges, slot)
        refusal = admission.decision.refusal
        if refusal is not None:
            self._telemetry.rate_limited.labels(refusal.unit).inc()
            failure = _rate_limited(refusal, caller)
        return Passage(caller=caller, admission=admission, failure=failure)

    async def finish(self, passage: Passage, usage: Usage, *, is_error: bool) -> None:
        """After the answer, or after nobody has waited for it."""
        key = passage.caller.key
        # Subjects of tokens are without number; who issues them can tell what they have used.
        if key is not None and key.source is not Source.TOKEN and not passage.is_copy:
            self.ledger.note(passage.caller.id, usage, is_error=is_error)
        admission = passage.admission
        if admission is not None and admission.decision.refusal is None:
            await self._limiter.finish(admission, usage.total)
        await self.ledger.flush()

    async def _identify(self, arrival: Arrival) -> Caller:
        if not self._settings.needs_keys:
            return Caller(address=arrival.address)
        secret = presented(arrival.authorization, arrival.api_key)
        key = await self.keyring.find(secret)
        if key is None:
            raise unknown(secret)
        if key.has_expired(self._wall_clock()):
            expired = iso(key.expires) if key.expires else ""
            raise NotAuthenticated(
                f"The API key {spoken(key)} expired at {expired}; ask for a new one"
            )
        return Caller(key, arrival.address)

    async def _require_scope(self, caller: Caller, arrival: Arrival) -> None:
        if arrival.scope in caller.scopes:
            return
        need = f"{arrival.what} needs an API key with the scope {arrival.scope}"
        if caller.key is None:
            raise NotPermitted(f"{need}, and this server has no keys; {_MAKE_ADMIN_KEY}")
        has = f"{spoken(caller.key)} has {', '.join(sorted(caller.scopes))}"
        if arrival.scope is Scope.ADMIN and not await self._has_admin_key():
            raise NotPermitted(f"{need}; {has}, and no key has admin: {_MAKE_ADMIN_KEY}")
        raise NotPermitted(f"{need}; {has}")

    async def _has_admin_key(self) -> bool:
        return any(Scope.ADMIN in key.scopes for key in await self.keyring.all())

    def _charges(self, arrival: Arrival, key: ApiKey | None) -> Iterator[Charge]:
        settings = self._settings
        # Of a client that has a key it is the key that counts, and not where it comes from.
        of_client = settings.client_requests_per_minute if settings.cluster else 0
        requests = settings.address_requests_per_minute or (0 if key else of_client)
        of_address = (requests, settings.address_tokens_per_minute)
        if any(of_address):
            subject = f"address:{limited_part(arrival.address)}"
            yield from self._pair(subject, *of_address, arrival)
        if key is not None:
            limits = key.limits
            requests = limits.requests_per_minute or settings.key_requests_per_minute or of_client
            tokens = limits.tokens_per_minute or settings.key_tokens_per_minute
            yield from self._pair(f"key:{key.id}", requests, tokens, arrival)

    def _pair(self, subject: str, requests: int, tokens: int, arrival: Arrival) -> Iterator[Charge]:
        if requests:
            yield self._charge(subject, Unit.REQUESTS, requests, 1)
        if tokens and arrival.tokens_bytes is not None:
            estimate = max(1, math.ceil(arrival.tokens_bytes / _BYTES_PER_TOKEN))
            yield self._charge(subject, Unit.TOKENS, tokens, estimate)

    def _charge(self, subject: str, unit: Unit, limit: int, cost: int) -> Charge:
        algorithm = Algorithm(self._settings.rate_limit_algorithm)
        burst = max(1, math.floor(limit * self._settings.rate_limit_burst))
        most = burst if algorithm is Algorithm.TOKEN_BUCKET else limit
        # An estimate above the whole limit could never be admitted; the truth is settled later.
        return Charge(
            subject=subject,
            unit=unit,
            limit=limit,
            cost=min(cost, most),
            algorithm=algorithm,
            burst=burst,
        )

    def _slot(self, key: ApiKey | None) -> Slot | None:
        if key is None:
            return None
        limit = key.limits.concurrent_requests or self._settings.key_concurrent_requests
        if not limit:
            return None
        longest = self._settings.request_timeout_seconds + _SLOT_GRACE_SECONDS
        return Slot(
            subject=f"key:{key.id}",
            limit=limit,
            holder=secrets.token_hex(8),
            longest_seconds=longest,
        )


def _rate_limited(refusal: Verdict, caller: Caller) -> RateLimited:
    is_of_key = caller.key is not None and refusal.subject == f"key:{caller.key.id}"
    who = f"The API key {spoken(caller.key)}" if is_of_key and caller.key else "This address"
    wait = refusal.wait_seconds
    if refusal.unit is Unit.CONCURRENT:
        used = f"has {refusal.limit} requests that are being answered, as many as it may"
    else:
        used = f"has used its {refusal.limit} {refusal.unit} per minute"
    return RateLimited(f"{who} {used}; try again in {wait:.1f} s", retry_after_seconds=wait)
