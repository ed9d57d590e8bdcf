"""Answers to typed questions about a state, with a probability for every option."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from modelserver_runtime.tasks.common import Input, NoParameters, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

_MOST_QUESTIONS = 100


class Question(Input):
    """`criteria` of a choice describe its options, of a score its levels, the lowest first."""

    type: Literal["choice", "score", "noul"]
    instructions: Text
    criteria: dict[str, str] | list[str] | None = None

    @model_validator(mode="after")
    def _require_criteria(self) -> "Question":
        expected = {"choice": dict, "score": list}.get(self.type)
        if expected is not None and not isinstance(self.criteria, expected):
            what = "an object of options" if self.type == "choice" else "a list of levels"
            raise ValueError(f"criteria of a {self.type} must be {what}")
        return self


class DecisionInput(Input):
    state: str | dict[str, Any] | list[Any]
    questions: Annotated[dict[str, Question], Field(min_length=1, max_length=_MOST_QUESTIONS)]


TASK = TaskDefinition(
    name="Decision",
    pipeline="decision",
    summary="answers to typed questions, with a probability for every option",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(
        inputs=DecisionInput, parameters=NoParameters, answer=dict[str, dict[str, Any]]
    ),
)
