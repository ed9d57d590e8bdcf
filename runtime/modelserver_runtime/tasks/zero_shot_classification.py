"""Labels of the caller's own for a text, by natural language inference."""

from pydantic import model_validator

from modelserver_runtime.tasks.common import Labels, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class ZeroShotParameters(RequestBody):
    candidate_labels: Labels
    multi_label: bool | None = None
    hypothesis_template: str | None = None

    @model_validator(mode="after")
    def _require_place(self) -> "ZeroShotParameters":
        if self.hypothesis_template is not None and "{}" not in self.hypothesis_template:
            raise ValueError("hypothesis_template must contain {} where the label goes")
        return self


class ZeroShotAnswer(Answer):
    sequence: str
    labels: list[str]
    scores: list[float]


TASK = TaskDefinition(
    name="ZeroShotClassification",
    pipeline="zero-shot-classification",
    summary="labels of your own for a text",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Text, parameters=ZeroShotParameters, answer=ZeroShotAnswer),
)
