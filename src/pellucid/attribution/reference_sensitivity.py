"""How much an explanation depends on its reference: the same method against several, and how far their maps agree."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from rich.progress import track
from scipy.stats import rankdata
from torch import Tensor

from pellucid.attribution.explain import explain
from pellucid.attribution.explanation import Explanation
from pellucid.attribution.fills import FILLS, FillValue, meaning
from pellucid.attribution.method import METHODS, Method
from pellucid.errors import BadRecipe, ShapeError
from pellucid.models import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ReferenceSensitivity", "reference_sensitivity"]

_SETTINGS = ("baseline", "fill", "background")

Reference = FillValue | Tensor


@dataclass(frozen=True, eq=False)
class ReferenceSensitivity:
    """What became of the maps of the same images under several references.

    Attributes
    ----------
    method
        The method's text, without its reference.
    table
        A row an image and reference: ``image, fill, agreement`` (mean rank correlation of the map with those under the
        other references), ``overlap`` (the same for the share of common top positions), ``total`` (Σ values), ``output``
        and ``reference_output`` (None where the method has none).
    agreement, overlap
        ``(R, R)`` means over images for every pair of references.
    fills
        Names of the references, in the order of rows and columns, with their meaning.
    explanations
        By name of the reference.
    top
        Share of positions that counts as the top.
    """

    method: str
    table: pa.Table
    agreement: np.ndarray
    overlap: np.ndarray
    fills: Mapping[str, str]
    explanations: Mapping[str, Explanation]
    top: float

    def plot(self) -> "Figure":
        """Draw both tables of pairs: 1 where two references give the same map."""
        from matplotlib.figure import Figure  # noqa: PLC0415  # drawing is for who asks for it

        figure = Figure(figsize=(4 + 0.9 * len(self.fills), 1.6 + 0.45 * len(self.fills)), layout="constrained")
        titles = ("rank correlation", f"overlap of the top {self.top:.0%}")
        for axes, title, values in zip(figure.subplots(1, 2), titles, (self.agreement, self.overlap), strict=True):
            shown = axes.imshow(values, vmin=-1 if values is self.agreement else 0, vmax=1, cmap="cividis")
            names = list(self.fills)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
            axes.set_title(title)
            for (row, column), value in np.ndenumerate(values):
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.5 else "white"
                )
            figure.colorbar(shown, ax=axes, shrink=0.8)
        images = len(next(iter(self.explanations.values())))
        figure.suptitle(f"{self.method}: maps under different references, mean of {images} images")
        return figure


def reference_sensitivity(
    model: Model | Callable[..., Any],
    x: Tensor,
    method: str | Method = "integrated_gradients",
    fills: Sequence[FillValue] | Mapping[str, Reference] = tuple(FILLS),
    *,
    target: Any = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    top: float = 0.1,
    batch_size: int | None = None,
    progress: bool = False,
) -> ReferenceSensitivity:
    """Say how much a map owes to what "absent" was taken to be.

    Parameters
    ----------
    model, x, target, ids, seed, batch_size
        As for `explain`; one input.
    method
        A method with a ``baseline``, ``fill`` or ``background``.
    fills
        Names of `FILLS`, numbers in model space, or a mapping from names of your own to these or to tensors in the
        images' own units: one image ``(C, *S)`` or ``(1, C, *S)`` for all, or ``(N, C, *S)``, one a row (see
        `reference_images` for class means, nearest images of another class, samples and in-painted images).
    top
        Share of positions that counts as the top.
    progress
        Whether to show a bar.

    Returns
    -------
    ReferenceSensitivity
        With a table, the agreement of every pair, and ``plot()``.

    Raises
    ------
    BadRecipe
        When the method has no reference, or fewer than two are given.
    ShapeError
        When a tensor does not fit the images.
    """
    model, recipe = Model.of(model), METHODS.parse(method)
    setting = next((name for name in _SETTINGS if name in recipe.settings), None)
    if setting is None:
        raise BadRecipe(f"{recipe} stands against no reference: it has none of {', '.join(_SETTINGS)}")
    named: Mapping[str, Reference] = fills if isinstance(fills, Mapping) else {str(fill): fill for fill in fills}
    if len(named) < 2:
        raise BadRecipe(f"the sensitivity to a reference needs at least two of them, and {len(named)} was given")
    asked = _Asked(model, x, recipe, setting, {"target": target, "seed": seed, "batch_size": batch_size}, ids)
    found = {name: asked.under(fill) for name, fill in track(named.items(), "references", disable=not progress)}
    maps = torch.stack([each.tensors[0].double().sum(1).flatten(1) for each in found.values()])
    agreement, overlap = _rank_correlations(maps), _overlaps(maps, top)
    return ReferenceSensitivity(
        method=str(recipe.replace(**{setting: _default(recipe, setting)})),
        table=_table(found, agreement, overlap),
        agreement=np.nanmean(agreement, 2),
        overlap=overlap.mean(2),
        fills={name: _meaning(fill) for name, fill in named.items()},
        explanations=found,
        top=top,
    )


def _default(recipe: Method, setting: str) -> Any:
    return next(field.default for field in fields(recipe) if field.name == setting)


@dataclass(frozen=True)
class _Asked:
    """One explanation, asked for again under every reference."""

    model: Model
    x: Tensor
    recipe: Method
    setting: str
    settings: Mapping[str, Any]
    ids: Sequence[str] | None

    def under(self, fill: Reference) -> Explanation:
        """Explain the images against a reference."""
        if not isinstance(fill, Tensor):
            return self._explained(fill, slice(None))
        images = fill if fill.ndim == self.x.ndim else fill[None]
        if images.shape[1:] != self.x.shape[1:] or len(images) not in {1, len(self.x)}:
            raise ShapeError(
                f"a reference of shape {tuple(fill.shape)} does not fit images {tuple(self.x.shape)}: give one image, or "
                "one a row"
            )
        (prepared,) = self.model.prepare(images)
        if len(images) == 1:
            return self._explained(self._value(prepared), slice(None))
        return _joined([self._explained(self._value(prepared[row : row + 1]), slice(row, row + 1))
                        for row in range(len(images))])  # fmt: skip

    def _value(self, image: Tensor) -> Tensor:
        return image if self.setting == "background" else image[0]

    def _explained(self, value: Any, rows: slice) -> Explanation:
        settings = dict(self.settings)
        if isinstance(settings["target"], list | tuple):
            settings["target"] = settings["target"][rows]
        ids = None if self.ids is None else self.ids[rows]
        return explain(self.model, self.x[rows], self.recipe.replace(**{self.setting: value}), ids=ids, **settings)


def _joined(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of single rows; what differs from row to row is the reference."""
    first = parts[0]
    told = [part.reference_output for part in parts]
    known = [output for output in told if output is not None]
    return Explanation(
        values=torch.cat([part.tensors[0] for part in parts]), method=f"{first.name}, one reference a row",
        target=first.target, output=torch.cat([part.output for part in parts]),
        reference_output=torch.cat(known) if len(known) == len(parts) else None, seed=first.seed,
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )  # fmt: skip


def _rank_correlations(maps: Tensor) -> np.ndarray:
    """Return the rank correlation of every pair of ``(R, N, E)`` maps, ``(R, R, N)``; NaN where one is constant."""
    ranks = rankdata(maps.numpy(), axis=2)
    ranks = ranks - ranks.mean(2, keepdims=True)
    lengths = np.sqrt((ranks**2).sum(2, keepdims=True))
    with np.errstate(invalid="ignore"):
        unit = np.where(lengths > 0, ranks / np.where(lengths > 0, lengths, 1), np.nan)
    return np.asarray(np.einsum("ane,bne->abn", unit, unit))


def _overlaps(maps: Tensor, top: float) -> np.ndarray:
    """Return the share of common positions among the `top` largest magnitudes of every pair, ``(R, R, N)``."""
    count = max(1, round(top * maps.shape[2]))
    chosen = torch.zeros_like(maps).scatter(2, maps.abs().topk(count, 2).indices, 1.0).numpy()
    return np.asarray(np.einsum("ane,bne->abn", chosen, chosen) / count)


def _table(found: Mapping[str, Explanation], agreement: np.ndarray, overlap: np.ndarray) -> pa.Table:
    return pa.Table.from_pylist(list(_rows(found, agreement, overlap)))


def _rows(found: Mapping[str, Explanation], agreement: np.ndarray, overlap: np.ndarray) -> Iterator[dict[str, Any]]:
    for place, (name, each) in enumerate(found.items()):
        others = [other for other in range(len(found)) if other != place]
        totals = each.tensors[0].double().flatten(1).sum(1)
        for row in range(len(each)):
            known = agreement[place, others, row]
            yield {
                "image": each.ids[row] if each.ids is not None else str(row),
                "fill": name,
                "agreement": float(np.nanmean(known)) if not np.isnan(known).all() else float("nan"),
                "overlap": float(overlap[place, others, row].mean()),
                "total": float(totals[row]),
                "output": float(each.output[row]),
                "reference_output": None if each.reference_output is None else float(each.reference_output[row]),
            }


def _meaning(fill: Reference) -> str:
    if isinstance(fill, Tensor):
        return "a given image" if fill.ndim < 3 or len(fill) == 1 else "a given image, one a row"
    return meaning(fill)
