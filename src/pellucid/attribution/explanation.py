"""What a method found, raw: signed values per input element, with what is needed to judge and to cite them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pellucid.attribution.method import METHODS, Method
from pellucid.errors import ShapeError
from pellucid.models import Inputs, Model, Passes, Target
from pellucid.models.model import as_inputs
from pellucid.models.targets import Latent, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Explanation"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The values of one method for a batch of images.

    Attributes
    ----------
    values
        Shape of the images ``(N, C, *S)`` (a tuple for several inputs; of a layer for CAM and ``at=``). Signed and raw:
        never clipped, pooled, upsampled or normalised; `combine` does that as named steps.
    method
        The method with its settings, or the name given to foreign values.
    target
        What was explained.
    output
        ``(N,)`` f(x), the target's value.
    reference_output
        ``(N,)`` f(reference), or None where the method has no reference.
    absorbed
        ``(N,)`` what biases and normalisation shifts took (LRP), or None.
    gap
        ``(N,)`` |Σ values + absorbed − (f(x) − f(reference))| for methods that promise completeness, else None.
    error
        Standard error of each value where the method samples, else None.
    ids, seed
        Image ids and seed: row i's random stream is hash(seed, id).
    seconds, forwards, backwards
        Wall time, and rows that went through the model.
    warnings
        What a reader of the map must know.
    details
        Further per-row results, such as ``"r2"`` for surrogates.
    """

    values: Tensor | Inputs
    method: Method | str
    target: Target
    output: Tensor
    reference_output: Tensor | None = None
    absorbed: Tensor | None = None
    gap: Tensor | None = None
    error: Tensor | Inputs | None = None
    ids: tuple[str, ...] | None = None
    seed: int = 0
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.output)

    @property
    def name(self) -> str:
        """The method's text, as printed under figures and stored beside scores."""
        return str(self.method)

    @property
    def tensors(self) -> Inputs:
        """The values as a tuple, one tensor an input."""
        return (self.values,) if isinstance(self.values, Tensor) else self.values

    @classmethod
    def from_values(
        cls,
        values: Tensor | Sequence[Tensor],
        model: Model | Callable[..., Any],
        x: Tensor | Sequence[Tensor],
        *,
        target: Any = None,
        name: str,
        ids: Sequence[str] | None = None,
    ) -> "Explanation":
        """Wrap anybody's map, so that it can be tested and ranked beside ours.

        Raises
        ------
        ShapeError
            When there is not one map an image.
        """
        model, inputs = Model.of(model), as_inputs(x)
        maps = as_inputs(values)
        if len(maps[0]) != len(inputs[0]):
            raise ShapeError(
                f"{name!r} has {len(maps[0])} maps (shape {tuple(maps[0].shape)}) for {len(inputs[0])} images"
            )
        with Passes(model) as passes:
            prepared = model.prepare(inputs)
            outputs = passes.outputs(prepared)
            chosen = resolve(target, model, outputs)
            output = passes.scores(prepared, chosen.freeze(model, outputs))
        if name in METHODS:
            name = f"{name} (given)"
        return cls(
            values=maps[0] if isinstance(values, Tensor) else maps,
            method=name,
            target=chosen,
            output=output.cpu(),
            ids=tuple(ids) if ids is not None else None,
            forwards=passes.forwards,
        )

    def __getitem__(self, rows: slice | Sequence[int]) -> "Explanation":
        """Return the explanation of some rows."""
        index = torch.arange(len(self))[rows if isinstance(rows, slice) else list(rows)]

        def cut(value: Any) -> Any:
            if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
                return tuple(tensor[index] for tensor in value)
            return value[index] if isinstance(value, Tensor) and value.ndim and len(value) == len(self) else value

        kept = {name: cut(value) for name, value in vars(self).items()}
        kept["details"] = {name: cut(value) for name, value in self.details.items()}
        kept["ids"] = tuple(self.ids[row] for row in index) if self.ids is not None else None
        kept["target"] = _rows_of(self.target, index, len(self))
        return Explanation(**kept)

    def plot(self, images: Tensor | None = None, **settings: Any) -> "Figure":
        """Draw the maps beside their `images`; see `pellucid.show.plot_explanation`."""
        from pellucid.show import plot_explanation  # noqa: PLC0415  # pictures know explanations, not the reverse

        return plot_explanation(self, images, **settings)

    def __repr__(self) -> str:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in self.tensors)
        return f"Explanation({self.name}, target={self.target}, values {shapes})"


def _rows_of(target: Target, index: Tensor, rows: int) -> Target:
    """Return the target of some rows: settings that name one class a row are cut with them."""
    if isinstance(target, Latent):  # its index names places of a layer, the same for every row
        return target
    changed = {
        name: tuple(value[row] for row in index)
        for name, value in target.settings.items()
        if isinstance(value, tuple) and len(value) == rows and name in {"index", "positive", "negative"}
    }
    return target.replace(**changed) if changed else target
