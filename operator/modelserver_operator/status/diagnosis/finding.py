"""How a diagnosis is put into words: whole sentences of bounded length."""

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.status.wording import LONGEST_HINT, LONGEST_MESSAGE, sentences, shortened

# Reasons of conditions, which a code becomes, have at most so many characters.
_LONGEST_CODE = 64


def finding(code: str, message: str, *hints: str) -> Diagnosis:
    """Several hints follow each other, the most specific first."""
    return Diagnosis(
        code=str(code)[:_LONGEST_CODE],
        message=shortened(sentences(message), LONGEST_MESSAGE),
        hint=shortened(sentences(*hints), LONGEST_HINT),
    )
