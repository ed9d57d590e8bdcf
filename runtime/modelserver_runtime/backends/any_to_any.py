"""Text, an image or a sound from texts, images and sounds, with the model's own processor.

transformers' pipeline for it needs torchvision, for videos that are not served here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.loading import LoadOptions, load_part, load_weights
from modelserver_runtime.backends.media import png_base64, read_image, read_sound, wav_base64
from modelserver_runtime.backends.media_tasks import prompt_of
from modelserver_runtime.errors import InvalidRequest

# Of models that read sounds and do not say at which rate.
_SAMPLING_RATE = 16_000


def load(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, "AnyToAny"]:
    model = load_weights(transformers.AutoModelForMultimodalLM, options)
    return model, AnyToAny(model, load_part("processor", options))


class AnyToAny:
    """See `backends.base.BatchBackend`."""

    def __init__(self, model: PreTrainedModel, processor: Any) -> None:
        self._model = model
        self._processor = processor
        extractor = getattr(processor, "feature_extractor", None)
        self._sampling_rate = int(getattr(extractor, "sampling_rate", _SAMPLING_RATE))

    def warm_up(self) -> None:
        inputs = {"text": "warm up", "images": (), "audio": ()}
        parameters = {"max_new_tokens": 1, "generation_mode": "text"}
        self.run([TaskItem(inputs=inputs, parameters=parameters)])

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [self._answer(item) for item in items]

    @torch.inference_mode()
    def _answer(self, item: TaskItem) -> dict[str, Any]:
        parameters = dict(item.parameters)
        mode = parameters.pop("generation_mode")
        self._require_mode(mode)
        encoding = self._encoded(item.inputs)
        if mode != "text":
            parameters["generation_mode"] = mode
        generate: Any = self._model.generate
        return self._made(mode, generate(**encoding, **parameters), encoding["input_ids"].shape[1])

    def _require_mode(self, mode: str) -> None:
        made: Sequence[str] = getattr(self._model, "output_modalities", ("text",))
        if mode not in made:
            raise InvalidRequest(
                f"The model makes {', '.join(made)}, and no {mode}",
                param="parameters.generation_mode",
            )

    def _encoded(self, inputs: Mapping[str, Any]) -> Any:
        media = {
            "image": [read_image(content) for content in inputs["images"]],
            "audio": [
                read_sound(content, self._sampling_rate)["raw"] for content in inputs["audio"]
            ],
        }
        prompt = prompt_of(self._processor, inputs["text"], media)
        if isinstance(prompt["text"], str):
            encoding = self._processor(**prompt, return_tensors="pt")
        else:
            encoding = self._processor.apply_chat_template(
                prompt["text"],
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                add_generation_prompt=True,
            )
        return encoding.to(self._model.device, self._model.dtype)

    def _made(self, mode: str, output: Any, prompt_tokens: int) -> dict[str, Any]:
        match mode:
            case "image":
                decode: Any = self._model.decode_image_tokens
                pixels = decode(output)
                [image] = self._processor.postprocess(
                    list(pixels), return_tensors="PIL.Image.Image"
                )
                return {"image": png_base64(image)}
            case "audio":
                samples = np.atleast_2d(output.float().cpu().numpy().squeeze())
                return {"audio": wav_base64(samples, self._sampling_rate)}
            case _:
                [text] = self._processor.batch_decode(
                    output[:, prompt_tokens:], skip_special_tokens=True
                )
                return {"generated_text": text}
