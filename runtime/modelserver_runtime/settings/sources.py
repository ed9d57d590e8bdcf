"""Where settings come from: flags, then variables, then a file, then defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings.names import (
    OLDER_PREFIX,
    PREFIX,
    STANDARD,
    advice,
    flag_of,
    variable_of,
    variables_of,
)

# Names the file, and so cannot stand in it.
FILE_FIELD = "config"


class _Variables(EnvSettingsSource):
    """Leaves a text that is not JSON to the field's own check, which names the variable."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def sources_of(
    settings: type[BaseSettings], flags: PydanticBaseSettingsSource
) -> tuple[PydanticBaseSettingsSource, ...]:
    """In the order of their weight."""
    given = cast("InitSettingsSource", flags).init_kwargs
    path = settings_file(given)
    content = {} if path is None else read_file(path, settings.model_fields)
    return (
        flags,
        _Variables(settings, env_prefix=PREFIX),
        _Variables(settings, env_prefix=OLDER_PREFIX),
        InitSettingsSource(settings, init_kwargs=_standard()),
        InitSettingsSource(settings, init_kwargs=content),
    )


def _standard() -> dict[str, str]:
    found = {field: os.environ.get(name, "") for field, name in STANDARD.items()}
    return {field: text for field, text in found.items() if text}


def settings_file(flags: Mapping[str, Any]) -> Path | None:
    wanted = flags.get(FILE_FIELD) or _variable(FILE_FIELD)[1]
    return Path(wanted) if wanted else None


def _variable(field: str) -> tuple[str, str]:
    """The variable that sets a field, and its text; both empty if none does."""
    found = ((name, os.environ.get(name, "")) for name in variables_of(field))
    return next(((name, text) for name, text in found if text), ("", ""))


def read_file(path: Path, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The settings of a YAML file, whose keys are the fields' names."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(
            f"The settings file {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint=f"Name a file that exists with {flag_of(FILE_FIELD)} or "
            f"{variable_of(FILE_FIELD)}.",
        ) from error
    except yaml.YAMLError as error:
        raise InvalidConfiguration(
            f"The settings file {path} is not YAML: {error}", hint="Correct it and start again."
        ) from error
    return _checked(path, content, [name for name in fields if name != FILE_FIELD])


def _checked(path: Path, content: Any, known: list[str]) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidConfiguration(
            f"The settings file {path} holds a {type(content).__name__}; it must hold keys with "
            "values",
            hint="Write for example `port: 8080`.",
        )
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise InvalidConfiguration(
            "; ".join(f"{key} in {path} is no setting, {advice(key, known)}" for key in unknown),
            hint="The settings are listed by modelserver-runtime serve --help.",
        )
    # A key without a value means the default, as an empty variable does.
    return {key: value for key, value in content.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who set a field: a flag, a variable, or a key of `file`."""

    name: str
    file: Path | None = None

    def at(self, *path: str | int) -> str:
        """The place of a value, or of a part of it, as people find it."""
        place = ".".join([self.name, *map(str, path)])
        return f"{place} in {self.file}" if self.file else place


def origin_of(field: str, flags: Mapping[str, Any]) -> Origin:
    """The source that has won for a field."""
    if field in flags:
        return Origin(name=flag_of(field))
    name, text = _variable(field)
    if text:
        return Origin(name=name)
    path = settings_file(flags)
    return Origin(name=field, file=path) if path else Origin(name=variable_of(field))
