"""All settings of the runtime, read once; every wrong value becomes a sentence with its source."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings.access import AccessSettings
from modelserver_runtime.settings.boundary import BoundarySettings
from modelserver_runtime.settings.cache import CacheSettings
from modelserver_runtime.settings.concerns import is_secret
from modelserver_runtime.settings.engine import EngineSettings
from modelserver_runtime.settings.gateway import ClusterGatewaySettings
from modelserver_runtime.settings.hardware import HardwareSettings
from modelserver_runtime.settings.jobs import JobsSettings
from modelserver_runtime.settings.model import ModelSettings
from modelserver_runtime.settings.models import ExtraModel, SeveralModelsSettings
from modelserver_runtime.settings.names import PREFIX
from modelserver_runtime.settings.router import RouterSettings
from modelserver_runtime.settings.serving import ServingSettings
from modelserver_runtime.settings.sources import Origin, origin_of, sources_of
from modelserver_runtime.settings.storage import StorageSettings
from modelserver_runtime.settings.telemetry import TelemetrySettings


class Settings(
    ModelSettings,
    HardwareSettings,
    SeveralModelsSettings,
    ServingSettings,
    BoundarySettings,
    EngineSettings,
    CacheSettings,
    JobsSettings,
    AccessSettings,
    StorageSettings,
    TelemetrySettings,
    RouterSettings,
    ClusterGatewaySettings,
    BaseSettings,
):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # called with all of them by name
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return sources_of(settings_cls, init_settings)

    @model_validator(mode="after")
    def _require_different_names(self) -> "Settings":
        names = [*self.api_names, *(name for extra in self.models for name in extra.names)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice and self.models:
            raise ValueError(f"two models have the name {twice[0]}; every name must be one model's")
        return self

    def of(self, extra: ExtraModel) -> "Settings":
        """The settings of one of the other models: its own files and names, all else the same."""
        return self.model_copy(
            update={
                "model_uri": extra.uri,
                "model_revision": extra.revision,
                "model_directory": extra.directory_under(self.models_directory),
                "name": extra.name,
                "served_name": extra.name,
                "aliases": extra.aliases,
                "task": extra.task,
                "dtype": extra.dtype,
                "max_model_length": extra.max_model_length,
                "load_timeout_seconds": self.model_load_timeout_seconds,
                "models": (),
            }
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
    """Flags win over variables, and these over the file that `config` names."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise InvalidConfiguration(
            "; ".join(_sentences(error, flags)), hint="Correct the values and start again."
        ) from error


def _sentences(error: ValidationError, flags: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors():
        message = str(problem["msg"]).removeprefix("Value error, ")
        if not problem["loc"]:  # of several settings together
            yield message
            continue
        field, *path = problem["loc"]
        name = "hf_token" if field == "HF_TOKEN" else str(field)
        origin = origin_of(name, flags)
        value = _shown(name, problem["input"])
        yield f"{origin.at(*path)} is {value}: {_corrected(message, problem, origin)}"


def _shown(field: str, value: Any) -> str:
    info = Settings.model_fields.get(field)
    return "not shown" if info is not None and is_secret(info) else repr(value)


def _corrected(message: str, problem: Mapping[str, Any], origin: Origin) -> str:
    """pydantic speaks of tuples and dictionaries; people write JSON, or YAML in a file."""
    kind = _WRITTEN.get(problem["type"])
    if kind is None:
        return message
    language = "YAML" if origin.file else "JSON"
    return f"{kind} is written as {language}, for example {_EXAMPLES[kind]}"


_WRITTEN = {
    "tuple_type": "a list",
    "list_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
}
_EXAMPLES = {"a list": '["a", "b"]', "a table": '{"a": 1}'}
