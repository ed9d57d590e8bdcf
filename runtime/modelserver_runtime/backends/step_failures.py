"""What goes wrong for one sequence of a step, and what its client is told; the others go on."""

from modelserver_runtime.backends.base import TokenOutput, failure_class_of
from modelserver_runtime.backends.grammar import GrammarNotFollowed
from modelserver_runtime.backends.sampling import InvalidLogits
from modelserver_runtime.errors import FailureClass

# What torch and transformers raise when computing fails.
STEP_FAILURES = (RuntimeError, IndexError, ValueError)


def failed(sequence_id: int, error: Exception) -> TokenOutput:
    return TokenOutput(
        sequence_id=sequence_id,
        failure=f"The model could not compute this request: {str(error).partition('\n')[0]}",
        failure_class=_class_of(error),
    )


def _class_of(error: Exception) -> FailureClass:
    match error:
        case InvalidLogits():
            return FailureClass.INVALID_OUTPUT
        case GrammarNotFollowed():
            return FailureClass.GRAMMAR
        case _:
            return failure_class_of(error)
