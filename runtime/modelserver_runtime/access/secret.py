"""The secret half of an API key: made, recognised, and only ever stored as its digest."""

import hashlib
import re
import secrets
from typing import NewType

# SHA-256 in hex.
Digest = NewType("Digest", str)

BEGINNING = "hf_"
_SECRET_BYTES = 32
# 32 bytes in base64 without padding.
_SECRET = re.compile(r"hf_[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Enough to tell one key from another in a list; 30 of 256 bits help nobody to guess the rest.
_SHOWN_CHARACTERS = len(BEGINNING) + 5


def new_secret() -> str:
    return BEGINNING + secrets.token_urlsafe(_SECRET_BYTES)


def is_secret(text: str) -> bool:
    return _SECRET.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def digest_of(secret: str) -> Digest:
    """A slow hash protects what people make up; 256 random bits cannot be guessed anyway."""
    return Digest(hashlib.sha256(secret.encode()).hexdigest())


def id_of(digest: Digest) -> str:
    """The same on every replica; it tells nothing about the key that could be used."""
    return f"key_{digest[:16]}"


def shown(secret: str) -> str:
    """The beginning, by which people recognise a key."""
    return secret[:_SHOWN_CHARACTERS]
