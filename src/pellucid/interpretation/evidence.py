"""What interpretations are drawn from: the model, the images, the maps and their scores; never a phantom's records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import METHODS
from pellucid.errors import BadImage, CannotExplain
from pellucid.hashing import hash_key
from pellucid.images import ImageSet
from pellucid.measure import segment
from pellucid.models import Model, Passes
from pellucid.models.predict import calibrated_logits

__all__ = ["Case", "Evidence"]


@dataclass(frozen=True)
class Case:
    """One labelled image with the outline of its object, for the tests that edit images."""

    id: str
    image: Tensor
    outline: Tensor
    label: int
    group: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that an interpretation may look at.

    Attributes
    ----------
    model, images
        The explained model and the whole image set.
    ids
        The explained images.
    predictions
        One row a predicted image: at least the columns image, label, predicted.
    methods
        The methods' texts.
    maps
        Reads the raw maps of a method for some explained ids: ``(N, C, *S)`` or of a layer's shape.
    scores, ranking
        The tables of `Scores` and `Ranking`.
    object_mask
        Name of the mask that outlines the object; None: whatever any mask outlines, and where there are no masks, what
        `pellucid.measure.segment` finds.
    group
        Metadata column of the independent unit (patient, plate, smear), or None.
    batch
        Metadata column of what must not drive the model (scanner, year, site), or None: what `find_batches` tells apart.
    repeats, nets
        What `pellucid.evaluation.compare_models` says of nets that learnt the task again, and how accurate each of them
        is: model, shuffled, accuracy, difference (from the explained net's) with low and high, equal; without rows
        where nothing was trained again.
    left_out
        Metrics that have no say in the ranking, and why: they failed their own test.
    seed, batch_size, progress
        As everywhere.
    """

    model: Model
    images: ImageSet
    ids: tuple[str, ...]
    predictions: pa.Table
    methods: tuple[str, ...]
    maps: Callable[[str, Sequence[str]], Tensor]
    scores: pa.Table
    ranking: pa.Table
    object_mask: str | None = None
    group: str | None = None
    batch: str | None = None
    repeats: pa.Table = field(default_factory=lambda: pa.table({}))
    nets: pa.Table = field(default_factory=lambda: pa.table({}))
    left_out: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    batch_size: int | None = None
    progress: bool = False

    @property
    def judged(self) -> tuple[str, ...]:
        """The methods that are no control."""
        names = [(text, text.split("(")[0]) for text in self.methods]
        return tuple(text for text, name in names if name not in METHODS or not METHODS[name].taxonomy.is_control)

    def groups(self, ids: Sequence[str]) -> list[str]:
        """Return the independent unit of each image; the image itself where it has none."""
        if self.group is None:
            return list(ids)
        units = self.images.column(self.group, ids)
        return [name if unit in {None, ""} else str(unit) for name, unit in zip(ids, units, strict=True)]

    def cases(self, most: int, ids: Sequence[str] | None = None) -> list[Case]:
        """Return up to `most` labelled images with a usable outline, classes in turn, chosen by hash of the id."""
        if self.images.labels is None:
            return []
        known = list(self.predictions["image"].to_pylist()) if ids is None else list(ids)
        found: list[Case] = []
        for name in _in_turn(known, self.images.label(known), self.seed):
            outline = self.outline(name)
            if outline is not None and 0.005 < float(outline.float().mean()) < 0.95:
                found.append(Case(name, self.images.tensor([name])[0], outline, self.images.label([name])[0],
                                  self.groups([name])[0]))  # fmt: skip
            if len(found) == most:
                break
        return found

    @property
    def outlined(self) -> str:
        """What the outlines are, in words."""
        if self.object_mask is not None:
            return f"the object (mask {self.object_mask})"
        if self.images.masks:
            return f"what the masks outline ({', '.join(self.images.masks)})"
        return "the object (segmented by Otsu's threshold)"

    def outline(self, image: str) -> Tensor | None:
        """Return the pixels of the object, or None where nothing outlines it."""
        if self.object_mask is None and not self.images.masks:
            return _segmented(self.images.tensor([image])[0])
        names = (self.object_mask,) if self.object_mask is not None else tuple(self.images.masks)
        drawn = [mask > 0 for name in names if (mask := self.images.mask(name, [image])[0]) is not None]
        return torch.stack(drawn).any(0) if drawn else None

    def logits(self, images: Tensor) -> Tensor:
        """Return calibrated logits ``(N, K)``, float64, for images in their own units; a one-logit net has two columns.

        Raises
        ------
        CannotExplain
            When the model is no classifier of these images' classes.
        """
        with Passes(self.model, batch_size=self.batch_size) as passes:
            logits = calibrated_logits(passes, images)
        if logits.shape[1] < len(self.images.classes):
            raise CannotExplain(
                f"the model has {logits.shape[1]} outputs for the {len(self.images.classes)} classes of the images"
            )
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Return calibrated class probabilities ``(N, K)``."""
        return self.logits(images).softmax(1)

    def log_odds(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return log p / (1 − p) ``(N,)`` of one class ``(N,)`` an image; taken from the logits, so that it never saturates."""
        logits, own = self.logits(images), classes[:, None]
        others = logits.scatter(1, own, -torch.inf).logsumexp(1)
        return logits.gather(1, own)[:, 0] - others

    def random(self, purpose: str) -> np.random.Generator:
        """Return the random stream of one test, apart from every other's."""
        return np.random.default_rng(int.from_bytes(hash_key(self.seed, purpose)[:8]))


def _segmented(image: Tensor) -> Tensor | None:
    """Return bright objects on a dark ground or, where the rim is bright, dark ones; None where there are none."""
    try:
        bright = segment(image) > 0
        rim = torch.ones_like(bright)
        rim[tuple(slice(1, -1) for _ in bright.shape)] = False
        return segment(image, dark_objects=True) > 0 if bright[rim].float().mean() > 0.5 else bright
    except BadImage:
        return None


def _in_turn(ids: Sequence[str], labels: Sequence[int], seed: int) -> list[str]:
    """Order images so that classes alternate, within a class by hash: no order of files can steer the choice."""
    by_class: dict[int, list[str]] = {}
    pairs = sorted(zip(ids, labels, strict=True), key=lambda pair: hash_key(seed, pair[0]))
    for name, label in pairs:
        by_class.setdefault(label, []).append(name)
    longest = max((len(names) for names in by_class.values()), default=0)
    return [
        by_class[label][place] for place in range(longest) for label in sorted(by_class) if place < len(by_class[label])
    ]
