"""Everything that the page shows at one look: the models that the caller may use. Pure."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from modelserver_runtime.gateway.cluster import Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.page.cards import Card, card_of
from modelserver_runtime.gateway.page.states import Kind, state_of
from modelserver_runtime.gateway.page.words import counted, rate
from modelserver_runtime.gateway.traffic import Recent

# More than anybody looks at, and little enough to be made every two seconds.
MOST_CARDS = 50
_LONGEST_SEARCH = 200
# What the playground can do, by task; the pods read `Auto` from the model, and most of those chat.
_PLAYS = {
    **dict.fromkeys(("", "Auto", "TextGeneration"), "chat"),
    "Embeddings": "embed",
    **dict.fromkeys(
        (
            *("TextClassification", "TokenClassification", "FillMask", "Summarization"),
            *("Translation", "TextToTextGeneration"),
        ),
        "predict",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """`state` is a Kind or empty."""

    words: str = ""
    state: str = ""

    @classmethod
    def of(cls, query: str) -> "Filter":
        given = parse_qs(query[: 4 * _LONGEST_SEARCH])
        state = given.get("state", [""])[0]
        return cls(
            words=given.get("q", [""])[0].strip().lower()[:_LONGEST_SEARCH],
            state=state if state in set(Kind) else "",
        )

    def takes(self, name: str, model: ServedModel, kind: Kind) -> bool:
        if self.state and kind != self.state:
            return False
        searched = " ".join((name, str(model.key), *model.names)).lower()
        return all(word in searched for word in self.words.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is looked at, and when: `now` is a Unix time."""

    directory: Directory
    stage: Callable[[ServedModel], str]
    recent: Callable[[ServerKey], Recent]
    now: float
    problems: Sequence[str] = ()
    replica: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looker:
    """Who looks; `rights` tell apart who may see different things."""

    may_use: Callable[[ServedModel], bool]
    rights: Hashable = None
    is_admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    kind: str
    label: str
    count: int
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Of the playground; `play` is chat, embed or predict."""

    name: str
    play: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`notice` is why not all models are shown, or none."""

    cards: tuple[Card, ...]
    totals: tuple[Total, ...]
    choices: tuple[Choice, ...]
    per_second: str
    in_flight: str
    notice: str
    problems: tuple[str, ...]
    replica: str
    is_admin: bool


type _Seen = tuple[str, ServedModel, Kind]


def overview_of(sight: Sight, looker: Looker, wanted: Filter) -> Overview:
    seen = tuple(_seen(sight, looker))
    taken = [one for one in seen if wanted.takes(*one)]
    recent = [sight.recent(model.key) for _, model, _ in seen]
    return Overview(
        cards=tuple(_card(sight, name, model) for name, model, _ in taken[:MOST_CARDS]),
        totals=tuple(_totals(seen, wanted.state)),
        choices=tuple(_choices(seen)),
        per_second=rate(sum(one.per_second for one in recent)),
        in_flight=f"{sum(one.in_flight for one in recent):,}",
        notice=_notice(len(seen), len(taken)),
        problems=tuple(sight.problems),
        replica=sight.replica,
        is_admin=looker.is_admin,
    )


def _seen(sight: Sight, looker: Looker) -> Iterator[_Seen]:
    for name, model in sight.directory.listed():
        if looker.may_use(model):
            yield name, model, state_of(model, sight.stage(model), sight.now).kind


def _card(sight: Sight, name: str, model: ServedModel) -> Card:
    return card_of(name, model, sight.stage(model), sight.recent(model.key), sight.now)


def _totals(seen: Sequence[_Seen], chosen: str) -> Iterator[Total]:
    yield Total(kind="", label="All", count=len(seen), is_chosen=not chosen)
    for kind in Kind:
        count = sum(one is kind for _, _, one in seen)
        # Nothing is stopped in most clusters; what is wrong is said even when nothing is.
        if count or kind is not Kind.STOPPED or chosen == kind:
            yield Total(kind=kind, label=kind.capitalize(), count=count, is_chosen=chosen == kind)


def _choices(seen: Sequence[_Seen]) -> Iterator[Choice]:
    for name, model, kind in seen:
        if play := _PLAYS.get(model.task):
            yield Choice(name=name, play=play, kind=kind)


def _notice(seen: int, taken: int) -> str:
    if not seen:
        return "There is no model that you may use. A ModelServer makes one."
    if not taken:
        return f"None of {counted(seen, 'model')} is like that."
    if taken > MOST_CARDS:
        return f"{MOST_CARDS} of {taken:,} models are shown; search for others."
    return ""
