"""Labels for videos; transformers' pipeline decodes files with a library of its own choice."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.frames import read_frames
from modelserver_runtime.backends.loading import LoadOptions, load_part, load_weights
from modelserver_runtime.backends.media import blank_image, read_image

_FRAMES = 16


def load(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, "VideoClassifier"]:
    model = load_weights(transformers.AutoModelForVideoClassification, options)
    return model, VideoClassifier(model, load_part("image_processor", options))


class VideoClassifier:
    """See `backends.base.BatchBackend`; inputs are a file, or a list of files with a frame each."""

    def __init__(self, model: PreTrainedModel, image_processor: Any) -> None:
        self._model = model
        self._image_processor = image_processor

    def warm_up(self) -> None:
        self.run([TaskItem(inputs=[blank_image()])])

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [self._answer(item) for item in items]

    @torch.inference_mode()
    def _answer(self, item: TaskItem) -> Any:
        trained = getattr(self._model.config, "num_frames", None) or _FRAMES
        wanted: int = item.parameters.get("num_frames") or trained
        inputs = self._image_processor(self._frames(item.inputs, wanted), return_tensors="pt")
        outputs: Any = self._model(**inputs.to(self._model.device, self._model.dtype))
        scores = self._scores(outputs.logits[0].float(), item.parameters.get("function_to_apply"))
        count = min(item.parameters.get("top_k") or len(scores), len(scores))
        values, places = scores.topk(count)
        names = self._model.config.id2label or {}
        return [
            {"label": names[place], "score": value}
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
        ]

    def _frames(self, inputs: Any, wanted: int) -> list[Image.Image]:
        if isinstance(inputs, bytes):
            return read_frames(inputs, wanted)
        frames = [read_image(content) for content in inputs]
        return [frames[index * len(frames) // wanted] for index in range(wanted)]

    def _scores(self, logits: torch.Tensor, function: str | None) -> torch.Tensor:
        kind = getattr(self._model.config, "problem_type", None)
        usual = {"regression": "none", "multi_label_classification": "sigmoid"}
        match function or usual.get(kind or "", "softmax"):
            case "sigmoid":
                return logits.sigmoid()
            case "none":
                return logits
            case _:
                return logits.softmax(-1)
