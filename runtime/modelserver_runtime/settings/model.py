"""Which model is served, under which names, and how it is loaded."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from modelserver_runtime.settings.values import Dtype, Task, TaskName


class ModelSettings(BaseModel):
    model_uri: str = Field(
        "", description="hf://ORGANISATION/NAME, pvc://CLAIM/PATH or file:///PATH"
    )
    model_revision: str = Field(
        "", description="commit of the model (resolve: branch, tag or commit)"
    )
    model_directory: Path = Field(Path("/model"), description="directory of the model's files")
    allow_pickle: bool = Field(
        default=False, description="load pickle weights, which can run code of their author"
    )
    trust_remote_code: bool = Field(
        default=False, description="run Python code that comes with the model"
    )
    hub_endpoint: str = Field("https://huggingface.co", description="base URL of the hub")
    hf_token: str | None = Field(
        None,
        validation_alias="HF_TOKEN",
        repr=False,
        description="token for private models of the hub",
    )

    name: str = Field("", description="label `model` of the metrics; default: the served name")
    revision: str = Field(
        "local", description="revision of the ModelServer: label of the metrics, x-model-revision"
    )
    served_name: str = Field(
        "", description="name of the model in the API; default: the directory's name"
    )
    aliases: tuple[str, ...] = Field((), description="more names of the model in the API")
    task: TaskName = Field(
        Task.AUTO, description="what the model is served for; Auto reads its config.json"
    )
    dtype: Dtype = Field(
        Dtype.AUTO, description="type of the weights in memory; Auto keeps the model's own"
    )
    max_model_length: Annotated[int, Field(ge=0)] = Field(
        0,
        description="longest prompt and answer together, in tokens; 0: what the model was made for",
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="threads that compute; 0: the CPU limit of the container, rounded down"
    )
