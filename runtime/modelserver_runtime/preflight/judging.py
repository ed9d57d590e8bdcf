"""Whether an answer is what was expected, and in a sentence why not."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from modelserver_runtime.preflight.cases import Cosine, Expectation
from modelserver_runtime.preflight.contents import label_of, text_of, vector_of

# Enough to recognise an answer; twenty of them fit into a message to the operator.
_SHOWN_LETTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    content: bytes
    milliseconds: float


def complaint(expected: Expectation, answer: Answer) -> str:
    """The first expectation that does not hold, as a sentence; "" if all do."""
    if answer.status != expected.status:
        return _wrong_status(expected.status, answer)
    most = expected.max_milliseconds
    if most is not None and answer.milliseconds > most:
        return f"expected an answer within {most} ms, it took {answer.milliseconds:.0f} ms"
    body = _json_or_text(answer.content)
    checks: tuple[tuple[Any, Callable[[Any, Any], str]], ...] = (
        (expected.exact, _exact),
        (expected.contains, _contains),
        (expected.regex, _regex),
        (expected.json_schema, _json_schema),
        (expected.label, _label),
        (expected.cosine, _cosine),
    )
    complaints = (check(wanted, body) for wanted, check in checks if wanted is not None)
    return next(filter(None, complaints), "")


def _wrong_status(expected: int, answer: Answer) -> str:
    said = shortened(_reason(answer.content), quoted=False)
    return f"expected status {expected}, got {answer.status}" + (f": {said}" if said else "")


def _reason(content: bytes) -> str:
    """OpenAI's form of an error, or whatever it says."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()


def _json_or_text(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def shortened(text: str, *, quoted: bool = True) -> str:
    cut = text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"
    return repr(cut) if quoted else " ".join(cut.split())


def _exact(wanted: str, body: Any) -> str:
    text = text_of(body)
    if text is None:
        return "expected a text, the answer has none"
    if text == wanted:
        return ""
    return f"expected the text {shortened(wanted)}, got {shortened(text)}"


def _contains(wanted: str, body: Any) -> str:
    text = text_of(body)
    if text is None:
        return "expected a text, the answer has none"
    if wanted in text:
        return ""
    return f"expected a text with {shortened(wanted)} in it, got {shortened(text)}"


def _regex(pattern: str, body: Any) -> str:
    text = text_of(body)
    if text is None:
        return "expected a text, the answer has none"
    if re.search(pattern, text):
        return ""
    return f"expected a text that matches {shortened(pattern)}, got {shortened(text)}"


def _json_schema(schema: dict[str, Any], body: Any) -> str:
    """Of the JSON in the text, as structured answers have it; else of the answer itself."""
    text = text_of(body)
    try:
        document = body if text is None else json.loads(text)
    except ValueError:
        return f"expected a text that is JSON, got {shortened(text or '')}"
    validator = jsonschema_rs.validator_for(schema, offline=True)
    error = next(iter(validator.iter_errors(document)), None)
    if error is None:
        return ""
    place = "".join(f"/{part}" for part in error.instance_path)
    where = f" at {place}" if place else ""
    return f"expected JSON of the schema{where}: {shortened(error.message, quoted=False)}"


def _label(wanted: str, body: Any) -> str:
    label = label_of(body)
    if label is None:
        return "expected labels with scores, the answer has none"
    if label == wanted:
        return ""
    return f"expected the label {shortened(wanted)} to be the best, got {shortened(label)}"


def _cosine(wanted: Cosine, body: Any) -> str:
    vector = vector_of(body)
    if vector is None:
        return "expected one vector of numbers, the answer has none, or several"
    if len(vector) != len(wanted.of):
        return f"expected a vector of {len(wanted.of)} numbers, got one of {len(vector)}"
    found = cosine(vector, wanted.of)
    if found >= wanted.min:
        return ""
    return f"expected a cosine of {wanted.min:g} or more, got {found:.4f}"


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """0 where a vector has no direction; no number at all counts as no direction too."""
    lengths = math.hypot(*one) * math.hypot(*other)
    found = math.sumprod(one, other) / lengths if lengths else 0.0
    return found if math.isfinite(found) else 0.0
