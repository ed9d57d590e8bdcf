"""The key that a request brings: Authorization or X-API-Key."""

from collections.abc import Sequence

from modelserver_runtime.access.secret import is_secret, shown
from modelserver_runtime.errors import NotAuthenticated

_HOW = "send it as Authorization: Bearer hf_... or X-API-Key: hf_..."


def presented(authorization: Sequence[str], api_key: Sequence[str]) -> str:
    """All values of both headers in, one key or token out; raises NotAuthenticated."""
    keys = {_bearer(value) for value in authorization} | {value.strip() for value in api_key}
    if not keys:
        raise NotAuthenticated(f"No API key was sent; {_HOW}")
    if len(keys) > 1:
        raise NotAuthenticated("Several different API keys were sent; send one")
    [key] = keys
    if not key:
        raise NotAuthenticated(f"The API key is empty; {_HOW}")
    return key


def require_form(key: str) -> None:
    """Raises NotAuthenticated."""
    if not is_secret(key):
        raise NotAuthenticated(
            f"This is no API key of this server: {_flaw(key)}; check that it was copied as a whole"
        )


def is_token(credential: str) -> bool:
    """A JSON Web Token, by its form: header, payload and signature. API keys have no dots."""
    return credential.count(".") == 2  # noqa: PLR2004  between three parts


def unknown(key: str) -> NotAuthenticated:
    return NotAuthenticated(
        f"The API key {shown(key)}... is not known here; it may have been revoked, or be a key of "
        "another server"
    )


def _bearer(value: str) -> str:
    scheme, _, credentials = value.strip().partition(" ")
    if scheme.lower() != "bearer":
        # What is in the header could be a key without its scheme, so it is not shown.
        raise NotAuthenticated(f"Authorization is not of the form Bearer hf_...; {_HOW}")
    return credentials.strip()


def _flaw(key: str) -> str:
    if not key.startswith("hf_"):
        return "keys begin with hf_"
    if len(key) != len("hf_") + 43:
        return f"keys have 46 characters, and this one has {len(key)}"
    return "it holds characters other than letters, digits, - and _"
