"""Summaries, translations and other text from text; transformers 5 has no pipelines for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.tokenization import TransformersTokenizer
from modelserver_runtime.errors import ContextLengthExceeded, InvalidRequest
from modelserver_runtime.settings import Task

_OUTPUT_NAMES: Mapping[str, str] = {
    Task.SUMMARIZATION: "summary_text",
    Task.TRANSLATION: "translation_text",
    Task.TEXT_TO_TEXT_GENERATION: "generated_text",
}
_LANGUAGES = ("source_language", "target_language")


class TextToText:
    """See `backends.base.BatchBackend`; one sequence at a time, as `generate` does it."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TransformersTokenizer,
        *,
        task: str,
        max_model_length: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._task = task
        self._max_model_length = max_model_length

    def warm_up(self) -> None:
        self.run([TaskItem(inputs="warm up", parameters={"max_new_tokens": 2})])

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [self._answer(item) for item in items]

    @torch.inference_mode()
    def _answer(self, item: TaskItem) -> dict[str, str]:
        parameters = dict(item.parameters)
        languages = {name: parameters.pop(name, None) for name in _LANGUAGES}
        options = self._language_options(languages)
        generate: Any = self._model.generate
        encoding = self._encode(self._prefix(languages) + item.inputs)
        output = generate(**encoding, **parameters, **options)
        text = self._tokenizer.decode(output[0].tolist())
        return {_OUTPUT_NAMES[self._task]: text.strip()}

    def _encode(self, text: str) -> Any:
        encoding = self._tokenizer.inner(text, return_tensors="pt", verbose=False)
        tokens = encoding["input_ids"].shape[1]
        if tokens > self._max_model_length:
            raise ContextLengthExceeded(
                f"The input has {tokens} tokens, and the model takes at most "
                f"{self._max_model_length}; shorten it",
                param="inputs",
            )
        encoding.pop("token_type_ids", None)
        return encoding.to(self._model.device)

    def _language_options(self, languages: Mapping[str, str | None]) -> dict[str, int]:
        """Multilingual models choose the language by a token; other models know only their own."""
        tokenizer = self._tokenizer.inner
        source, target = (languages[name] for name in _LANGUAGES)
        if source is None and target is None:
            return {}
        if not hasattr(tokenizer, "src_lang"):
            return self._require_prefix(languages)
        if source is not None:
            self._language_token(source, "source_language")
            tokenizer.src_lang = source
        if target is None:
            return {}
        return {"forced_bos_token_id": self._language_token(target, "target_language")}

    def _language_token(self, language: str, param: str) -> int:
        tokenizer = self._tokenizer.inner
        codes = getattr(tokenizer, "lang_code_to_token", None) or {}
        token_id = tokenizer.convert_tokens_to_ids(codes.get(language, language))
        if token_id is None or token_id == tokenizer.unk_token_id:
            raise InvalidRequest(
                f"The model knows no language {language!r}; write it as in the model's card, "
                "for example en or eng_Latn",
                param=f"parameters.{param}",
            )
        return int(token_id)

    def _require_prefix(self, languages: Mapping[str, str | None]) -> dict[str, int]:
        if not self._prefix(languages):
            raise InvalidRequest(
                "The model translates between two languages only; leave source_language and "
                "target_language away",
                param="parameters.target_language",
            )
        return {}

    def _prefix(self, languages: Mapping[str, str | None]) -> str:
        """Models of the T5 kind are told by their config which words start a task."""
        tasks = getattr(self._model.config, "task_specific_params", None) or {}
        name = "summarization"
        if self._task is Task.TRANSLATION:
            source, target = (languages[name] for name in _LANGUAGES)
            name = f"translation_{source}_to_{target}"
        if self._task is Task.TEXT_TO_TEXT_GENERATION:
            return ""
        return str(tasks.get(name, {}).get("prefix", ""))
