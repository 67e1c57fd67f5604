"""Progressive exaggeration, audited: every image drawn in every bin of the score, and what the model says of each drawing."""

import pyarrow as pa
import torch
from rich.progress import track
from torch import Tensor

from pellucid.counterfactual.engines.conditional import ConditionalCodec, score_of
from pellucid.counterfactual.engines.engine import FittedEngine
from pellucid.counterfactual.generator import FittedGenerator
from pellucid.counterfactual.guidance import one_input
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Model, Passes

__all__ = ["AUDIT", "drawn_in_bins", "score_bins"]

AUDIT = pa.schema(
    {"image": pa.string(), "score": pa.float64(), "bin": pa.int64(), "wanted": pa.float64(), "achieved": pa.float64(),
     "flipped": pa.bool_()}
)  # fmt: skip
"""One row an image and bin: the model's score of the image, the score that the bin stands for, the score of the drawing, and
whether the drawing is on the other side of the threshold than the image. A model that was followed well has achieved near
wanted; the mean square of their difference, over that of the wanted scores, is the inconsistency."""


def _conditional(fitted: FittedGenerator) -> ConditionalCodec:
    codec = fitted.codec if isinstance(fitted, FittedEngine) else None
    if not isinstance(codec, ConditionalCodec) or not codec.ordered:
        raise CannotExplain(f'score bins need a conditional_autoencoder(condition="score"), not {fitted.generator}')
    return codec


@torch.no_grad()
def drawn_in_bins(fitted: FittedGenerator, images: Tensor) -> Tensor:
    """Return images drawn in every bin ``(N, bins, C, *S)``, from the lowest score to the highest.

    Raises
    ------
    CannotExplain
        When the generator has no score bins.
    """
    codec = _conditional(fitted)
    z = fitted.encode(images)
    drawn = []
    for place in range(codec.categories):
        there = z.clone()
        there[:, -1] = place
        drawn.append(fitted.decode(there))
    return torch.stack(drawn, 1)


def score_bins(
    fitted: FittedGenerator,
    model: Model,
    images: Tensor,
    ids: tuple[str, ...],
    *,
    threshold: float = 0.0,
    progress: bool = False,
) -> pa.Table:
    """Draw every image in every bin of the score and read the model on each drawing.

    Parameters
    ----------
    fitted
        A fitted ``conditional_autoencoder(condition="score")``.
    model
        The model that it followed, or another: what moves that one too is in the images, not in one model.
    images, ids
        ``(N, C, *S)`` in their own units, and their names.
    threshold
        The score at which the model's answer changes: 0 for two classes or one logit.
    progress
        Whether to show a bar.

    Returns
    -------
    pyarrow.Table
        See `AUDIT`.

    Raises
    ------
    CannotExplain
        When the generator has no score bins.
    ShapeError
        When there is not one id an image.

    References
    ----------
    DeGrave et al., Auditing the inference processes of medical-image classifiers by leveraging generative AI and the expertise
    of physicians, Nat. Biomed. Eng. 2025.
    """
    if len(ids) != len(images):
        raise ShapeError(f"score_bins() was given {len(ids)} ids for {len(images)} images")
    levels = _conditional(fitted).levels.tolist()
    with Passes(model) as passes:
        own = score_of(passes.outputs((one_input(model, images),))).tolist()
        drawn = drawn_in_bins(fitted, images)
        shown = track(range(len(levels)), "drawing bins", transient=True, disable=not progress)
        achieved = [score_of(passes.outputs((one_input(model, drawn[:, place]),))).tolist() for place in shown]
    rows = [
        {"image": name, "score": own[row], "bin": place, "wanted": level, "achieved": achieved[place][row],
         "flipped": (own[row] > threshold) != (achieved[place][row] > threshold)}
        for row, name in enumerate(ids) for place, level in enumerate(levels)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=AUDIT)
