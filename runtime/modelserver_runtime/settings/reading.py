"""All settings of the runtime, read once from MODELSERVER_* variables and command-line flags."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings.engine import EngineSettings
from modelserver_runtime.settings.model import ModelSettings
from modelserver_runtime.settings.serving import ServingSettings

PREFIX = "MODELSERVER_"


class Settings(ModelSettings, ServingSettings, EngineSettings, BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    @property
    def api_name(self) -> str:
        """The model's name in the API."""
        return self.served_name or self.name or self.model_directory.name or "model"

    @property
    def metrics_name(self) -> str:
        return self.name or self.api_name

    @property
    def api_names(self) -> tuple[str, ...]:
        return (self.api_name, *self.aliases)


def load_settings(**flags: Any) -> Settings:
    """Flags win over the environment; every wrong value becomes a sentence."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise InvalidConfiguration(
            "; ".join(_sentences(error, flags)), hint="Correct the values and start again."
        ) from error
    except SettingsError as error:
        raise InvalidConfiguration(
            f"{error}: a list is written as JSON", hint='Write for example ["a", "b"].'
        ) from error


def _sentences(error: ValidationError, flags: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"]) or "settings"
        name = _spelling(field, is_flag=field in flags)
        yield f"{name} is {problem['input']!r}: {problem['msg']}"


def _spelling(field: str, *, is_flag: bool) -> str:
    return flag_of(field) if is_flag else variable_of(field)


def flag_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return "HF_TOKEN" if field in {"hf_token", "HF_TOKEN"} else PREFIX + field.upper()
