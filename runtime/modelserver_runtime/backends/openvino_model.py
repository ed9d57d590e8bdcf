"""Computes a model of torch with OpenVINO: the same object, another forward."""

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelserver_runtime.errors import UnsupportedModel
from modelserver_runtime.settings import Dtype, Task

# What one forward of an encoder answers; models that write text need their own caches.
TASKS = frozenset(
    {
        *(Task.EMBEDDINGS, Task.FEATURE_EXTRACTION, Task.SENTENCE_SIMILARITY),
        *(Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION),
        *(Task.FILL_MASK, Task.QUESTION_ANSWERING, Task.IMAGE_CLASSIFICATION),
        "ImageFeatureExtraction",
    }
)
# The example that the graph is traced with; its sizes do not bind.
_BATCH, _TOKENS = 2, 8
_PRECISIONS = {Dtype.FLOAT32: "f32", Dtype.FLOAT16: "f16", Dtype.BFLOAT16: "bf16"}


def compute_with_openvino(model: PreTrainedModel, device: str, dtype: Dtype) -> PreTrainedModel:
    """Replaces the model's forward by a compiled graph, and gives up torch's copy of the weights.

    `device` is OpenVINO's own name, such as CPU or GPU.
    """
    openvino: Any = importlib.import_module("openvino")
    as_float: Any = model.float
    model = as_float().eval()
    try:
        inputs = _example(model)
        outputs = _outputs(model, inputs)
        names = [name for name, value in outputs.items() if isinstance(value, Tensor)]
        traced = _Traced(model, names, list(inputs))
        with warnings.catch_warnings():
            # torch warns about tracing, and tracing about each size that it takes for fixed.
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(traced, example_input=tuple(inputs.values()))
        # Without a wish, numbers are those of torch: a processor may choose bfloat16 by itself.
        precision = {"INFERENCE_PRECISION_HINT": _PRECISIONS.get(dtype, "f32")}
        compiled = openvino.Core().compile_model(graph, device, precision)
    except Exception as error:  # openvino's failures have no common base
        raise UnsupportedModel(
            f"OpenVINO cannot compute this model: {str(error).strip().partition('\n')[0]}",
            hint="Use another device, such as cpu.",
        ) from error
    model.forward = _Compiled(compiled, type(outputs), names, list(inputs))
    _forget_weights(model)
    return model


def _example(model: PreTrainedModel) -> dict[str, Tensor]:
    accepted = inspect.signature(model.forward).parameters
    if "pixel_values" in accepted and "input_ids" not in accepted:
        return {"pixel_values": torch.rand(_BATCH, *_image_shape(model.config))}
    ones = torch.ones(_BATCH, _TOKENS, dtype=torch.long)
    example = {"input_ids": ones, "attention_mask": ones}
    if "token_type_ids" in accepted and getattr(model.config, "type_vocab_size", 0) > 1:
        example["token_type_ids"] = torch.zeros_like(ones)
    return example


def _image_shape(config: Any) -> tuple[int, int, int]:
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    return int(getattr(config, "num_channels", 3)), int(height), int(width)


@torch.inference_mode()
def _outputs(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Any:
    return model(**inputs)


class _Traced(nn.Module):
    """Takes and gives tensors by position, as a trace must."""

    def __init__(self, model: nn.Module, outputs: list[str], inputs: list[str]) -> None:
        super().__init__()
        self._model = model
        self._outputs = outputs
        self._inputs = inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = self._model(**dict(zip(self._inputs, tensors, strict=True)))
        return tuple(outputs[name] for name in self._outputs)


class _Compiled:
    """Called as the model's forward was, with arguments by name."""

    def __init__(self, compiled: Any, kind: type, outputs: list[str], inputs: list[str]) -> None:
        self._compiled = compiled
        self._kind = kind
        self._outputs = outputs
        self._inputs = inputs

    def __call__(self, **given: Any) -> Any:
        arrays = [self._argument(name, given).numpy() for name in self._inputs]
        results = self._compiled(arrays)
        tensors = [torch.from_numpy(results[index].copy()) for index in range(len(self._outputs))]
        return self._kind(**dict(zip(self._outputs, tensors, strict=True)))

    def _argument(self, name: str, given: Mapping[str, Tensor | None]) -> Tensor:
        """Callers leave away a mask of ones, and the types of a single text."""
        value = given.get(name)
        if value is not None:
            return value
        like = given["input_ids"]
        assert like is not None  # noqa: S101  pixels, the other input, are never left away
        return torch.ones_like(like) if name == "attention_mask" else torch.zeros_like(like)


def _forget_weights(model: nn.Module) -> None:
    """OpenVINO has its own; what remains has their shapes, and the memory of one number each."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_zeros(1).expand(parameter.shape)
