"""Shapes in images: transformers' pipeline, with a selection of the best of its own.

transformers takes the selection from torchvision, which nothing else here needs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import MaskGenerationPipeline, PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.loading import (
    LoadOptions,
    load_part,
    load_weights,
    translated_errors,
)
from modelserver_runtime.backends.media import blank_image, png_base64, read_image

# What is asked at warm-up: the same work as for a request, with fewer points.
_WARM_UP_POINTS = 2


class _Masks(MaskGenerationPipeline):
    def postprocess(  # type: ignore[override]  # the parameters that are served
        self, model_outputs: Any, crops_nms_thresh: float = 0.7, **_: Any
    ) -> list[dict[str, Any]]:
        scores = torch.cat([output["iou_scores"].flatten() for output in model_outputs])
        boxes = torch.cat([output["boxes"].reshape(-1, 4) for output in model_outputs])
        masks = [mask for output in model_outputs for mask in output["masks"]]
        kept = best_boxes(boxes.float(), scores.float(), crops_nms_thresh)
        return [
            {"mask": masks[place], "score": float(scores[place]), "box": boxes[place].tolist()}
            for place in kept
        ]


def best_boxes(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """Places of boxes, best first, none of which covers a better one by more than the threshold.

    Covering is the shared area divided by the area of both together.
    """
    kept: list[int] = []
    left = scores.argsort(descending=True)
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[_covering(boxes[best], boxes[left]) <= threshold]
    return kept


def _covering(box: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    upper = torch.maximum(box[:2], others[:, :2])
    lower = torch.minimum(box[2:], others[:, 2:])
    shared = (lower - upper).clamp(min=0).prod(-1)
    areas = (others[:, 2:] - others[:, :2]).prod(-1)
    together = (box[2:] - box[:2]).prod() + areas - shared
    return shared / together.clamp(min=1e-6)


def load(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, "MaskGenerator"]:
    model = load_weights(transformers.AutoModelForMaskGeneration, options)
    with translated_errors():
        processor = load_part("image_processor", options)
        make: Any = _Masks
        pipeline = make(model=model, image_processor=processor, device=model.device)
    return model, MaskGenerator(pipeline)


class MaskGenerator:
    """See `backends.base.BatchBackend`."""

    def __init__(self, pipeline: _Masks) -> None:
        self._pipeline: Any = pipeline

    def warm_up(self) -> None:
        item = TaskItem(inputs=blank_image(), parameters={"points_per_side": _WARM_UP_POINTS})
        self.run([item])

    @torch.inference_mode()
    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [self._answer(item) for item in items]

    def _answer(self, item: TaskItem) -> list[dict[str, Any]]:
        parameters = dict(item.parameters)
        if "points_per_side" in parameters:
            parameters["points_per_crop"] = parameters.pop("points_per_side")
        shapes = self._pipeline(read_image(item.inputs), **parameters)
        return [_described(shape) for shape in shapes]


def _described(shape: dict[str, Any]) -> dict[str, Any]:
    names = ("xmin", "ymin", "xmax", "ymax")
    box = dict(zip(names, (int(edge) for edge in shape["box"]), strict=True))
    pixels = _pixels(shape["mask"])
    image = Image.fromarray(pixels.astype(np.uint8) * 255, mode="L")
    return {"mask": png_base64(image), "score": shape["score"], "box": box}


def _pixels(mask: dict[str, Any]) -> np.ndarray[Any, Any]:
    """From lengths of runs, columns first, beginning with one of zeros."""
    height, width = mask["size"]
    values = np.arange(len(mask["counts"])) % 2
    return np.repeat(values, mask["counts"]).reshape(width, height).T
