"""Hold a network still while it is explained, and give it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["frozen"]


@contextmanager
def frozen(module: nn.Module | None) -> Iterator[None]:
    """Hold a module in eval mode with frozen parameters, and give it back exactly as it was."""
    if module is None:
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    buffers = [
        (part, name, kept, None if kept is None else kept.detach().clone())
        for part, _ in modes
        for name, kept in part._buffers.items()  # noqa: SLF001
    ]
    try:
        for part, training in modes:
            if training:
                part.training = False  # not eval(): exported programs refuse it, and some layers rewrite weights in it
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)  # noqa: FBT003
        yield
    finally:
        for part, mode in modes:
            if part.training is not mode:
                part.training = mode
        for parameter, needed, gradient in parameters:
            parameter.requires_grad_(needed)
            parameter.grad = gradient
        for part, name, kept, values in buffers:
            if part._buffers[name] is not kept:  # noqa: SLF001
                part._buffers[name] = kept  # noqa: SLF001
            if kept is not None and values is not None and not torch.equal(kept, values):
                with torch.no_grad():
                    kept.copy_(values)
