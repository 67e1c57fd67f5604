"""How a model uses concepts: directions in its layers, slopes of its answer along them, and what chance would give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from rich.progress import track
from scipy.stats import false_discovery_control
from torch import Tensor

from pellucid.concepts.calls import Call, asked_classes
from pellucid.concepts.directions import DIRECTIONS, Direction
from pellucid.concepts.features import Pictures, Pool, layer_features
from pellucid.concepts.judging import Judged, judge
from pellucid.concepts.reading import Question, Reading
from pellucid.concepts.vocabulary import Concepts
from pellucid.errors import BadTarget, ShapeError
from pellucid.images import ImageSet
from pellucid.models import Model, Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FEWEST", "ConceptRelevance", "concept_relevance", "rcv", "tcav"]

FEWEST = 5
"""Images with and without a set, or values of a measure, below which nothing can be tested."""


@dataclass(frozen=True, eq=False)
class ConceptRelevance:
    """Every concept in every layer for every class.

    Attributes
    ----------
    table
        One row a concept, layer and class: ``concept, kind`` (set or measure), ``unit, layer, depth, target, images`` (in which
        the concept is known), ``class_images``; ``fit`` with ``fit_low, fit_high``: how well the layer tells the concept on
        unseen groups (balanced accuracy of a set, R² of a measure); ``score`` with bounds: share of the class's images whose
        output rises along the concept (TCAV), and ``random_score``, its mean for random concepts; ``sensitivity`` with bounds:
        the mean slope along the unit direction; ``br`` with bounds: bidirectional relevance, max(R², 0) · mean / standard
        deviation of the slopes (measures only); ``fair`` with ``fair_p``: the slope against directions of chance, which
        layers of any width share; ``effect``: change of the output, to first order, when the
        layer moves along the direction as it does for one standard deviation of the concept, and ``observed``: how much higher
        the output itself is where there is one standard deviation more of it; ``agreement``: cosine of probe and pattern; ``p_fit, p_used, p, q``: of random concepts that tell as well, that
        are used as much, the larger of both, and the false discovery rate over the table; ``significant``.
    slopes
        One row an image, concept, layer and class: ``sensitivity``.
    alpha
        False discovery rate at which a row is called significant.
    direction
        What stands for a concept.
    runs
        Random concepts behind each p-value.
    """

    table: pa.Table
    slopes: pa.Table
    alpha: float
    direction: Direction
    runs: int

    def plot(self, target: str | None = None) -> "Figure":
        """Draw every concept over the depth of the network: how well layers tell it, and how far the class hangs on it."""
        from pellucid.show.depth import depth_chart  # noqa: PLC0415  # pictures know results, not the reverse

        return depth_chart(self.table, target)

    def __repr__(self) -> str:
        rows = self.table.to_pylist()
        named = sorted({row["concept"] for row in rows if row["significant"]})
        told = f"{len(rows)} rows, significant at q ≤ {self.alpha:g}: {', '.join(named) or 'none'}"
        return f"ConceptRelevance({told}; direction={self.direction})"


def concept_relevance(
    model: Model | Callable[..., Any],
    images: Tensor | ImageSet,
    concepts: Concepts,
    layers: Sequence[str],
    *,
    labels: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    target: Target | None = None,
    classes: Sequence[int] | None = None,
    direction: str | Direction = "pattern",
    held: Sequence[str] = (),
    pool: Pool = "mean",
    groups: Sequence[str] | None = None,
    runs: int = 1000,
    draws: int = 200,
    alpha: float = 0.05,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> ConceptRelevance:
    """Say which concepts a layer holds, and whether the model's answer rises or falls along them.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module``.
    images, ids
        ``(N, C, *S)`` with one id a row, or a set and which of its images: those in which concepts are known and those of the
        classes asked about; best from the test split.
    concepts
        The vocabulary; sets and measures may stand side by side.
    layers
        Dotted names, from the input on.
    labels
        Class of each image; default: the set's.
    target
        Asked of all images instead of each class's log-odds of its own images: an output of a regression net.
    classes
        Which classes; all when None.
    direction
        ``"pattern"``, the classic ``"probe"`` or, where concepts go together, ``"partial"`` or ``"orthogonal"`` to `held`.
    held
        Concepts to hold still; images in which one of them is not known are left out.
    pool
        See `layer_features`.
    groups
        The independent unit (patient, smear) of each image: what is held out together and resampled together.
    runs
        Random concepts that each is held against: its own values dealt out anew among the images (within groups). No p-value
        is smaller than 1 / (runs + 1), so that a large table needs many.
    draws
        Of the bootstrap behind the intervals.
    alpha
        False discovery rate over all rows.
    seed, batch_size, progress
        As everywhere.

    Raises
    ------
    ShapeError
        When a concept is known for too few images or never varies, or labels do not fit.
    BadTarget
        When there are no labels and no target.

    References
    ----------
    Kim et al. 2018, Testing with concept activation vectors; Graziani, Andrearczyk and Müller 2018, Regression concept
    vectors for bidirectional explanations in histopathology; Benjamini and Hochberg 1995.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    chosen = DIRECTIONS.parse(direction)
    units = list(pictures.ids) if groups is None else [str(one) for one in groups]
    if len(units) != len(pictures):
        raise ShapeError(f"{len(units)} groups were given for {len(pictures)} images")
    features = layer_features(own, pictures, layers, pool=pool, batch_size=batch_size, progress=progress)
    asked = asked_classes(own, pictures, images, labels, target, classes, batch_size)
    rows: list[dict[str, Any]] = []
    slopes: list[dict[str, Any]] = []
    calls = [Call.of(own, pictures, layers, name, *what, pool, batch_size) for name, what in asked.items()]
    names = [name for name in concepts.names if name not in held]
    for depth, layer in track(list(enumerate(layers)), "asking concepts", transient=True, disable=not progress):
        for concept in names:
            question, known = _question(concepts, concept, held, pictures.ids, features[layer].numpy(), units)
            reading = Reading.of(question, chosen, runs=runs, draws=draws, seed=seed)
            for call in calls:
                found = judge(
                    reading, call.slopes[layer], [units[row] for row in call.members], call.outputs[known], seed=seed
                )
                about = {"concept": concept, "kind": "set" if question.is_set else "measure",
                         "unit": concepts.units.get(concept, ""), "layer": layer, "depth": depth, "target": call.name,
                         "images": len(question.values), "class_images": len(call.members)}  # fmt: skip
                rows.append(about | found.row())
                slopes += _slopes(about, [pictures.ids[row] for row in call.members], found)
    return ConceptRelevance(_corrected(rows, alpha), pa.Table.from_pylist(slopes), alpha, chosen, runs)


def tcav(
    model: Model | Callable[..., Any],
    images: Tensor | ImageSet,
    concepts: Concepts,
    layers: Sequence[str],
    **settings: Any,
) -> ConceptRelevance:
    """Test concepts that are present or absent: the share of a class's images whose score rises along each.

    The settings are those of `concept_relevance`; measures in the vocabulary are refused.

    References
    ----------
    Kim et al. 2018, Interpretability beyond feature attribution: quantitative testing with concept activation vectors.
    """
    _refuse(concepts, settings, wanted=True, named="tcav takes concepts that are present or absent; use rcv for")
    return concept_relevance(model, images, concepts, layers, **settings)


def rcv(
    model: Model | Callable[..., Any],
    images: Tensor | ImageSet,
    concepts: Concepts,
    layers: Sequence[str],
    **settings: Any,
) -> ConceptRelevance:
    """Test measured concepts: how well each layer tells a measure, and whether more of it speaks for or against a class.

    The settings are those of `concept_relevance`; sets in the vocabulary are refused.

    References
    ----------
    Graziani, Andrearczyk and Müller 2018, Regression concept vectors for bidirectional explanations in histopathology.
    """
    _refuse(concepts, settings, wanted=False, named="rcv takes measured concepts; use tcav for")
    return concept_relevance(model, images, concepts, layers, **settings)


def _refuse(concepts: Concepts, settings: Mapping[str, Any], *, wanted: bool, named: str) -> None:
    held = settings.get("held", ())
    other = [name for name in concepts.names if name not in held and concepts.is_set(name) is not wanted]
    if other:
        raise ShapeError(f"{named} {', '.join(other)}, or concept_relevance for both")


def _question(
    concepts: Concepts,
    name: str,
    held: Sequence[str],
    ids: Sequence[str],
    features: Any,
    groups: Sequence[str],
) -> tuple[Question, Any]:
    values = concepts.values(name, ids)
    others = np.stack([concepts.values(one, ids) for one in held], axis=1) if held else np.empty((len(ids), 0))
    known = np.flatnonzero(~np.isnan(values) & ~np.isnan(others).any(1))
    is_set = concepts.is_set(name)
    if concepts.told_apart(name, [ids[row] for row in known.tolist()]) < FEWEST:
        what = "has fewer than five images with it, or without it" if is_set else "has fewer than five different values"
        raise ShapeError(
            f"concept {name!r} {what} among the {len(known)} images in which it is known; nothing can be tested"
        )
    units = tuple(groups[row] for row in known.tolist())
    return Question(features[known], values[known], others[known], units, is_set), known


def _slopes(about: Mapping[str, Any], ids: Sequence[str], found: Judged) -> list[dict[str, Any]]:
    place = {name: about[name] for name in ("concept", "layer", "target")}
    return [{"image": image, **place, "sensitivity": value} for image, value in zip(ids, found.slopes, strict=True)]


def _corrected(rows: list[dict[str, Any]], alpha: float) -> pa.Table:
    """Add the false discovery rate over all rows: every layer, class and concept that was looked at counts."""
    if not rows:
        raise BadTarget("no class has two images or more, so no concept was asked of any")
    rates = false_discovery_control([row["p"] for row in rows], method="bh")
    for row, rate in zip(rows, rates, strict=True):
        row |= {"q": float(rate), "significant": bool(rate <= alpha)}
    return pa.Table.from_pylist(rows)
