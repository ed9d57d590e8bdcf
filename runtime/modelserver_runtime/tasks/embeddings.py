"""Vectors of length 1 for whole texts; the route is OpenAI's."""

from modelserver_runtime.tasks.definition import Medium, TaskDefinition

TASK = TaskDefinition(
    name="Embeddings",
    summary="vectors of length 1 for whole texts",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_embedder",
    routes=("/v1/embeddings",),
)
