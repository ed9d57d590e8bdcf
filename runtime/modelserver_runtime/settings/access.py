"""Who may use the server, and how much of it."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(
            f"{value!r} is no address and no network; write one like 10.0.0.0/8"
        ) from error


type Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class AccessSettings(BaseModel):
    access_enabled: bool = Field(
        default=False,
        description="every route needs a key, but for probes; true with a directory for keys",
    )
    access_keys_directory: Path | None = Field(
        None, description="directory of a mounted Secret: each file holds a key, or its record"
    )
    access_state_directory: Path | None = Field(
        None, description="directory where generated keys are kept when there is no Redis"
    )
    access_metrics_public: bool = Field(
        default=True, description="/metrics needs no key; else one with the scope metrics"
    )
    access_docs_public: bool = Field(
        default=False, description="/docs, /redoc and /openapi.json need no key"
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (),
        description="addresses and networks of proxies whose X-Forwarded-For is believed, a list",
    )
    rate_limit_algorithm: Literal["sliding_window", "token_bucket"] = Field(
        "sliding_window",
        description="sliding_window: never more than the limit in any minute; token_bucket: "
        "bursts, then evenly",
    )
    rate_limit_burst: Annotated[float, Field(gt=0, le=10)] = Field(
        1.0, description="for token_bucket: what may be taken at once, as a part of the limit"
    )
    key_requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        0, description="for each key whose record has no limit of its own; 0: none"
    )
    key_tokens_per_minute: Annotated[int, Field(ge=0)] = Field(
        0, description="prompt and answer together, for each key; 0: none"
    )
    key_concurrent_requests: Annotated[int, Field(ge=0)] = Field(
        0, description="requests of each key that are answered at the same time; 0: any"
    )
    address_requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        0, description="for each client's address, with a key or without; 0: none"
    )
    address_tokens_per_minute: Annotated[int, Field(ge=0)] = Field(
        0, description="prompt and answer together, for each client's address; 0: none"
    )

    jwt_issuer: Annotated[str, Field(pattern=r"^(https?://[^\s?#]+)?$")] = Field(
        "", description="who issues JSON Web Tokens that are taken in the place of keys: their iss"
    )
    jwt_audience: str = Field("", description="for whom such tokens must be: their aud")
    jwks_url: Annotated[str, Field(pattern=r"^(https?://[^\s#]+)?$")] = Field(
        "", description="where the issuer's public keys are; empty: where the issuer says itself"
    )
    jwt_scopes_claim: str = Field(
        "scope", description="claim with the scopes: inference, models, admin, metrics"
    )
    jwt_models_claim: str = Field(
        "models", description="claim with patterns of the models that may be used; without: all"
    )
    jwt_namespaces_claim: str = Field(
        "namespaces", description="claim with the namespaces whose models may be used; without: all"
    )

    @property
    def needs_keys(self) -> bool:
        directories = (self.access_keys_directory, self.access_state_directory)
        return self.access_enabled or bool(self.jwt_issuer) or any(directories)

    @model_validator(mode="after")
    def _require_audience(self) -> "AccessSettings":
        if self.jwt_issuer and not self.jwt_audience:
            raise ValueError(
                "jwt_issuer is set without jwt_audience, so that tokens for every other service "
                "of the issuer would do; name what the tokens for this one have as aud"
            )
        return self

    @model_validator(mode="after")
    def _require_place_for_keys(self) -> "AccessSettings":
        if self.needs_keys and not self._has_place:
            raise ValueError(
                "access_enabled is true, and there is no place where a first key could be; set "
                "access_keys_directory, access_state_directory, redis_url or jwt_issuer"
            )
        return self

    @property
    def _has_place(self) -> bool:
        redis_url: str = getattr(self, "redis_url", "")
        places = (self.access_keys_directory, self.access_state_directory)
        return bool(any(places) or redis_url or self.jwt_issuer)
