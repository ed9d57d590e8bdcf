"""How much is computed together, how much may wait, and when a model is left alone."""

from typing import Annotated

from pydantic import BaseModel, Field

from modelserver_runtime.settings.values import QueueScope


class EngineSettings(BaseModel):
    max_running_sequences: Annotated[int, Field(ge=1)] = Field(
        32, description="answers that are generated at the same time"
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        100, description="requests that wait for their turn; beyond it 429"
    )
    queue_scope: QueueScope = Field(
        QueueScope.MODEL, description="Model: a queue for each model; Server: one for all"
    )
    queue_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        30, description="longest time to wait for a turn; then 504"
    )
    queue_ageing_seconds: Annotated[float, Field(gt=0)] = Field(
        5,
        description="after so long without a turn, waiting requests count one priority higher",
    )
    max_batch_tokens: Annotated[int, Field(ge=16)] = Field(
        2048, description="tokens that one step computes at most; longer prompts take several steps"
    )
    inter_token_milliseconds: Annotated[float, Field(ge=0)] = Field(
        200,
        description="prompts are computed in parts so short that answers get their next token "
        "within this time, as far as that can be; 0: no shorter than max_batch_tokens",
    )
    speculative_tokens: Annotated[int, Field(ge=0, le=15)] = Field(
        8,
        description="tokens of an answer that are guessed and computed with its next one, at most, "
        "while few answers are generated; 0: none; only by the native engine",
    )
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(
        32, description="inputs that are computed together, for tasks other than TextGeneration"
    )
    batch_max_wait_milliseconds: Annotated[float, Field(ge=0, le=100)] = Field(
        10,
        description="longest time that inputs wait for others to be computed with; shorter when "
        "none are likely to come",
    )
    default_max_tokens: Annotated[int, Field(ge=0)] = Field(
        4096, description="longest answer of a chat that does not say; 0: what the model can hold"
    )
    breaker_failures: Annotated[int, Field(ge=1)] = Field(
        5, description="failures in a row after which a model is left alone; then 503"
    )
    breaker_open_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="how long a failing model is left alone before it is tried again"
    )
    breaker_probes: Annotated[int, Field(ge=1)] = Field(
        1, description="requests at a time that try a model which was left alone"
    )
    stuck_exit_seconds: Annotated[float, Field(ge=0)] = Field(
        300,
        description="how long after its time-out a step may still come back; then exit code 50",
    )
