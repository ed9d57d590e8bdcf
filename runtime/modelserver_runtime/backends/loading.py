"""Brings weights, tokenizers and processors from a directory into memory."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.hardware_accelerators import torch_name
from modelserver_runtime.backends.hardware_processor import processor_flags
from modelserver_runtime.backends.machine import available_memory_bytes, usable_threads
from modelserver_runtime.backends.openvino_model import compute_with_openvino
from modelserver_runtime.backends.placeholders import placeholders_stay_empty
from modelserver_runtime.backends.tokenization import TransformersTokenizer
from modelserver_runtime.errors import (
    ArtifactCorrupt,
    ArtifactRefused,
    InvalidConfiguration,
    OutOfMemory,
    StartupFailure,
    UnsupportedModel,
)
from modelserver_runtime.settings import Dtype

log = logging.getLogger(__name__)

_READ_BYTES = 8 << 20
_OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory")
_WEIGHTS = ("*.safetensors", "*.bin")
_DTYPES = {
    Dtype.FLOAT32: torch.float32,
    Dtype.FLOAT16: torch.float16,
    Dtype.BFLOAT16: torch.bfloat16,
    Dtype.INT8: torch.bfloat16,  # the native engine makes integers of it
}
_PARTS: dict[str, Any] = {
    "tokenizer": AutoTokenizer,
    "image_processor": AutoImageProcessor,
    "feature_extractor": AutoFeatureExtractor,
    "processor": AutoProcessor,
}
# What oneDNN asks for before it multiplies bfloat16; processors of ARM call theirs `bf16`.
_PRODUCTS_OF_BF16 = {"avx512bw", "avx512vl", "avx512dq"}
# Tokenizers without a limit of their own say 1e30.
_LARGEST_LENGTH = 1 << 40
# Of the memory that is free after loading, this share may hold keys and values.
_CACHE_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """0 means for `max_model_length` what the model was made for, for `threads` the CPU limit.

    At most `speculative_tokens` of an answer are guessed at a time, by engines that can.
    `device` is one that is there, by its name in `backends.hardware`.
    """

    directory: Path
    name: str
    dtype: Dtype = Dtype.AUTO
    max_model_length: int = 0
    allow_pickle: bool = False
    trust_remote_code: bool = False
    threads: int = 0
    speculative_tokens: int = 0
    device: str = "cpu"

    @property
    def torch_device(self) -> torch.device:
        """Where torch keeps tensors; OpenVINO takes them from the processor's memory."""
        is_openvino = self.device.startswith("openvino")
        return torch.device("cpu" if is_openvino else torch_name(self.device))

    @property
    def arguments(self) -> dict[str, Any]:
        """What every `from_pretrained` gets."""
        return {
            "pretrained_model_name_or_path": self.directory,
            "local_files_only": True,
            "trust_remote_code": self.trust_remote_code,
        }


def stay_offline() -> None:
    """What is missing in the directory is missing; transformers would ask the hub for it."""
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    log_settings: Any = transformers.logging
    log_settings.disable_progress_bar()
    log_settings.set_verbosity_error()


def use_threads(wanted: int) -> int:
    threads = wanted or usable_threads()
    torch.set_num_threads(threads)
    return threads


def read_ahead(directory: Path, progress: Progress) -> None:
    """Reads the weights once, in order: fills the page cache at full speed, and shows progress."""
    paths = [path for pattern in _WEIGHTS for path in sorted(directory.glob(pattern))]
    total = sum(path.stat().st_size for path in paths)
    progress.enter(Phase.LOADING, total_bytes=total)
    if total > available_memory_bytes():
        log.warning("The weights have %d bytes, more than the memory that is free", total)
        return
    buffer = bytearray(_READ_BYTES)
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                progress.add(count)


def load_weights(
    auto_class: Any, options: LoadOptions, *, as_stored: bool = False
) -> PreTrainedModel:
    """A model in evaluation mode on its device, every one of its weights from the files.

    `as_stored` keeps a bfloat16 that torch is slow with; see `computed_by_torch`.
    """
    with translated_errors(), placeholders_stay_empty():
        model, info = auto_class.from_pretrained(
            **options.arguments,
            dtype=_dtype(options, as_stored=as_stored),
            use_safetensors=None if options.allow_pickle else True,
            output_loading_info=True,
        )
        _require_complete(model, info)
        moved: Any = model.to(options.torch_device)
        loaded: PreTrainedModel = moved.eval().requires_grad_(requires_grad=False)
    if options.device.startswith("openvino"):
        return compute_with_openvino(loaded, options.device.partition(":")[2], options.dtype)
    return loaded


def computed_by_torch(model: PreTrainedModel, options: LoadOptions) -> PreTrainedModel:
    """A model that was loaded as it is stored, in the dtype that torch computes it best with."""
    if options.dtype is Dtype.AUTO and model.device.type == "cpu" and _is_slow(model.dtype):
        widened: Any = model.to(torch.float32)  # type: ignore[arg-type]  # typed for devices only
        return cast("PreTrainedModel", widened)
    return model


def _dtype(options: LoadOptions, *, as_stored: bool) -> torch.dtype:
    if options.dtype is not Dtype.AUTO:
        return _DTYPES[options.dtype]
    stored: torch.dtype = AutoConfig.from_pretrained(**options.arguments).dtype or torch.float32
    if as_stored and stored is torch.bfloat16:
        return stored
    is_slow = options.torch_device.type == "cpu" and _is_slow(stored)
    return torch.float32 if is_slow else stored  # which holds the same values


def _is_slow(dtype: torch.dtype) -> bool:
    """Half the bytes, but computed number by number, or with a conversion before each product."""
    flags = processor_flags()
    has_bfloat16 = flags >= _PRODUCTS_OF_BF16 or "bf16" in flags
    return dtype is torch.float16 or (dtype is torch.bfloat16 and not has_bfloat16)


def _require_complete(model: PreTrainedModel, info: dict[str, Any]) -> None:
    """transformers fills missing weights with random numbers; such a model answers nonsense."""
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(entry) for entry in info["mismatched_keys"])
    if absent := missing or mismatched:
        raise UnsupportedModel(
            f"The files lack {len(absent)} weights that {type(model).__name__} needs, "
            f"first {absent[0]}",
            hint="Choose the task that the model was trained for, or another model.",
        )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns what transformers, safetensors and torch raise while loading into StartupFailures."""
    try:
        yield
    except _FOREIGN as error:
        raise _translated(error) from error


_FOREIGN = (
    *(MemoryError, OSError, ImportError, RuntimeError, SafetensorError),
    *(ValueError, KeyError, AttributeError, TypeError, IndexError),
)


def _translated(error: Exception) -> StartupFailure:
    match error:
        case _ if is_out_of_memory(error):
            return out_of_memory(error)
        case SafetensorError():
            return ArtifactCorrupt(
                f"The weights cannot be read: {error}", hint="Copy or fetch the model again."
            )
        case OSError():
            return _disk_failure(error)
        case ImportError():
            return UnsupportedModel(
                f"The model needs a library that is not here: {_first_line(error)}",
                hint="Use an image that holds this library.",
            )
        case ValueError() if "trust_remote_code" in str(error):
            return ArtifactRefused(
                "The model can only be loaded by running Python code that comes with it",
                hint="Read that code; then set trustRemoteCode with a pinned revision.",
            )
        case _:
            return _not_loadable(error)


def is_out_of_memory(error: Exception) -> bool:
    """torch has a class of its own for GPUs only; on a CPU it raises a RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def out_of_memory(error: BaseException) -> OutOfMemory:
    return OutOfMemory(
        f"The model does not fit into memory: {_first_line(error)}",
        hint="Raise the memory limit, or choose a smaller model or dtype.",
    )


def _disk_failure(error: OSError) -> StartupFailure:
    if error.errno == errno.ENOMEM:
        return out_of_memory(error)
    return ArtifactCorrupt(
        f"The model's files cannot be read: {_first_line(error)}",
        hint="Check that all files of the model are there; copy or fetch it again.",
    )


def _not_loadable(error: Exception) -> UnsupportedModel:
    return UnsupportedModel(
        f"transformers cannot load this model: {_first_line(error)}",
        hint="Check that the model is made for this version of transformers.",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def load_tokenizer(options: LoadOptions) -> TransformersTokenizer:
    with translated_errors():
        tokenizer = AutoTokenizer.from_pretrained(**options.arguments)
    return TransformersTokenizer(tokenizer, model_name=options.name)


def load_part(name: str, options: LoadOptions) -> Any:
    """What a pipeline needs beside the model: a tokenizer, or what prepares images or sound."""
    with translated_errors():
        return _PARTS[name].from_pretrained(**options.arguments)


def model_length(
    model: PreTrainedModel, tokenizer: TransformersTokenizer, options: LoadOptions
) -> int:
    """The most tokens that the model can hold, made smaller by what is configured."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or getattr(
        config, "n_positions", None
    )
    limits = [int(positions) - _position_offset(model)] if positions else []
    if tokenizer.inner.model_max_length < _LARGEST_LENGTH:
        limits.append(int(tokenizer.inner.model_max_length))
    longest = min(limits, default=_LARGEST_LENGTH)
    if options.max_model_length > longest:
        raise InvalidConfiguration(
            f"The maximum model length is {options.max_model_length}, but the model was made for "
            f"{longest} tokens",
            hint=f"Set it to {longest} or less, or to 0.",
        )
    return options.max_model_length or longest


def _position_offset(model: PreTrainedModel) -> int:
    """Models of the RoBERTa kind count positions from their padding token's id on."""
    for module in model.modules():
        if type(module).__name__.endswith("Embeddings"):
            positions = getattr(module, "position_embeddings", None)
            padding = getattr(positions, "padding_idx", None)
            return padding + 1 if padding is not None else 0
    return 0


def cache_capacity_tokens(model: PreTrainedModel) -> int | None:
    """How many tokens' keys and values fit into the free memory; None if the layout is unknown."""
    config = model.config.get_text_config(decoder=True)
    layers = getattr(config, "num_hidden_layers", None)
    heads = getattr(config, "num_key_value_heads", None) or getattr(
        config, "num_attention_heads", None
    )
    if not layers or not heads:
        return None
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token: int = 2 * layers * heads * width * model.dtype.itemsize
    return int(free_bytes(model.device) * _CACHE_SHARE) // per_token


def empty_caches() -> None:
    """Lets other processes have the memory of models that are gone."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device | str) -> int:
    """Memory that tensors may still take there."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory_bytes()
