"""Planted truth in one's own images: places are edited, the model's answers are measured, maps must show the changes there.

No annotation says what a model uses; edits whose effect on the model was measured do. Methods, or settings of one, are
chosen on a random half of the images and judged on the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.progress import track
from torch import Tensor

from pellucid.attribution import METHODS, Method, explain
from pellucid.attribution.scaling import resized
from pellucid.errors import CannotExplain, ShapeError
from pellucid.evaluation.planting import Planted, Planting, with_effects
from pellucid.evaluation.ranking import Ranking, rank
from pellucid.evaluation.scores import SCHEMA, Scores
from pellucid.intervals import Interval, mean_interval
from pellucid.measure import EDITS, Edit
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EDITS_TRIED", "ON_OBJECT", "Calibration", "calibrate"]

EDITS_TRIED = (
    "brighten(amount=0.3)", "brighten(amount=-0.3)", "recolour(amount=0.3)", "blur_texture(scale=2.0)", "remove_patch",
)  # fmt: skip
"""Edits of one place that are tried by default."""

ON_OBJECT = ("add_spots", "remove_spots", "scale_spots")
"""Edits of the whole object that are tried by default."""

LEAST = 10
_SLAB = 8
"""Images whose edited copies are held at once."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well methods show changes that are known to have moved the model.

    An image's edits e have effects y_e on the model's score. A map's change adds up to a_e in the edited place and to o_e
    elsewhere, and its size to t_e everywhere. Three scores of an image and method, all 1 where every change of the map
    lies in the edited place and is in proportion to the effect, near 0 for a map that knows nothing of the model:

    - ``proportion`` = Σ a_e y_e / √(Σ a_e² Σ y_e²): are the changes in proportion to what they did to the model?
    - ``balance`` = Σ a_e y_e / √(Σ (a_e² + o_e²) Σ y_e²): and does what changes elsewhere add up to nothing?
    - ``locality`` = Σ a_e y_e / √(Σ t_e² Σ y_e²): or does nothing change elsewhere at all?

    Attributes
    ----------
    table
        One row an edited image and method: ``image``, ``group``, ``edit``, ``method``, ``effect`` (y, change of the called
        class's score), ``area`` (share of the image that was edited), ``told`` (a), ``elsewhere`` (o), ``whole`` (t),
        ``judged`` (whether the image judges, or chose).
    scores
        One row an image, method and score, as `evaluate` gives; images of which the model answered to no edit are left
        out.
    seed
        Of the halves, and of the bootstrap.
    """

    table: pa.Table
    scores: Scores
    seed: int = 0

    @cached_property
    def chosen(self) -> str:
        """The method that ranks first on the images that choose: by its mean place under the scores."""
        return self._ranked(judged=False).order()[0]

    @cached_property
    def ranking(self) -> Ranking:
        """The methods ranked by all scores on the images that did not choose."""
        return self._ranked(judged=True)

    @cached_property
    def judged(self) -> dict[str, Interval]:
        """The mean proportion by method on the images that did not choose, best ranked first, with intervals by group."""
        rows = [row for row in self._half(judged=True).to_pylist() if row["metric"] == "proportion"]
        return {
            method: mean_interval(
                [row["value"] for row in rows if row["method"] == method],
                groups=[row["group"] for row in rows if row["method"] == method],
                bounds=(-1.0, 1.0),
            )
            for method in self.ranking.order()
        }

    def _ranked(self, *, judged: bool) -> Ranking:
        return rank(Scores(self._half(judged=judged)), seed=self.seed)

    def _half(self, *, judged: bool) -> pa.Table:
        images = {row["image"] for row in self.table.to_pylist() if row["judged"] == judged}
        return self.scores.table.filter(pc.is_in(self.scores.table["image"], pa.array(sorted(images))))

    def plot(self) -> "Figure":
        """Draw every method's proportion on the judging images; dashed: nought, that of a map that knows nothing."""
        from pellucid.show import plot_calibration  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_calibration(self)


def calibrate(
    model: Model,
    x: Tensor,
    outlines: Tensor,
    methods: Sequence[str | Method],
    *,
    edits: Sequence[str | Edit] = EDITS_TRIED,
    on_object: Sequence[str | Edit] = ON_OBJECT,
    share: float = 0.1,
    least: float = 0.25,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Calibration:
    """Choose and judge methods by changes planted in one's own images.

    In every image each edit is made at one random place of the object and at the place that the methods together point
    at, and some on the whole object. Each method explains the image before and after. The changes of its map should lie
    where the image was changed, and be in proportion to those of the score: nothing where the model did not answer. Where
    alone would not do: a map of edges changes nowhere else either. Methods without a sign cannot do well.

    Parameters
    ----------
    model
        A classifier.
    x
        Images ``(N, C, *S)`` in their own units.
    outlines
        ``(N, *S)``, not 0 on the object.
    methods
        Texts or values, such as one method with several settings.
    edits
        Made at places: texts or values of `pellucid.measure.EDITS`.
    on_object
        Made on the whole object.
    share
        Part of the object's area that is edited at a place.
    least
        Effect that counts as an answer, in standard deviations of the score over the images: an image of which no edit
        reaches it says nothing of maps.
    ids, groups
        Names and independent units (patient, plate) of the images; groups are never parted between the halves.
    seed, batch_size
        As everywhere.
    progress
        Whether to show a bar.

    Returns
    -------
    Calibration
        What each edit did to the model and to every map, the scores, and the choice.

    Raises
    ------
    ShapeError
        When the outlines do not fit the images.
    CannotExplain
        When the model answers in fewer than ten images: then the edits plant no truth.
    """
    model = Model.of(model)
    if outlines.shape != (len(x), *x.shape[2:]):
        raise ShapeError(f"outlines of shape {tuple(outlines.shape)} do not fit images of shape {tuple(x.shape)}")
    names = [str(row) for row in range(len(x))] if ids is None else list(ids)
    units = names if groups is None else [str(group) for group in groups]
    with Passes(model, batch_size=batch_size) as passes:
        outputs = passes.outputs(model.prepare(x)).cpu().double()
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise CannotExplain(f"calibration needs a classifier with two outputs or more, not {tuple(outputs.shape)}")
    chosen = [METHODS.parse(method) for method in methods]
    enough, judging, rows = least * float(outputs.std(0).mean()), _judging(units, seed), list[dict[str, Any]]()
    planting = Planting([EDITS.parse(edit) for edit in edits], [EDITS.parse(edit) for edit in on_object], share, seed)
    asked = _Asked(model, chosen, planting, x, outlines > 0, outputs, names, batch_size)
    for start in track(range(0, len(x), _SLAB), "planting changes", transient=True, disable=not progress):
        for row in asked.changes(range(start, min(start + _SLAB, len(x)))):
            unit = units[row.pop("row")]
            rows.append({"group": unit, "judged": unit in judging, **row})
    answering = {row["image"] for row in rows if abs(row["effect"]) > enough}
    if len(answering) < LEAST:
        raise CannotExplain(
            f"the model answered to an edit in {len(answering)} of {len(x)} images: too few to calibrate methods on; try "
            "other edits, a larger share or more images"
        )
    return Calibration(pa.Table.from_pylist(rows), _scores(rows, answering), seed)


@dataclass(frozen=True)
class _Asked:
    """All that is needed to plant changes in some of the images and to see what maps make of them."""

    model: Model
    methods: Sequence[Method]
    planting: Planting
    x: Tensor
    outlines: Tensor
    outputs: Tensor
    names: Sequence[str]
    batch_size: int | None

    @cached_property
    def called(self) -> list[int]:
        """The class that the model calls every image."""
        return self.outputs.argmax(1).tolist()

    def changes(self, rows: range) -> Iterator[dict[str, Any]]:
        """Yield what every edit of these images changed in the score and in every map."""
        some = [row for row in rows if bool(self.outlines[row].any())]
        before = [self._maps(self.x[some], some, method) for method in self.methods] if some else []
        real = [maps for maps, method in zip(before, self.methods, strict=True) if not method.taxonomy.is_control]
        planted = [
            one
            for place, row in enumerate(some)
            for one in self.planting.planted(
                row, self.x[row], self.outlines[row], [maps[place] for maps in real], self.names[row]
            )
        ]
        if not planted:
            return
        planted = with_effects(self.model, planted, self.outputs.amax(1), self.called, self.batch_size)
        place = {row: at for at, row in enumerate(some)}
        edited, origins = torch.stack([one.image for one in planted]), [one.row for one in planted]
        for method, maps in zip(self.methods, before, strict=True):
            change = self._maps(edited, origins, method) - maps[[place[row] for row in origins]]
            yield from (self._row(one, method, own) for one, own in zip(planted, change, strict=True))

    def _maps(self, images: Tensor, rows: Sequence[int], method: Method) -> Tensor:
        """Return maps at the images' resolution, summed over channels; a copy has the random stream of its image."""
        called, names = [self.called[row] for row in rows], [self.names[row] for row in rows]
        values = explain(
            self.model, images, method, called, ids=names, seed=self.planting.seed, batch_size=self.batch_size
        ).values
        assert isinstance(values, Tensor)  # noqa: S101  # one input
        return resized(values.sum(1, keepdim=True), tuple(images.shape[2:]))[:, 0]

    def _row(self, one: Planted, method: Method, change: Tensor) -> dict[str, Any]:
        return {
            "row": one.row, "image": self.names[one.row], "edit": one.edit, "method": str(method), "effect": one.effect,
            "area": float(one.support.float().mean()), "told": float(change[one.support].double().sum()),
            "elsewhere": float(change[~one.support].double().sum()),
            "whole": float(change.abs().double().sum()),
        }  # fmt: skip


def _judging(groups: Sequence[str], seed: int) -> set[str]:
    units = sorted(set(groups))
    order = np.random.default_rng([seed, 0xCA1]).permutation(len(units))
    return {units[place] for place in order[1::2]}


def _scores(rows: Sequence[dict[str, Any]], answering: set[str]) -> Scores:
    """Return the scores of every image that answers, by method."""
    own: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["image"] in answering:
            own.setdefault((row["image"], row["method"]), []).append(row)
    controls = {method for _, method in own if METHODS.parse(method).taxonomy.is_control}
    fixed = {"chance": 0.0, "family": "faithfulness", "direction": "higher", "resolution": 1e-6, "target": "", "step": "",
             "seed": 0, "reason": "", "definition": ""}  # fmt: skip
    table = [
        {**fixed, "image": image, "group": edits[0]["group"], "method": method, "metric": metric, "value": value,
         "control": method in controls}
        for (image, method), edits in own.items()
        for metric, value in _measured(edits).items()
    ]  # fmt: skip
    return Scores(pa.Table.from_pylist(table, schema=SCHEMA))


def _measured(edits: Sequence[dict[str, Any]]) -> dict[str, float]:
    told, elsewhere, whole, effect = (
        np.array([row[name] for row in edits]) for name in ("told", "elsewhere", "whole", "effect")
    )
    sizes = {
        "proportion": np.linalg.norm(told),
        "balance": np.linalg.norm(np.hypot(told, elsewhere)),
        "locality": np.linalg.norm(whole),
    }
    norm = float(np.linalg.norm(effect))
    return {name: float(told @ effect) / (float(size) * norm) if size > 0 else 0.0 for name, size in sizes.items()}
