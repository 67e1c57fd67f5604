"""The tables of a study file that ask a further question: see `pellucid.study.inquiries` for who answers."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pellucid.counterfactual import GENERATORS, SEARCHES
from pellucid.measure import SEGMENTATIONS
from pellucid.study.tables import AtLeastOne, Count, Path_, Table

__all__ = [
    "CalibrateConfig", "ClaimConfig", "ConceptsConfig", "CounterfactualConfig", "ExamplesConfig", "InterpretConfig", "PhenotypesConfig",
    "StrategiesConfig",
]  # fmt: skip


def _two_classes(pairs: list[list[str]]) -> list[list[str]]:
    if any(len(pair) != 2 or pair[0] == pair[1] for pair in pairs):
        raise ValueError('each pair is a class and the class to go to, ["from", "to"]')
    return pairs


class CounterfactualConfig(Table):
    """``[counterfactual]``: what would have to change in an image for the model to call it something else.

    Attributes
    ----------
    generator, search
        What makes the images and how the smallest change is found, see `pellucid.counterfactual`.
    pairs
        Classes to go from and to, or all.
    images
        Explained images of each pair.
    doses
        Of the strips that are shown: 0 is the image, 1 its counterfactual, −3 and 3 the far ends of either side.
    training
        Training images that the generator is fitted to, at most.
    """

    generator: Annotated[str, AfterValidator(lambda text: str(GENERATORS.parse(text)))] = "faithful_autoencoder"
    search: Annotated[str, AfterValidator(lambda text: str(SEARCHES.parse(text)))] | None = None
    pairs: Annotated[list[list[str]], Field(min_length=1), AfterValidator(_two_classes)] | Literal["all"] = "all"
    images: AtLeastOne = 8
    doses: Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=3)] = Field(
        default=[-3, -2, -1, 0, 0.5, 1, 2, 3]
    )
    training: AtLeastOne = 5000

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(a >= b for a, b in pairwise(self.doses)) or 0 not in self.doses:
            raise ValueError("doses rise and 0, the image itself, is one of them")
        return self


class CalibrateConfig(Table):
    """``[calibrate]``: which of the study's methods show changes that are planted in its images.

    Attributes
    ----------
    images
        Explained images with an outlined object that are edited, at most.
    share
        Part of the object's area that is edited at a place.
    least
        Effect that counts as an answer of the model, in standard deviations of its score over the images.
    """

    images: AtLeastOne = 40
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    least: Annotated[float, Field(ge=0)] = 0.25


class ClaimConfig(Table):
    """``[[interpret.claims]]``: what somebody says that the model reads, with the edit that can refute it.

    Attributes
    ----------
    agree, asked
        Experts who agree, of how many that were asked.
    """

    id: Annotated[str, Field(min_length=1)]
    statement: Annotated[str, Field(min_length=1)]
    subject: str
    edit: str
    author: str = "not named"
    feature: str | None = None
    sign: Literal["more", "less", "any"] = "any"
    evidence: list[str] = Field(default=[])
    agree: Count | None = None
    asked: AtLeastOne | None = None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if (self.agree is None) != (self.asked is None) or (self.agree or 0) > (self.asked or 0):
            raise ValueError("agree and asked go together: how many experts agree, of how many that were asked")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """What is claimed, without the vote."""
        return self.model_dump(exclude={"agree", "asked", "evidence"}) | {"evidence": tuple(self.evidence)}

    @property
    def votes(self) -> tuple[int, int] | None:
        """Experts who agree and experts asked."""
        return None if self.agree is None or self.asked is None else (self.agree, self.asked)


class InterpretConfig(Table):
    """``[interpret]``: measure what the classes are, and put claims about what the model reads to the test.

    Attributes
    ----------
    measures
        Mask whose objects are measured, or ``"segment"`` for Otsu's threshold; default: the object's mask.
    panel
        ``"core"`` or ``"full"``, see `pellucid.measure.phenotypes`.
    csv, key
        A file of measures of your own, one row an image, and its column of ids.
    edits
        To try on every class; default: a panel of fourteen.
    classes
        Those that are spoken of; default all.
    claims
        What is claimed.
    confounders
        Metadata columns held fixed in associations (batch, plate, patient).
    guideline
        A rule file that names regions, see `pellucid.interpretation.read_guideline`.
    images
        That edits are tried on.
    matters
        Change that an edit must make before it counts, in standard deviations of the model's log-odds over the images.
    """

    measures: str | None = None
    panel: Literal["core", "full"] = "full"
    csv: Path_ | None = None
    key: str = "image"
    edits: list[str] | Literal["panel"] = "panel"
    classes: list[str] | None = None
    claims: list[ClaimConfig] = Field(default=[])
    confounders: list[str] = Field(default=[])
    guideline: Path_ | None = None
    images: AtLeastOne = 60
    matters: Annotated[float, Field(gt=0, strict=False)] = 0.2

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [claim.id for claim in self.claims]
        if len(set(names)) != len(names):
            raise ValueError("each claim needs an id of its own")
        return self


class ConceptsConfig(Table):
    """``[concepts]``: what experts marked or what is measured, in which layers, and how many parts to find without labels.

    Attributes
    ----------
    csv
        A file with the column ``image`` and one column a concept.
    phenotypes
        Columns of `pellucid.measure.phenotypes` or parts of their names, or ``"all"`` that vary.
    layers
        Dotted names; without, the last layer of every size of feature map.
    held
        Concepts to hold still, for ``direction = "partial"`` or ``"orthogonal"``.
    images
        Held-out images asked at most.
    runs
        Random concepts that each is held against.
    parts
        Parts to find without labels, a class; 0 = none.
    part_layer
        Layer that they are found in; without, the deepest of `layers` with more than a few places.
    """

    csv: Path_ | None = None
    phenotypes: list[str] | Literal["all"] | None = None
    layers: list[str] | None = None
    direction: str = "pattern"
    held: list[str] = Field(default=[])
    images: AtLeastOne = 300
    runs: AtLeastOne = 1000
    parts: Count = 0
    part_layer: str | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.csv is None and self.phenotypes is None and not self.parts:
            raise ValueError('give csv, phenotypes (a list or "all") or parts')
        return self


class ExamplesConfig(Table):
    """``[examples]``: similar cases, what makes them so, and prototypes.

    Attributes
    ----------
    layer
        Default: the model's embedding.
    pose
        ``"turned"`` averages over flips and quarter turns, where orientation says nothing.
    queries
        Explained images whose cases are sought.
    k
        Cases a relation.
    method
        That says which regions make two cases similar; without, the best-ranked one that can.
    prototypes
        A class.
    """

    layer: str | None = None
    metric: Literal["cosine", "euclidean", "codes"] = "cosine"
    pose: Literal["as_is", "turned"] = "as_is"
    queries: AtLeastOne = 6
    k: AtLeastOne = 5
    method: str | None = None
    prototypes: Count = 3


class StrategiesConfig(Table):
    """``[strategies]``: the ways in which the model decides, from the maps of one method.

    Attributes
    ----------
    method
        One of ``explain.methods``; without, the best-ranked.
    frame
        ``"object"`` compares maps in the frame of each object, wherever it lies.
    view
        How images are laid out in the picture.
    """

    method: str | None = None
    frame: Literal["image", "object"] = "image"
    view: Literal["pca", "tsne", "umap"] = "tsne"


class PhenotypesConfig(Table):
    """``[phenotypes]``: which measured phenotypes the model follows, moved by a generator and measured again.

    Attributes
    ----------
    generator
        Of the images that are made; that of ``[counterfactual]`` is taken where there is one.
    segmentation
        How objects are outlined, anew in each image, see `pellucid.measure.SEGMENTATIONS`.
    mask
        Mask of the objects that the segmentation is held against, or none.
    phenotypes
        Columns of `pellucid.measure.columns`, the full panel; default: the core panel.
    target
        Class whose score is read; default: the second of two, else each.
    batch
        Metadata column of the court; default: that of ``[images]``.
    confounders
        Metadata columns that are held fixed where latents are tied to phenotypes.
    images, training, permutations, doses, others
        Explained images that are moved, training images learnt from, meaningless directions, standard deviations to move by,
        and whether other phenotypes are held fixed or left free: see `pellucid.interpretation.phenotypes`.
    spot_diameter
        Expected diameter of a spot in the images' unit.
    """

    generator: Annotated[str, AfterValidator(lambda text: str(GENERATORS.parse(text)))] = "faithful_autoencoder"
    segmentation: Annotated[str, AfterValidator(lambda text: str(SEGMENTATIONS.parse(text)))] = "otsu"
    mask: str | None = None
    phenotypes: Annotated[list[str], Field(min_length=1)] | None = None
    target: str | None = None
    batch: str | None = None
    confounders: list[str] = Field(default=[])
    images: AtLeastOne = 40
    training: Annotated[int, Field(ge=40)] = 800
    permutations: Annotated[int, Field(ge=20)] = 400
    doses: Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=2)] = Field(default=[-2, -1, 1, 2])
    others: Literal["fixed", "free"] = "fixed"
    spot_diameter: Annotated[float, Field(gt=0, strict=False)] | None = None
