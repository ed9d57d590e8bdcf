"""What one token of a model costs: weights that are read, operations that are done."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from modelserver_runtime.backends.costs import TokenCost

# More dimensions than a matrix has: weights of experts, of which a token uses a part.
_MATRIX = 2


def token_cost(model: nn.Module) -> TokenCost | None:
    """None for models that do not generate text, or of which it is not known.

    A multiplication with its addition are two operations. Attention is not counted: what it costs
    depends on how long the sequence is.
    """
    outputs = getattr(model, "get_output_embeddings", lambda: None)()
    if not isinstance(outputs, nn.Linear) or any(map(_is_of_experts, model.parameters())):
        return None
    matrices = [part.weight for part in model.modules() if isinstance(part, nn.Linear | Conv1D)]
    all_elements = sum(matrix.numel() for matrix in matrices)
    of_head = outputs.weight.numel()
    first: Any = outputs.weight
    return TokenCost(
        weight_bytes=all_elements * first.itemsize,
        operations=2 * (all_elements - of_head),
        head_operations=2 * of_head,
    )


def _is_of_experts(parameter: nn.Parameter) -> bool:
    return parameter.dim() > _MATRIX
