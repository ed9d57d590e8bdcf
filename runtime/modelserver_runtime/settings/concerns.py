"""The settings in groups, one for each mixin, in the order in which people are shown them."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """`text` is the sentence of the mixin's module."""

    title: str
    text: str
    fields: Mapping[str, FieldInfo]


def concerns_of(settings: type[BaseSettings]) -> Iterator[Concern]:
    for mixin in settings.__bases__:
        if mixin is not BaseSettings and issubclass(mixin, BaseModel):
            yield Concern(
                title=_title(mixin), text=_sentence(mixin), fields=dict(mixin.model_fields)
            )


def _title(mixin: type[BaseModel]) -> str:
    words = re.findall(r"[A-Z][a-z]*", mixin.__name__.removesuffix("Settings"))
    return " ".join(words).capitalize()


def _sentence(mixin: type[BaseModel]) -> str:
    return (sys.modules[mixin.__module__].__doc__ or "").strip().partition("\n\n")[0]


def is_secret(field: FieldInfo) -> bool:
    """Whether it must not be shown; a flag is seen by everybody on the machine."""
    return not field.repr
