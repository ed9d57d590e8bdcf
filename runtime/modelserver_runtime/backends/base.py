"""The contract between the engine and a model: plain values and Protocols, no tensors.

A *generation* backend keeps state per sequence and is driven step by step:

    add(sequence) → step([Work, ...]) → [TokenOutput, ...] → ... → free(sequence_id)

A *batch* backend is a function of a list of items; it keeps nothing between calls.
All methods of a backend are called from one thread, except those of its `tokenizer`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from modelserver_runtime.backends.costs import TokenCost
from modelserver_runtime.errors import FailureClass


class GrammarKind(StrEnum):
    """How the text of a grammar is written; a `grammar` of a client is Lark or GBNF."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    GRAMMAR = "grammar"
    LARK = "lark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What an answer must look like. Equal grammars have equal texts: JSON without spaces."""

    kind: GrammarKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParameters:
    """How one sequence is sampled; `temperature` 0 is greedy.

    `logprobs` is how many alternatives are wanted beside each token (None: no logprobs at all).
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop_token_ids: frozenset[int] = frozenset()
    ignore_end: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSpec:
    """A prompt to continue. Only those with the same `cache_salt` may share what is computed.

    `prediction` is what the client expects to be answered: it changes how soon, not what.
    """

    sequence_id: int
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters
    cache_salt: str = ""
    prediction: tuple[int, ...] = ()


# Made for every token: freezing these four took as long as the rest of the way to the socket.
@dataclass(slots=True, kw_only=True)
class Work:
    """`tokens` tokens of a sequence to compute in this step: some of its prompt, or 1 to decode.

    Of a sequence that gave its memory back, what was answered counts as prompt.
    """

    sequence_id: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Log probabilities of one position, of the model's own distribution, most likely first."""

    token_id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessOutcome:
    """What became of tokens that were guessed and computed before they were known.

    `is_right` if this token was one; `wrong` are those in whose place or before which it came.
    `is_prediction` if the client had predicted them.
    """

    is_right: bool
    wrong: int = 0
    is_prediction: bool = False


@dataclass(slots=True, kw_only=True)  # not frozen: see backends.base.Work
class TokenOutput:
    """What a step did for one sequence; there may be several, one for each token of its answer.

    `token_id` is None while the prompt is not computed to its end. With `failure`, a sentence for
    the client, the sequence is over; the other sequences of the step are not touched. With the
    first token, `cached_tokens` of the prompt were known and not computed for this sequence.
    """

    sequence_id: int
    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    cached_tokens: int = 0
    guess: GuessOutcome | None = None
    failure: str | None = None
    failure_class: FailureClass = FailureClass.BACKEND_ERROR


def failure_class_of(error: Exception) -> FailureClass:
    """Of what a backend raised; torch tells a lack of memory only by its words."""
    is_memory = isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in ("allocate memory", "out of memory")
    )
    return FailureClass.OUT_OF_MEMORY if is_memory else FailureClass.BACKEND_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """What the model's authors recommend, for requests that do not say."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLimits:
    """`max_cached_tokens` bounds prompts and answers of all running sequences (None: unknown).

    With `cuts_prompts` no bit of an answer depends on the parts in which its prompt is computed;
    without it they have to be the same whatever is computed beside it.
    """

    max_model_length: int
    vocabulary_size: int
    end_token_ids: frozenset[int]
    max_cached_tokens: int | None = None
    cuts_prompts: bool = False


class TextStream(Protocol):
    """Turns the tokens of one sequence into text as they come."""

    def step(self, token_id: int) -> str:
        """The text that is certain now: empty while a character is incomplete."""
        ...

    def flush(self) -> str:
        """The rest, with incomplete characters replaced."""
        ...


class ResponseParser(Protocol):
    """Splits an answer into the regions that the model's files describe.

    Events are mappings with a `type` of region_open, region_chunk or region_close and a `field`
    such as content, reasoning_content or tool_calls. Both methods raise ValueError on an answer
    that does not have the described form.
    """

    def feed(self, text: str) -> Sequence[Mapping[str, Any]]: ...

    def finalize(self) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
        """The whole message, and the last events."""
        ...


class Tokenizer(Protocol):
    """May be called by any thread."""

    @property
    def chat_template(self) -> str:
        """The source of the template, or of all of them; empty without one."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]: ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...

    def token_text(self, token_id: int) -> str: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    def text_stream(
        self, *, context: Sequence[int] = (), skip_special_tokens: bool = True
    ) -> TextStream:
        """`context` are tokens before the first one: they decide whether it begins with a space."""
        ...

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """Raises InvalidRequest if the model has no chat template, or if its template refuses."""
        ...

    def response_parser(
        self, prompt: str, tools: Sequence[Mapping[str, Any]]
    ) -> ResponseParser | None:
        """None if the model's files do not say how its answers are to be read."""
        ...


class GrammarCompiler(Protocol):
    """May be called by any thread."""

    def prepare(self, grammar: Grammar) -> None:
        """Compiles a grammar and keeps it for `add`; raises InvalidRequest with the reason."""
        ...

    def marker(self, text: str) -> str:
        """How a grammar in Lark writes `text`, which may be a token of its own."""
        ...

    def json_rule(self, schema: Mapping[str, Any]) -> str:
        """How a grammar in Lark writes a JSON value of this schema."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """Which engine computes a model, and why not a faster one.

    `dtype` and `memory_bytes` of the weights, where they are not those of transformers.
    """

    engine: str = "transformers"
    reason: str = ""
    dtype: str = ""
    memory_bytes: int = 0


class SequenceMemory(Protocol):
    """Keys and values of a backend's sequences, in blocks of `block_tokens` tokens.

    Its sequences can give their blocks back half-way: they begin again, with their prompt and what
    they have answered so far, and go on as if nothing had been.
    """

    @property
    def block_tokens(self) -> int: ...

    @property
    def blocks(self) -> int:
        """All there are."""
        ...

    @property
    def available(self) -> int:
        """Blocks without a user, also those kept for sequences that begin like one before."""
        ...

    def begin(self, sequence_id: int) -> int:
        """Takes over blocks of others that hold its beginning; how many of its tokens they hold."""
        ...

    def grow(self, sequence_id: int, tokens: int) -> None:
        """Takes blocks until its first `tokens` tokens have room; raises MemoryError."""
        ...

    def release(self, sequence_id: int) -> None:
        """Gives its blocks back; harmless if it has none."""
        ...


class GenerationBackend(Protocol):
    @property
    def memory(self) -> SequenceMemory | None:
        """None: nobody knows what is free, and a sequence cannot be interrupted."""
        ...

    @property
    def limits(self) -> GenerationLimits: ...

    @property
    def grammars(self) -> GrammarCompiler: ...

    @property
    def defaults(self) -> SamplingDefaults: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def warm_up(self) -> None:
        """A real forward pass; raises if the model cannot answer."""
        ...

    def add(self, sequence: SequenceSpec) -> None: ...

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]: ...

    def free(self, sequence_id: int) -> None:
        """Forgets a sequence; harmless for an unknown one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskItem:
    """One input of a task with its parameters, already checked against the task's schema."""

    inputs: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)


class BatchBackend(Protocol):
    """A model that answers each item with a JSON value, in the order of the items.

    Items of one call may have different parameters. An item that cannot be answered raises
    RequestFailure for the whole call; the engine then finds out which one it is.
    """

    def warm_up(self) -> None: ...

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingLimits:
    """`dimensions` is a vector's size; `shorter` are the sizes it may be cut to (None: any).

    Token ids are below `vocabulary_size` (None: unknown). `pads` if texts computed together are
    made as long as the longest.
    """

    max_model_length: int
    dimensions: int
    shorter: frozenset[int] | None = frozenset()
    vocabulary_size: int | None = None
    pads: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingItem:
    token_ids: tuple[int, ...]


class EmbeddingBackend(Protocol):
    """Vectors are little-endian float32 of length 1, as bytes: what the API sends."""

    @property
    def limits(self) -> EmbeddingLimits: ...

    @property
    def prompt(self) -> str:
        """What goes before every text that comes as text; usually nothing."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def warm_up(self) -> None: ...

    def run(self, items: Sequence[EmbeddingItem]) -> Sequence[bytes]: ...


type Backend = GenerationBackend | EmbeddingBackend | BatchBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What is said about a loaded model; `memory_bytes` are those of its weights and buffers.

    `engine` computes it: `native`, or `transformers` because of `engine_reason`, which is empty
    where there is nothing else. `contents` is a digest of its files, empty for a model that has
    none. A model that `samples` draws random numbers unless a request says otherwise.
    """

    task: str
    architecture: str
    parameters: int
    dtype: str
    device: str
    threads: int
    memory_bytes: int = 0
    engine: str = "transformers"
    engine_reason: str = ""
    contents: str = ""
    samples: bool = False
    token_cost: TokenCost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in memory; which kind of backend it has follows from its task."""

    description: ModelDescription
    backend: Backend
