"""The public keys of who issues tokens: asked for over HTTP, kept, and asked for anew now and then.

unknown `kid` ─▶ asked at once, but never within a minute of the last time
older than ten minutes ─▶ asked; a key that its issuer has withdrawn works for so long
no answer ─▶ those that are known go on to count
"""

import asyncio
import json
import logging
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Never

import jwt

from modelserver_runtime.errors import KeysUnavailable

log = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
# Anybody can send tokens with a `kid` that nobody has; the issuer is not asked for each of them.
PAUSE_SECONDS = 60.0
_ANSWER_SECONDS = 5.0
# An issuer has a handful of keys of a kilobyte each.
_LARGEST_ANSWER_BYTES = 1 << 20
_DISCOVERY = "/.well-known/openid-configuration"

type Document = Mapping[str, Any]
type Fetch = Callable[[str], Awaitable[Document]]


class IssuerSilent(Exception):
    """The issuer did not answer, or with something else; the text says what."""


class IssuerKeys:
    """`jwks_url` may be empty: then the issuer's own description says it. `clock` is monotonic."""

    def __init__(
        self, issuer: str, jwks_url: str, *, clock: Callable[[], float], fetch: Fetch
    ) -> None:
        self.problem = ""
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._fetch = fetch
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._known_at = float("-inf")
        self._asking = asyncio.Lock()

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """Raises KeysUnavailable when the issuer has never said any."""
        if kid not in self._keys or self._clock() >= self._known_at + FRESH_SECONDS:
            await self._ask_if_due()
        if not self._keys:
            raise KeysUnavailable(
                f"Tokens cannot be checked now: {self.problem}; try again",
                retry_after_seconds=PAUSE_SECONDS,
            )
        return self._keys.get(kid)

    async def _ask_if_due(self) -> None:
        async with self._asking:
            if self._clock() < self._asked_at + PAUSE_SECONDS:
                return
            self._asked_at = self._clock()
            try:
                self._keys = await self._ask()
            except IssuerSilent as silence:
                self._say(str(silence))
                return
            self._known_at = self._clock()
            self._say("")

    async def _ask(self) -> dict[str, jwt.PyJWK]:
        url = self._jwks_url or await self._discover()
        document = await self._fetch(url)
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise IssuerSilent(f"{url} holds no list of keys")
        found = dict(filter(None, map(_key, keys)))
        if not found:
            raise IssuerSilent(f"{url} holds no public key with a kid that signs")
        return found

    async def _discover(self) -> str:
        url = self._issuer.rstrip("/") + _DISCOVERY
        found = (await self._fetch(url)).get("jwks_uri")
        if not isinstance(found, str) or not found.startswith(("https://", "http://")):
            raise IssuerSilent(f"{url} names no jwks_uri")
        return found

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("The keys of %s cannot be read: %s", self._issuer, problem)
        self.problem = problem


def _key(item: Any) -> tuple[str, jwt.PyJWK] | None:
    """None for what is of a kind that is not known here, or is for something else."""
    if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") == "oct":
        return None
    kid = item.get("kid")
    try:
        return (kid, jwt.PyJWK(item)) if isinstance(kid, str) else None
    except jwt.PyJWTError:
        return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


async def fetch_json(url: str) -> Document:
    """Raises IssuerSilent."""
    return await asyncio.to_thread(_fetch, url)


def _fetch(url: str) -> Document:
    try:
        # The settings allow http and https only.
        with urllib.request.build_opener(_NoRedirects).open(url, timeout=_ANSWER_SECONDS) as answer:
            content = answer.read(_LARGEST_ANSWER_BYTES + 1)
    except (OSError, ValueError) as error:  # urllib's own are OSErrors
        _silent(url, str(error), error)
    if len(content) > _LARGEST_ANSWER_BYTES:
        raise IssuerSilent(f"{url} is larger than {_LARGEST_ANSWER_BYTES} bytes")
    try:
        document = json.loads(content)
    except ValueError as error:
        _silent(url, "it is no JSON", error)
    if not isinstance(document, dict):
        raise IssuerSilent(f"{url} is no JSON object")
    return document


def _silent(url: str, reason: str, error: Exception) -> Never:
    raise IssuerSilent(f"{url} cannot be read: {reason}") from error
