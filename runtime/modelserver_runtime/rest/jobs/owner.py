"""Whose a job is, and with whose rights it runs."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A job's requests carry the credentials of the request that began it, in `headers`.

    So limits count, and a key that was revoked since then ends it.
    """

    tenant: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    client: tuple[str, int] | None = None
