"""One cell of the matrix nets × methods: verified by the strongest check that applies, or refused in a sentence."""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.attribution import METHODS, Explanation, Method, explain, fit_patterns
from pellucid.errors import PellucidError
from pellucid.models import Inputs, Model, take_rows
from pellucid.testing.zoo.cam_references import CAMS
from pellucid.testing.zoo.case import Case
from pellucid.testing.zoo.entry import ZooNet
from pellucid.testing.zoo.references import PLAIN, Reference, slope_error

__all__ = ["Verdict", "verify"]

Mark = Literal["loop", "slope", "gap", "balance", "rows", "warned", "refused"]

_REFERENCES = {**PLAIN, **CAMS}
_GAP = {"exact": 1e-4, "tolerance": 0.05}
"""Part of |f(x)| + |f(reference)| that values may miss, by what the method promises."""

_BALANCE = 1e-4
_LOOP = 1e-3
_ROWS = 1e-4


@dataclass(frozen=True)
class Verdict:
    """What is known of one method on one net.

    Attributes
    ----------
    mark
        ``"loop"``: equals a second, plain computation in double precision. ``"slope"``: equals finite differences.
        ``"gap"``: adds up to f(x) − f(reference). ``"balance"``: shares and what biases absorbed add up to f(x).
        ``"rows"``: finite, and every row alone equals itself in a batch, which all the others hold to as well.
        ``"warned"``: values with a wide gap, and a warning that names it. ``"refused"``: it says in a sentence why not.
    error
        The check's largest error over the rows, relative; 0 for a refusal.
    sentence
        The refusal or warning, or "".
    """

    mark: Mark
    error: float = 0.0
    sentence: str = ""

    @property
    def refused(self) -> bool:
        """Whether the method does not explain this net."""
        return self.mark == "refused"


def verify(net: ZooNet, method: str | Method, *, seed: int = 0, reference: Reference | None = None) -> Verdict:
    """Hold a method against one net of the zoo.

    Parameters
    ----------
    net
        An entry of `ZOO`.
    method
        A registered method's text or value; give a sampling one few samples.
    seed
        Of the net, of its inputs and of the explanation.
    reference
        A second computation of the values for a method of your own; the built-in ones have theirs.

    Returns
    -------
    Verdict
        The strongest check that applies and its error.

    Raises
    ------
    AssertionError
        When a check does not hold, or a refusal does not say what to do.
    """
    recipe = METHODS.parse(method)
    model, given = net.model(seed), net.inputs(seed)
    x = given if isinstance(given, tuple) else (given,)
    ids = [f"row {row}" for row in range(len(x[0]))]
    try:
        recipe = _fitted(recipe, net, model, seed)
        found = explain(model, given, recipe, net.target, ids=ids, seed=seed)
    except PellucidError as refusal:
        return Verdict("refused", sentence=_sentence(refusal, recipe))
    _rows_alone(net, found, seed)
    if found.gap is not None and _gap(found) > _GAP[recipe.taxonomy.complete] and recipe.settings.get("steps"):
        return verify(net, recipe.replace(steps=None), seed=seed, reference=reference)
    return _strongest(Case(model, x, found), recipe, reference or _REFERENCES.get(recipe.name))


def _fitted(recipe: Method, net: ZooNet, model: Model, seed: int) -> Method:
    """Return the method with its patterns, where it needs some that are fitted on images."""
    if recipe.settings.get("patterns", ...) is not None:
        return recipe
    return recipe.replace(patterns=fit_patterns(model, net.inputs(seed + 1, rows=32)))


def _strongest(case: Case, recipe: Method, reference: Reference | None) -> Verdict:
    found = case.found
    if found.gap is not None:
        verdict = Verdict("gap" if found.absorbed is None else "balance", _gap(found))
        most = _GAP[recipe.taxonomy.complete] if found.absorbed is None else _BALANCE
        told = [warning for warning in found.warnings if "completeness gap" in warning]
        if verdict.error > most and told:
            return Verdict("warned", verdict.error, told[0])
        _within(verdict, most, recipe)
    if recipe.name == "gradient":
        return _within(Verdict("slope", slope_error(case)), _LOOP, recipe)
    if reference is not None:
        return _within(Verdict("loop", _apart(found.tensors, reference(case))), _LOOP, recipe)
    return verdict if found.gap is not None else Verdict("rows")


def _within(verdict: Verdict, most: float, recipe: Method) -> Verdict:
    assert verdict.error <= most, f"{recipe}: {verdict.mark} misses by {verdict.error:.3g}, more than {most:g}"
    return verdict


def _gap(found: Explanation) -> float:
    assert found.gap is not None
    size = found.output.abs()
    for part in (found.reference_output, found.absorbed):
        size = size if part is None else size + part.abs()
    return float((found.gap / size.clamp(min=1e-6)).max())


def _apart(found: Inputs, known: Inputs) -> float:
    """Return the largest difference over the rows, relative to the row's largest known value over all inputs."""
    size = torch.stack([values.abs().flatten(1).amax(1) for values in known]).amax(0).clamp(min=1e-12)
    worst = 0.0
    for values, other in zip(found, known, strict=True):
        assert values.shape == other.shape, f"shapes {tuple(values.shape)} and {tuple(other.shape)} differ"
        worst = max(worst, float(((values - other).abs().flatten(1).amax(1) / size).max()))
    return worst


def _rows_alone(net: ZooNet, found: Explanation, seed: int) -> None:
    """Hold the last row alone against itself in the batch; once more in double precision where rounding parts them."""
    error = _apart_alone(net, found, seed, torch.float32)
    if error > _ROWS:
        error = _apart_alone(net, found, seed, torch.float64)
    assert error <= _ROWS, f"{found.name}: a row alone differs from itself in the batch by {error:.3g}"


def _apart_alone(net: ZooNet, found: Explanation, seed: int, dtype: torch.dtype) -> float:
    model, given = net.model(seed), net.inputs(seed)
    assert model.module is not None
    assert found.ids is not None
    model.module.to(dtype)
    x = tuple(part.to(dtype) for part in (given if isinstance(given, tuple) else (given,)))
    if dtype is torch.float64:
        found = explain(model, _as_given(x), found.method, found.target, ids=found.ids, seed=seed)
    last = found[[len(found) - 1]]
    alone = take_rows(x, slice(len(found) - 1, len(found)))
    again = explain(model, _as_given(alone), found.method, last.target, ids=last.ids, seed=seed)
    return _apart(again.tensors, last.tensors)


def _as_given(x: Inputs) -> Tensor | Inputs:
    return x if len(x) > 1 else x[0]


def _sentence(refusal: PellucidError, recipe: Method) -> str:
    said = str(refusal)
    instead = [name for name in METHODS if name != recipe.name and re.search(rf"\b{name}\b", said)]
    advice = instead or re.search(r"\b\w+=|\b(choose|use|give|say|wrap|leave)\b", said)
    assert "\n" not in said, f"{recipe} refuses in more than a sentence: {said}"
    assert advice, f"{recipe} refuses and does not say what to do: {said}"
    return said
