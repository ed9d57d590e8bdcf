"""The Open Inference Protocol, version 2: models as functions of tensors."""
