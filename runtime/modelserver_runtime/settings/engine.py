"""How much is computed together, and how much may wait."""

from typing import Annotated

from pydantic import BaseModel, Field


class EngineSettings(BaseModel):
    max_running_sequences: Annotated[int, Field(ge=1)] = Field(
        32, description="answers that are generated at the same time"
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        100, description="answers or inputs that wait for their turn; beyond it 429"
    )
    max_batch_tokens: Annotated[int, Field(ge=16)] = Field(
        2048, description="tokens that one step computes at most; longer prompts take several steps"
    )
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(
        32, description="inputs that are computed together, for tasks other than TextGeneration"
    )
    default_max_tokens: Annotated[int, Field(ge=0)] = Field(
        4096, description="longest answer of a chat that does not say; 0: what the model can hold"
    )
