"""A vector for each token of a text."""

from modelserver_runtime.tasks.common import NoParameters, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

TASK = TaskDefinition(
    name="FeatureExtraction",
    pipeline="feature-extraction",
    summary="a vector for each token of a text",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_feature_extractor",
    schema=TaskSchema(inputs=Text, parameters=NoParameters, answer=list[list[float]]),
)
