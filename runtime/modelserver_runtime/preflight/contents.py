"""What an answer says: its text, its best label, its vector, whichever route it came from."""

from collections.abc import Mapping
from typing import Any

_TEXT_FIELDS = (
    *("generated_text", "text_output", "summary_text", "translation_text", "answer", "text"),
)


def text_of(body: Any) -> str | None:
    """None where the answer has no text, or several."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return text_of(body[0]) if len(body) == 1 else None
    if not isinstance(body, Mapping):
        return None
    if "choices" in body:
        return _text_of_choice(body["choices"])
    if "output" in body:
        return _text_of_items(body["output"]) if body.get("object") else text_of(body["output"])
    return next((body[one] for one in _TEXT_FIELDS if isinstance(body.get(one), str)), None)


def _text_of_choice(choices: Any) -> str | None:
    """Of the first: `n` asks for more of the same."""
    first = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    text = (
        _mapping(first.get("message")).get("content") if "message" in first else first.get("text")
    )
    return text if isinstance(text, str) else None


def _text_of_items(items: Any) -> str | None:
    """Of /v1/responses: the messages among the items of its output."""
    messages = [one for one in _mappings(items) if one.get("type") == "message"]
    parts = [part for one in messages for part in _mappings(one.get("content"))]
    texts = [str(part.get("text")) for part in parts if part.get("type") == "output_text"]
    return "".join(texts) if texts else None


def label_of(body: Any) -> str | None:
    """The one with the highest score; None where the answer has no labels with scores."""
    output = body.get("output", body) if isinstance(body, Mapping) else body
    pairs = _scored(output)
    return max(pairs)[1] if pairs else None


def _scored(output: Any) -> list[tuple[float, str]]:
    if isinstance(output, Mapping):
        scores, labels = (_list(output.get(one)) for one in ("scores", "labels"))
        pairs = [*zip(scores, labels, strict=False)]
    else:
        pairs = [(one.get("score"), one.get("label")) for one in _mappings(output)]
    return [
        (score, label) for score, label in pairs if _is_number(score) and isinstance(label, str)
    ]


def vector_of(body: Any) -> list[float] | None:
    """None where the answer has no vector, or several."""
    if isinstance(body, Mapping):
        inner = next((body[one] for one in ("data", "output", "embedding") if one in body), None)
        return vector_of(inner)
    if not isinstance(body, list) or not body:
        return None
    if all(map(_is_number, body)):
        return [float(one) for one in body]
    return vector_of(body[0]) if len(body) == 1 else None


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, Mapping)]
