"""The verb: explain a model's output on images with one method."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from pellucid.attribution.explanation import Explanation
from pellucid.attribution.method import METHODS, Attribution, Call, Method, row_seeds
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Inputs, Model, Passes, Target

__all__ = ["explain"]


def explain(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    method: str | Method = "integrated_gradients",
    target: Any = None,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Explanation:
    """Say which parts of each image the model used for its output.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module`` or callable.
    x
        Images ``(N, C, *S)``; a tuple of such tensors for nets of several inputs.
    method
        A method's text, such as ``"lrp(composite='epsilon_plus_flat')"``, or value.
    target
        What to explain: None for the predicted class, a class, one class a row, or a `pellucid.targets` value.
    ids
        One text an image; row i's random stream is then hash(seed, id). Without, every row has the same stream.
    seed
        Of everything random.
    batch_size
        Rows a pass; default automatic.
    progress
        Whether to show a bar.

    Returns
    -------
    Explanation
        Raw signed values of the images' shape, in model space.

    Raises
    ------
    BadRecipe, BadTarget, ShapeError, CannotExplain
        When the method, target, images or model do not fit; one sentence that says what would.
    """
    model, recipe = Model.of(model), METHODS.parse(method)
    _capable(recipe, model)
    inputs = tuple(tensor.detach() for tensor in model.prepare(x))
    rows = len(inputs[0])
    if ids is not None and len(ids) != rows:
        raise ShapeError(f"{len(ids)} ids were given for {rows} images")
    began = time.perf_counter()
    with Passes(model, batch_size=batch_size, progress=progress) as passes:
        outputs = passes.outputs(inputs)
        chosen = recipe.target(target, model, outputs)
        read = chosen.freeze(model, outputs)
        output = (passes.scores(inputs, read) if read.layer else read(outputs, _every(outputs))).clone()
        _finite(output, chosen)
        result = recipe.attribute(Call(passes, inputs, read, output, row_seeds(seed, ids, rows)))
        _sound(result, recipe, inputs)
    several = not isinstance(x, Tensor) and len(result.values) > 1
    return Explanation(
        values=tuple(_home(result.values)) if several else _home(result.values)[0],
        method=recipe,
        target=chosen,
        output=output.cpu(),
        reference_output=_cpu(result.reference_output),
        absorbed=_cpu(result.absorbed),
        gap=_gap(result, recipe, output),
        error=None if result.error is None else (_home(result.error) if several else _home(result.error)[0]),
        ids=tuple(ids) if ids is not None else None,
        seed=seed,
        seconds=time.perf_counter() - began,
        forwards=passes.forwards,
        backwards=passes.backwards,
        warnings=(*result.warnings, *passes.warnings),
        details=dict(result.details),
    )


def _every(outputs: Tensor) -> Tensor:
    return outputs.new_ones(len(outputs)).cumsum(0).long() - 1


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().cpu()


def _home(tensors: Inputs) -> Inputs:
    return tuple(tensor.detach().cpu() for tensor in tensors)


def _capable(method: Method, model: Model) -> None:
    has = model.capabilities
    for need in method.needs:
        if getattr(has, need) is False:
            would = [name for name, known in METHODS.items()
                     if all(getattr(has, other) is not False for other in known.taxonomy.needs)]  # fmt: skip
            raise CannotExplain(
                f"{method} needs {need}, which {model!r} does not offer; these methods do not: {', '.join(would)}"
            )


def _finite(output: Tensor, target: Target) -> None:
    broken = (~output.isfinite()).nonzero()
    if len(broken):
        row = int(broken[0])
        raise CannotExplain(
            f"the model gives {float(output[row])} for {target} of row {row}: there is nothing to explain"
        )


def _sound(result: Attribution, method: Method, inputs: Inputs) -> None:
    for place, values in enumerate(result.values):
        if len(values) != len(inputs[0]):
            raise CannotExplain(f"{method} returned {len(values)} maps for {len(inputs[0])} images")
        if not bool(values.isfinite().all()):
            raise CannotExplain(
                f"{method} gave NaN or infinity for input {place} of shape {tuple(values.shape)}; no map is returned"
            )


def _gap(result: Attribution, method: Method, output: Tensor) -> Tensor | None:
    if method.taxonomy.complete == "none" or (result.reference_output is None and result.absorbed is None):
        return None
    total = sum((values.double().flatten(1).sum(1) for values in result.values), start=output.new_zeros(()).double())
    for part in (result.absorbed, result.reference_output):
        if part is not None:
            total = total + part.double()
    return (total - output.double()).abs().float().cpu()
