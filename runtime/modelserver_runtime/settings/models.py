"""More models beside the one that the server is made for: which, and how many at a time."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import NoDecode

from modelserver_runtime.settings.values import Dtype, Task, TaskName

_HUB = "hf://"
_FILE = "file://"


class ExtraModel(BaseModel):
    """A model that is loaded when somebody asks for it; empty fields mean what the server's do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    uri: str = ""
    revision: str = ""
    directory: Path | None = None
    task: TaskName = Task.AUTO
    dtype: Dtype = Dtype.AUTO
    max_model_length: Annotated[int, Field(ge=0)] = 0
    pinned: bool = False
    preload: bool = False

    @model_validator(mode="after")
    def _require_place(self) -> "ExtraModel":
        if self.directory is None and not self.uri.startswith((_HUB, _FILE)):
            raise ValueError(
                f"the model {self.name} has no place; give it a directory, or a uri that begins "
                f"with {_HUB} or {_FILE}"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def is_fetched(self) -> bool:
        return self.uri.startswith(_HUB)

    def directory_under(self, folder: Path) -> Path:
        """Where its files are, or where they are brought; `folder` is for models of the hub."""
        if self.directory is not None:
            return self.directory.expanduser()
        if self.uri.startswith(_FILE):
            return Path(self.uri.removeprefix(_FILE))
        return folder.expanduser() / self.uri.removeprefix(_HUB).replace("/", "--")


def _read_list(value: Any) -> Any:
    """JSON or YAML, which is the larger language of the two; an empty text is an empty list."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) or ()
    except yaml.YAMLError as error:
        raise ValueError(f"must be a list in JSON or YAML: {error}") from error


class SeveralModelsSettings(BaseModel):
    models: Annotated[tuple[ExtraModel, ...], NoDecode, BeforeValidator(_read_list)] = Field(
        (),
        description="more models, a list in JSON or YAML; each has name, and directory or uri; "
        "also aliases, revision, task, dtype, max_model_length, pinned, preload",
    )
    models_directory: Path = Field(
        Path("~/.cache/modelserver"), description="where more models of the hub are kept"
    )
    max_loaded_models: Annotated[int, Field(ge=1)] = Field(
        3, description="models in memory at a time; the one used longest ago gives way"
    )
    memory_budget_bytes: Annotated[int, Field(ge=0)] = Field(
        0, description="memory for the weights of all models; 0: what is free at each load"
    )
    load_on_request: bool = Field(
        default=True, description="a request for a model that is not in memory loads it; else 503"
    )
    model_load_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="longest time for loading one of the other models"
    )
    failed_load_pause_seconds: Annotated[float, Field(ge=0)] = Field(
        30, description="after a model could not be loaded: time in which it is not tried again"
    )
