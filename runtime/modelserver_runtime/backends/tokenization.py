"""Text to tokens and back, on transformers' tokenizers."""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import jinja2

from modelserver_runtime.backends.base import ResponseParser
from modelserver_runtime.errors import InvalidRequest

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Enough tokens of a prompt to decide how the text after it begins.
_CONTEXT_TOKENS = 6


class TransformersTokenizer:
    """See `backends.base.Tokenizer`."""

    def __init__(self, tokenizer: Any, *, model_name: str) -> None:
        self._tokenizer = tokenizer
        self._model_name = model_name
        self.token_bytes = lru_cache(maxsize=65536)(self._token_bytes)

    @property
    def inner(self) -> Any:
        """A `PreTrainedTokenizerBase`, whose two kinds have no common type."""
        return self._tokenizer

    @property
    def chat_template(self) -> str:
        template = self._tokenizer.chat_template or ""
        return "\n".join(template.values()) if isinstance(template, dict) else str(template)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        encoding = self._tokenizer(
            text, add_special_tokens=add_special_tokens, return_attention_mask=False, verbose=False
        )
        return tuple(encoding["input_ids"])

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        text = self._tokenizer.decode(
            list(token_ids),
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=False,
        )
        return str(text)

    def token_text(self, token_id: int) -> str:
        return self.decode([token_id], skip_special_tokens=False)

    def _token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token, also of one that is only part of a character."""
        text = self.token_text(token_id)
        if _REPLACEMENT not in text:
            return text.encode()
        piece = str(self._tokenizer.convert_ids_to_tokens([token_id])[0])
        return _bytes_of_piece(piece) or text.encode()

    def text_stream(
        self, *, context: Sequence[int] = (), skip_special_tokens: bool = True
    ) -> "WindowedTextStream":
        return WindowedTextStream(
            self, context=context[-_CONTEXT_TOKENS:], skip_special_tokens=skip_special_tokens
        )

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        if not self._tokenizer.chat_template and not options.get("chat_template"):
            raise InvalidRequest(
                f"The model {self._model_name} has no chat template, so it cannot chat; "
                "send a prompt to /v1/completions instead"
            )
        try:
            encoding = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=True,
                return_dict=True,
                **{"add_generation_prompt": True, **options},
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"The chat template of the model refuses these messages: {error}", param="messages"
            ) from error
        return tuple(encoding["input_ids"])

    def response_parser(
        self, prompt: str, tools: Sequence[Mapping[str, Any]]
    ) -> ResponseParser | None:
        if getattr(self._tokenizer, "response_template", None) is None:
            return None
        parser: ResponseParser = self._tokenizer.get_response_parser(
            prefix=prompt, tools=[dict(tool) for tool in tools]
        )
        return parser


class WindowedTextStream:
    """Decodes the last tokens together, since a token's text depends on its neighbours."""

    def __init__(
        self, tokenizer: TransformersTokenizer, *, context: Sequence[int], skip_special_tokens: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window = list(context)
        self._known = len(context)  # tokens of the window whose text has been given out

    def step(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._new_text()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        del self._window[: self._known]
        self._known = len(self._window)
        return text

    def flush(self) -> str:
        text = self._new_text()
        self._known = len(self._window)
        return text

    def _new_text(self) -> str:
        before = self._decode(self._window[: self._known])
        return self._decode(self._window)[len(before) :]

    def _decode(self, token_ids: Sequence[int]) -> str:
        if not token_ids:
            return ""
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)


def _bytes_of_piece(piece: str) -> bytes | None:
    """Bytes of a byte-fallback token (`<0xE2>`) or of a token in the alphabet of byte-level BPE."""
    if piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:-1], 16)])
    alphabet = _byte_level_alphabet()
    if all(character in alphabet for character in piece):
        return bytes(alphabet[character] for character in piece)
    return None


@cache
def _byte_level_alphabet() -> dict[str, int]:
    """Byte-level BPE shows printable bytes as themselves and the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {chr(byte): byte for byte in printable}
    return shown | {chr(0x100 + index): byte for index, byte in enumerate(others)}
