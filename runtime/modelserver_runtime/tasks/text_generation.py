"""Text that goes on from a prompt or a conversation; its routes are OpenAI's."""

from modelserver_runtime.tasks.definition import Medium, TaskDefinition

TASK = TaskDefinition(
    name="TextGeneration",
    pipeline="text-generation",
    summary="text that goes on from a prompt or a conversation",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_causal",
    routes=("/v1/chat/completions", "/v1/completions", "/generate"),
)
