"""Settings as flags of a command line: in groups, with their variables and defaults."""

import argparse
import json
from collections.abc import Collection, Mapping
from enum import StrEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from modelserver_runtime.settings.concerns import concerns_of, is_secret
from modelserver_runtime.settings.names import flag_of, variable_of
from modelserver_runtime.settings.reading import Settings


def add_flags(parser: argparse.ArgumentParser, *, only: Collection[str] | None = None) -> None:
    """A group for each concern. A secret gets no flag: everybody on the machine would see it."""
    for concern in concerns_of(Settings):
        fields = {
            name: field
            for name, field in concern.fields.items()
            if not is_secret(field) and (only is None or name in only)
        }
        if fields:
            group = parser.add_argument_group(concern.title, concern.text)
            for name, field in fields.items():
                group.add_argument(flag_of(name), **_options(name, field))


def _options(name: str, field: FieldInfo) -> dict[str, Any]:
    choices = choices_of(field.annotation)
    options: dict[str, Any] = {"help": _help(name, field, choices), "dest": name}
    if field.annotation is bool:
        return options | {"nargs": "?", "const": "true", "metavar": "true|false"}
    if choices:
        is_short = len("|".join(choices)) <= _LONGEST_METAVAR
        return options | {"choices": choices, "metavar": "|".join(choices) if is_short else "WORD"}
    return options | {"metavar": name.rpartition("_")[2].upper()}


# Longer lists of words push the text of every flag off the screen.
_LONGEST_METAVAR = 40


def _help(name: str, field: FieldInfo, choices: list[str]) -> str:
    words = "" if len("|".join(choices)) <= _LONGEST_METAVAR else f": {', '.join(choices)}"
    default = shown(field.get_default())
    about = f"{variable_of(name)}; default {default}" if default else variable_of(name)
    return f"{field.description}{words} ({about})".replace("%", "%%")


def choices_of(annotation: Any) -> list[str]:
    """The words that a field accepts, where they are few and known; also of one that may be None.

    Lists of words are no choice: a flag holds them together.
    """
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [str(member) for member in annotation]
    if get_origin(annotation) in {UnionType, Union}:
        return [choice for member in get_args(annotation) for choice in choices_of(member)]
    return [str(value) for value in get_args(annotation) if isinstance(value, str)]


def shown(default: Any) -> str:
    """A default as it would be written in a variable; empty where there is none."""
    if default is None or default in ("", ()):
        return ""
    if isinstance(default, set | frozenset):
        default = sorted(default)
    return json.dumps(default, default=str).strip('"')


def settings_given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given, so that the other sources keep their say; lists are comma-separated."""
    given = {name: value for name, value in flags.items() if value is not None}
    return {name: _value(Settings.model_fields.get(name), text) for name, text in given.items()}


def _value(field: FieldInfo | None, text: Any) -> Any:
    if field is None or not isinstance(text, str) or not _is_collection(field.annotation):
        return text
    if text.lstrip().startswith(("[", "{")):
        return _json(text)
    if _is_list_of_words(field.annotation):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _is_collection(annotation: Any) -> bool:
    return get_origin(annotation) in {tuple, list, set, frozenset, dict, Mapping}


def _is_list_of_words(annotation: Any) -> bool:
    members = [member for member in get_args(annotation) if member is not Ellipsis]
    is_list = get_origin(annotation) not in {dict, Mapping}
    return is_list and all(isinstance(one, type) and issubclass(one, str) for one in members)


def _json(text: str) -> Any:
    """A text that is no JSON is left to the field's own check, whose sentence names the flag."""
    try:
        return json.loads(text)
    except ValueError:
        return text
