"""How a request body may deviate from what the server does, and what is said then."""

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from modelserver_runtime.errors import InvalidRequest


class RequestBody(BaseModel):
    """Fields that are not declared are harmless, neutral, or refused by name.

    `harmless` fields are accepted and change nothing that the client can see. `unsupported` fields
    would change the answer: they are accepted only with a value that means "not used".
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    harmless: ClassVar[frozenset[str]] = frozenset()
    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> "RequestBody":
        for name, value in (self.model_extra or {}).items():
            if name in self.harmless or value is None:
                continue
            if name not in self.unsupported:
                raise InvalidRequest(self._unknown(name), param=name)
            if value not in self.unsupported[name]:
                raise InvalidRequest(
                    f"{name} is not supported by this server; leave it away", param=name
                )
        return self

    @classmethod
    def _unknown(cls, name: str) -> str:
        known = [*cls.model_fields, *cls.harmless]
        close = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {close[0]}?" if close else "leave it away"
        return f"{name} is not a known field; {advice}"


class Answer(BaseModel):
    """Base of everything that is sent back."""

    model_config = ConfigDict(frozen=True)
