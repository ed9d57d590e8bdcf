"""Cells of a table that answer a question."""

from typing import Annotated

from pydantic import Field, model_validator

from modelserver_runtime.tasks.common import Input, NoParameters, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer

_MOST_CELLS = 10_000


class TableInput(Input):
    """`table` has a list of cells for each column; all columns are of one length."""

    query: Text
    table: Annotated[dict[str, list[str]], Field(min_length=1)]

    @model_validator(mode="after")
    def _require_rectangle(self) -> "TableInput":
        lengths = {len(column) for column in self.table.values()}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError("table must have columns of one length, and a row at least")
        if (cells := lengths.pop() * len(self.table)) > _MOST_CELLS:
            raise ValueError(f"table has {cells} cells; at most {_MOST_CELLS} are accepted")
        return self


class TableAnswer(Answer):
    """`coordinates` are row and column of each cell, from 0; models that only write have none."""

    answer: str
    coordinates: list[tuple[int, int]] | None = None
    cells: list[str] | None = None
    aggregator: str | None = None


TASK = TaskDefinition(
    name="TableQuestionAnswering",
    pipeline="table-question-answering",
    summary="cells of a table that answer a question",
    accepts=frozenset({Medium.TABLE, Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=TableInput, parameters=NoParameters, answer=TableAnswer),
)
