"""JSON Web Tokens of one issuer, in the place of API keys: who has signed, and what is allowed.

A token becomes an `ApiKey` of its own, so that everything behind knows only keys. Only signatures
that a public key checks are accepted: never `none`, and never one with a shared secret.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from modelserver_runtime.access.issuer_keys import IssuerKeys
from modelserver_runtime.access.principal import ApiKey, Scope, Source
from modelserver_runtime.access.secret import digest_of
from modelserver_runtime.errors import NotAuthenticated

_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
# Clocks of different machines.
_LEEWAY_SECONDS = 30
_REQUIRED = ["exp", "iss", "aud", "sub"]
# What is larger would not pass as a header at most proxies.
_LONGEST_TOKEN = 16 << 10
_SUBJECT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_SPOKEN_CHARACTERS = 16

_SENTENCES: Mapping[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired; ask its issuer for a new one",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuedAtError: "it was issued in the future",
    jwt.InvalidAudienceError: "it is meant for somebody else (aud)",
    jwt.InvalidIssuerError: "it is of another issuer (iss)",
    jwt.InvalidSignatureError: "its signature is not that of its issuer",
    jwt.InvalidAlgorithmError: "it is not signed in a way that is accepted here (alg)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Which claim says what: scopes, allowed models, allowed namespaces."""

    scopes: str = "scope"
    models: str = "models"
    namespaces: str = "namespaces"


class Tokens:
    def __init__(self, issuer: str, audience: str, claims: Claims, keys: IssuerKeys) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._claims = claims
        self._decoder = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    async def key_of(self, token: str) -> ApiKey:
        """What the token allows. Raises NotAuthenticated, KeysUnavailable."""
        key = await self.keys.find(_kid(token))
        if key is None:
            raise _refused("its issuer has no key with its kid")
        try:
            payload = self._decoder.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise _refused(_sentence(error)) from error
        return self._key(token, payload)

    def _key(self, token: str, payload: Mapping[str, Any]) -> ApiKey:
        subject = payload["sub"]
        if not _SUBJECT.fullmatch(subject):
            raise _refused("sub must have 1 to 256 printable characters")
        return ApiKey(
            # Of the subject and not of the token, so that a new token begins no new limits.
            id=f"jwt_{digest_of(f'{self._issuer} {subject}')[:_SPOKEN_CHARACTERS]}",
            name=subject,
            digest=digest_of(token),
            scopes=_scopes(_words(payload, self._claims.scopes) or ()),
            models=tuple(_words(payload, self._claims.models) or ()),
            namespaces=tuple(_words(payload, self._claims.namespaces) or ()),
            expires=datetime.fromtimestamp(payload["exp"] + _LEEWAY_SECONDS, UTC),
            source=Source.TOKEN,
        )


def _kid(token: str) -> str:
    if len(token) > _LONGEST_TOKEN:
        raise _refused(f"it has more than {_LONGEST_TOKEN} characters")
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError as error:
        raise _refused("it is not of the form of a JSON Web Token") from error
    if not isinstance(kid, str):
        raise _refused("it does not say which key has signed it (kid)")
    return kid


def _words(payload: Mapping[str, Any], claim: str) -> Sequence[str] | None:
    """A list of texts, or one text with spaces between; None where it is not said.

    One that is empty allows nothing, where in an `ApiKey` it would allow everything.
    """
    value = payload.get(claim)
    if value is None:
        return None
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(one, str) for one in words):
        raise _refused(f"its claim {claim} must be a list of texts, or one with spaces between")
    return words


def _scopes(words: Sequence[str]) -> frozenset[Scope]:
    """What is none of ours is for somebody else."""
    return frozenset(scope for scope in Scope if scope in words)


def _sentence(error: jwt.PyJWTError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no {error.claim}"
    return next(
        (text for kind, text in _SENTENCES.items() if isinstance(error, kind)), "it is malformed"
    )


def _refused(reason: str) -> NotAuthenticated:
    return NotAuthenticated(f"The token is not accepted: {reason}")
