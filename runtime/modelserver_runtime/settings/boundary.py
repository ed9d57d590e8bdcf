"""What browsers may do with the server's answers."""

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

ANY_ORIGIN = "*"


class BoundarySettings(BaseModel):
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")], ...] = Field(
        (),
        description="origins whose pages may call the server, such as https://chat.example; "
        "* is every one",
    )
    cors_credentials: bool = Field(
        default=False, description="those pages may send cookies; needs named origins"
    )
    hsts_seconds: Annotated[int, Field(ge=0)] = Field(
        0,
        description="how long browsers are to insist on https (Strict-Transport-Security); "
        "0: it is not said",
    )

    @model_validator(mode="after")
    def _refuse_credentials_for_all(self) -> "BoundarySettings":
        if self.cors_credentials and ANY_ORIGIN in self.cors_origins:
            raise ValueError(
                "cors_credentials is true and cors_origins has *, so that any page could act in "
                "the name of its visitor; name the origins"
            )
        return self
