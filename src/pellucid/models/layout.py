"""Where the channels of images lie in memory on their way forward: last, where that is quicker and changes nothing.

On the CPU convolutions over channels-last images take about two thirds of the time. Forwards only: the gradients of two
layouts may differ wherever rounding decides on which side of zero an activation lies.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.errors import PellucidError
from pellucid.models.model import Inputs, Model

__all__ = ["Layout"]

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}

_WORTH = 8
"""Rows from which on it pays to look at every operation once."""

_BY_MEMORY = {torch.ops.aten.as_strided, torch.ops.aten.set_, torch.ops.aten.resize_}
"""Operations that read a tensor's memory as it lies."""

Outputs = tuple[Tensor, dict[str, Tensor]]
"""What the network and its tapped layers return."""


class Layout:
    """Lays the rows out for one network, once its operations are known to give the same in every layout.

    Parameters
    ----------
    model
        Channels stay where they are unless it is a module on the CPU with convolutions that look at neighbours.
    """

    def __init__(self, model: Model) -> None:
        self._last = model.device.type == "cpu" and model.module is not None and _spatial(model.module)
        self._known = False

    def send(self, batch: Inputs, network: Callable[[Inputs], Outputs]) -> Outputs | None:
        """Return what the network makes of copies with channels last, or None where rows should go as they are.

        A network that fails with them, or uses an operation that is not torch's own, reads memory as it lies or draws random
        numbers, is not asked so again.
        """
        worth = self._known or len(batch[0]) >= _WORTH
        if not (self._last and worth and any(tensor.ndim in _FORMATS for tensor in batch)):
            return None
        given = tuple(tensor.clone(memory_format=_FORMATS.get(tensor.ndim, torch.preserve_format)) for tensor in batch)
        try:
            output, layers = network(given) if self._known else self._watched(given, network)
        except PellucidError:
            raise
        except (
            RuntimeError,
            ValueError,
            TypeError,
            IndexError,
        ):  # what is wrong with the rows themselves is said without
            self._last = False
        return (
            (output.contiguous(), {name: layer.contiguous() for name, layer in layers.items()}) if self._last else None
        )

    def _watched(self, given: Inputs, network: Callable[[Inputs], Outputs]) -> Outputs:
        with _Watch() as watch:
            found = network(given)
        self._last = self._known = watch.sure
        return found


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Sees every operation on its way to the kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sure = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        drawn = torch.Tag.nondeterministic_seeded in func.tags
        if drawn or func.namespace != "aten" or func.overloadpacket in _BY_MEMORY:
            self.sure = False
        return func(*args, **(kwargs or {}))


def _spatial(module: nn.Module) -> bool:
    kinds = (nn.Conv2d, nn.Conv3d)
    return any(isinstance(part, kinds) and max(part.kernel_size) > 1 for part in module.modules())
