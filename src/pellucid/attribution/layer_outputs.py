"""What the layers of a model give, in the order of one forward."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pellucid.attribution.method import Call
from pellucid.errors import CannotExplain
from pellucid.models import take_rows

__all__ = ["LayerOutput", "layer_outputs"]


@dataclass(frozen=True)
class LayerOutput:
    """One output of a layer in a forward of one row: the layer's name and the output's shape without its rows."""

    name: str
    shape: tuple[int, ...]
    last: bool = False


def layer_outputs(call: Call) -> list[LayerOutput]:
    """Return the tensors that the layers give in a forward of the first row, in order; `last` marks the model's own.

    Where the target reads a layer, those after it are left out: nothing that it sees comes from there.
    """
    module = call.passes.model.module
    if module is None:
        raise CannotExplain("class activation maps need layers; a plain callable has none: wrap an nn.Module")
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
            if isinstance(output, Tensor) and (
                inputs or named
            ):  # what is given nothing, as position biases, shows no image
                seen.append((name, output))

        return hook

    hooks = [part.register_forward_hook(note(name), with_kwargs=True) for name, part in module.named_modules()]
    try:
        call.passes.outputs(take_rows(call.inputs, slice(0, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    final = next((output for name, output in reversed(seen) if not name), None)
    names = [name for name, _ in seen]
    if call.read.layer in names:
        seen = seen[: names.index(call.read.layer) + 1]
    return [LayerOutput(name, tuple(output.shape[1:]), output is final) for name, output in seen if name]
