"""The verbs: explain a model's output on images with one method, one target at a time or several at once."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from pellucid.attribution.estimate import announce
from pellucid.attribution.explanation import Explanation
from pellucid.attribution.method import Method
from pellucid.attribution.request import Request, Spent
from pellucid.attribution.several import together
from pellucid.errors import BadTarget
from pellucid.models import Model, Passes, Target
from pellucid.models.targets import Class, Output

__all__ = ["explain", "explain_targets"]


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
        Whether to show a bar, and before it what a method that knows its forwards will cost.

    Returns
    -------
    Explanation
        Raw signed values of the images' shape, in model space.

    Raises
    ------
    BadRecipe, BadTarget, ShapeError, CannotExplain
        When the method, target, images or model do not fit; one sentence that says what would.
    """
    request = Request.of(model, x, method, ids, seed)
    with Passes(request.model, batch_size=batch_size, progress=progress) as passes:
        if progress:
            announce(request, passes)
        spent = Spent(passes)
        outputs = passes.outputs(request.inputs)
        return request.one(spent, outputs, request.method.target(target, request.model, outputs))


def explain_targets(
    model: Model | Callable[..., Any],
    x: Tensor | Sequence[Tensor],
    method: str | Method = "occlusion",
    targets: Sequence[Any] | None = None,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> tuple[Explanation, ...]:
    """Say which parts of each image speak for each class: perturbation methods answer all from one run.

    Hidden parts are the same whatever is asked, so one run of forwards explains every target that reads the same layer;
    methods that differentiate go once through each. The maps are those of `explain`, target by target; only with a
    stopping rule (``tolerance=``) does a row go on until the last target has enough.

    Parameters
    ----------
    model, x, method, ids, seed, batch_size, progress
        As for `explain`.
    targets
        One target or class each, as `explain` takes them; None for every output of a model that gives ``(N, K)``.

    Returns
    -------
    tuple of Explanation
        One a target, in order. Passes and seconds that a run shares are counted once, in its first explanation; so
        sums over the tuple are what was spent.

    Raises
    ------
    BadTarget
        When no targets are given for a segmentation.
    BadRecipe, ShapeError, CannotExplain
        As for `explain`.
    """
    request = Request.of(model, x, method, ids, seed)
    with Passes(request.model, batch_size=batch_size, progress=progress) as passes:
        if progress:
            announce(request, passes)
        spent = Spent(passes)
        outputs = passes.outputs(request.inputs)
        asked = _every_output(request.model, outputs) if targets is None else targets
        chosen = [request.method.target(target, request.model, outputs) for target in asked]
        reads = [target.freeze(request.model, outputs) for target in chosen]
        if not chosen:
            raise BadTarget("no targets were given; leave targets out for every output")
        if not request.method.shares_forwards or len({read.layer for read in reads}) > 1:
            return tuple(request.one(spent, outputs, target) for target in chosen)
        return request.all(spent, outputs, chosen, together(reads))


def _every_output(model: Model, outputs: Tensor) -> list[Target]:
    shape = tuple(outputs.shape)
    if len(shape) > 2:
        raise BadTarget(
            f"targets=None has no meaning for a dense output {shape}: give pellucid.targets.Region(index), "
            "Region(index, box=...), Region(index, point=...) or Region(index, mask=...) values"
        )
    kind = Output if shape[1] == 1 or model.task == "regression" else Class
    return [kind(index) for index in range(shape[1])]
