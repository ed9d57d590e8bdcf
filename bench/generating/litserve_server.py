"""`python -m bench.generating.litserve_server FOLDER PORT`: LitServe with a batched model.

As its documentation batches: requests that come within the timeout are one padded batch of
`generate()`, whose answers leave together. They are not streamed, because a batch cannot be.
"""

import argparse
import sys
from typing import Any

import litserve
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

_MOST_AT_A_TIME = 32
_BATCH_SECONDS = 0.05


class Chat(litserve.LitAPI):
    """Chat requests as OpenAI's, to one model."""

    def __init__(self, folder: str) -> None:
        super().__init__(
            max_batch_size=_MOST_AT_A_TIME,
            batch_timeout=_BATCH_SECONDS,
            api_path="/v1/chat/completions",
        )
        self._folder = folder

    def setup(self, device: str) -> None:
        del device
        self._tokenizer = AutoTokenizer.from_pretrained(self._folder, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=torch.bfloat16)

    def decode_request(self, request: dict[str, Any]) -> tuple[str, int]:
        text = self._tokenizer.apply_chat_template(
            request["messages"], tokenize=False, add_generation_prompt=True
        )
        return text, request["max_tokens"]

    @torch.inference_mode()
    def predict(self, requests: list[tuple[str, int]]) -> list[str]:
        lengths = [tokens for _, tokens in requests]
        given = self._tokenizer(
            [text for text, _ in requests],
            padding=True,
            return_tensors="pt",
            add_special_tokens=False,
            return_token_type_ids=False,
        )
        made = self._model.generate(**given, max_new_tokens=max(lengths), do_sample=False)
        new = made[:, given["input_ids"].shape[1] :].tolist()
        return [
            self._tokenizer.decode(tokens[:length], skip_special_tokens=True)
            for tokens, length in zip(new, lengths, strict=True)
        ]

    def encode_response(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generating.litserve_server")
    parser.add_argument("folder", help="the model's directory")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    server = litserve.LitServer(Chat(given.folder), accelerator="cpu")
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
