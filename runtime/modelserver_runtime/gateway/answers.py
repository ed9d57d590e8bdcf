"""What can be compared of an answer: its texts, its labels, or its vectors; whole or streamed.

The shapes are those of OpenAI's routes, of this runtime's /generate, /predict and /batch-predict,
and of the Open Inference Protocol. An answer of another shape is not compared.
"""

import base64
import binascii
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from modelserver_runtime.gateway.route import Comparison

type Vector = tuple[float, ...]

_DATA = b"data:"
_END = b"[DONE]"
# Keys of texts in answers without choices.
_TEXT_KEYS = ("generated_text", "text_output", "summary_text", "translation_text", "answer")
_LABEL_KEYS = ("label", "entity_group", "entity", "token_str")
_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
_FLOAT_BYTES = 4
# What reading an answer of another shape than expected may end with.
_OF_OTHER_SHAPES = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
)


@dataclass(frozen=True, slots=True)
class Texts:
    """One for each choice or input."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The best label of each input; of those that find several things, all of them in order."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vectors:
    values: tuple[Vector, ...]


type Content = Texts | Labels | Vectors


def content_of(body: bytes, kind: str, compare: Comparison) -> Content | None:
    """`kind` is the content type. None where nothing of what is to be compared is found."""
    try:
        found = _streamed(body) if kind == "text/event-stream" else _whole(orjson.loads(body))
    except _OF_OTHER_SHAPES:
        return None
    if found is None or not found.values:
        return None
    wanted = {"Auto": Texts | Labels | Vectors, "Text": Texts, "Label": Labels}
    return found if isinstance(found, wanted.get(compare, Vectors)) else None


# -- streams -------------------------------------------------------------------------------------


def _streamed(body: bytes) -> Content | None:
    """The pieces of each choice together, as its whole answer would say it."""
    texts: dict[int, list[str]] = {}
    for event in _events(body):
        if "error" in event:
            return None
        for index, piece in _pieces(event):
            texts.setdefault(index, []).append(piece)
    return Texts(tuple("".join(texts[index]) for index in sorted(texts)))


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.startswith(_DATA) and (content := line[len(_DATA) :].strip()) != _END:
            event = orjson.loads(content)
            if isinstance(event, dict):
                yield event


def _pieces(event: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    if "choices" in event:
        for choice in event["choices"]:
            yield choice.get("index", 0), _said(choice.get("delta") or choice)
    elif str(event.get("type", "")).endswith(".delta"):
        yield 0, str(event.get("delta") or "")
    elif isinstance(event.get("text"), str):
        yield 0, event["text"]
    elif isinstance(event.get("text_output"), str):
        yield 0, event["text_output"]


def _said(message: Mapping[str, Any]) -> str:
    """Also which tools are called, and with what; ids of calls are made anew each time."""
    parts = [message.get("reasoning_content"), message.get("content"), message.get("text")]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        parts += [function.get("name"), function.get("arguments")]
    return "".join(part for part in parts if isinstance(part, str))


# -- whole answers -------------------------------------------------------------------------------


def _whole(answer: Any) -> Content | None:
    if not isinstance(answer, dict):
        return _of_items([answer])
    if "choices" in answer:
        return Texts(tuple(_said(one.get("message") or one) for one in answer["choices"]))
    if answer.get("object") == "list" and "data" in answer:
        return _of_data(answer["data"])
    if "outputs" in answer:
        return _of_tensors(answer["outputs"])
    if "results" in answer:
        return _of_results(answer["results"])
    return _of_items([answer.get("output", answer)])


def _of_data(data: Sequence[Mapping[str, Any]]) -> Content | None:
    """Of /v1/embeddings; scores of pairs have no label."""
    vectors = [_vector(entry["embedding"]) for entry in data if "embedding" in entry]
    return Vectors(tuple(vectors)) if vectors else None


def _of_results(results: Sequence[Mapping[str, Any]]) -> Content | None:
    """Of /batch-predict, and of /v1/rerank, whose label is the order of the documents."""
    if results and "relevance_score" in results[0]:
        ranked = sorted(results, key=lambda one: (-float(one["relevance_score"]), one["index"]))
        return Labels((",".join(str(one["index"]) for one in ranked),))
    return _of_items([one.get("output") for one in results])


def _of_tensors(outputs: Sequence[Mapping[str, Any]]) -> Content | None:
    """Numbers in a row for each item of the batch; words as labels."""
    output = outputs[0]
    data = output["data"]
    if output["datatype"] == "BYTES":
        return Labels(tuple(str(value) for value in data))
    if output["datatype"] not in _FLOATS:
        return Labels(tuple(str(value) for value in data))
    return Vectors(tuple(_rows(data, int(output["shape"][0]))))


def _rows(data: Sequence[float], count: int) -> Iterator[Vector]:
    width = len(data) // count
    for start in range(0, width * count, width):
        yield tuple(map(float, data[start : start + width]))


def _of_items(items: Sequence[Any]) -> Content | None:
    """All of one kind, or nothing."""
    if (labels := _all(map(_label, items))) is not None:
        return Labels(labels)
    if (texts := _all(map(_text, items))) is not None:
        return Texts(texts)
    vectors = _all(map(_numbers, items))
    return None if vectors is None else Vectors(vectors)


def _all[T](found: Iterable[T | None]) -> tuple[T, ...] | None:
    """None if one is missing."""
    every = list(found)
    known = tuple(one for one in every if one is not None)
    return known if len(known) == len(every) else None


def _label(item: Any) -> str | None:
    """A zero-shot task answers with lists; detection with things, each with its own score."""
    if isinstance(item, dict) and isinstance(item.get("labels"), list) and item["labels"]:
        best = max(zip(item["scores"], item["labels"], strict=True))
        return str(best[1])
    entries = item if isinstance(item, list) else [item]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        return None
    key = next((key for key in _LABEL_KEYS if all(key in entry for entry in entries)), None)
    if key is None or not all(entry.get(key) for entry in entries):
        return None
    if any("box" in entry or "start" in entry for entry in entries):
        return ",".join(sorted(str(entry[key]) for entry in entries))
    return str(max(entries, key=lambda entry: float(entry.get("score") or 0))[key])


def _text(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        texts = [_text(one) for one in item]
        return "\n".join(filter(None, texts)) if texts and all(texts) else None
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("text"), str):
        return str(item["text"])
    return next((item[key] for key in _TEXT_KEYS if isinstance(item.get(key), str)), None)


def _numbers(item: Any) -> Vector | None:
    """A vector, also one in lists of one."""
    while isinstance(item, list) and len(item) == 1 and isinstance(item[0], list):
        item = item[0]
    if not isinstance(item, list) or not item:
        return None
    if isinstance(item[0], list):  # a vector for each token
        return tuple(_flat(item))
    return tuple(map(float, item)) if all(isinstance(one, int | float) for one in item) else None


def _flat(rows: Iterable[Iterable[float]]) -> Iterator[float]:
    for row in rows:
        for value in row:
            yield float(value)


def _vector(embedding: Any) -> Vector:
    """Numbers, or base64 of little-endian float32."""
    if not isinstance(embedding, str):
        return tuple(map(float, embedding))
    try:
        content = base64.b64decode(embedding, validate=True)
        return struct.unpack(f"<{len(content) // _FLOAT_BYTES}f", content)
    except (binascii.Error, struct.error) as error:
        raise ValueError("an embedding is neither numbers nor base64 of them") from error
