"""In which state a model is, in a word and a sentence. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

from modelserver_runtime.gateway.cluster import ServedModel
from modelserver_runtime.gateway.page.words import duration, lasting


class Kind(StrEnum):
    """In the order in which they are counted on the page."""

    READY = "ready"
    STARTING = "starting"
    ASLEEP = "asleep"
    STOPPED = "stopped"
    FAILED = "failed"


_SENTENCES = {
    "scheduling": "Waiting for a place on a node",
    "resolving": "Finding out which files are meant",
    "fetching": "Fetching the model's files",
    "loading": "Loading the model",
    "warming": "Warming up",
}
_PERCENT = re.compile(r"(\d{1,3})(?:\.\d+)? %")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`percent` is how much of the files is there; None where that is not what it waits for."""

    kind: Kind
    sentence: str = ""
    percent: int | None = None

    @property
    def label(self) -> str:
        return self.kind.capitalize()


def state_of(model: ServedModel, stage: str, now: float) -> State:
    """`stage` is how far a start has come that this gateway looks at, as the holder says it."""
    report = model.report
    if model.ready:
        return State(kind=Kind.READY)
    if model.problem or report.diagnosis is not None:
        # What is known better is in the diagnosis.
        return State(kind=Kind.FAILED, sentence="" if report.diagnosis else model.problem)
    word = stage.partition(" ")[0]
    if word == "cold":
        return State(kind=Kind.ASLEEP, sentence=_asleep(model, now))
    if not report.wanted and not model.may_sleep and not model.starting:
        return State(kind=Kind.STOPPED, sentence="No pods are wanted")
    return _starting(model, stage, word)


def _asleep(model: ServedModel, now: float) -> str:
    sentence = "A request wakes it"
    if model.cold_start_seconds is not None:
        sentence += f", in about {duration(model.cold_start_seconds)}"
    scaling = model.report.scaling
    passed = lasting(scaling.phase_since, now) if scaling else ""
    return f"{sentence}; asleep for {passed}" if passed else sentence


def _starting(model: ServedModel, stage: str, word: str) -> State:
    sentence = _SENTENCES.get(word, _SENTENCES["scheduling"])
    if word != "fetching":
        return State(kind=Kind.STARTING, sentence=sentence)
    seen = _PERCENT.search(stage)
    percent = int(seen[1]) if seen else model.fetched_percent
    if percent is not None:
        percent = min(percent, 100)
        sentence += f", {percent} %"
    if model.report.eta_seconds is not None:
        sentence += f", about {duration(model.report.eta_seconds)} left"
    return State(kind=Kind.STARTING, sentence=sentence, percent=percent)
