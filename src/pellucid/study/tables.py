"""The tables of a study file that every study has, or may have: images, model, methods, metrics, how it is run and kept."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pellucid.evaluation import Pipeline
from pellucid.evaluation.pipeline import Align, Normalise, Pool, Sign

__all__ = [
    "AtLeastOne", "Count", "EvaluateConfig", "ExplainConfig", "FitConfig", "ImagesConfig", "ModelConfig", "Numbers",
    "Path_", "PipelineConfig", "RunConfig", "StabilityConfig", "StoreConfig", "Table", "in_shards",
]  # fmt: skip


class Table(BaseModel):
    """One table of a study file: no other keys, nothing converted, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Path_ = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
Numbers = Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=1)]


class ImagesConfig(Table):
    """``[images]``: what `pellucid.read_images` is given, or a phantom; and which mask outlines the object.

    Attributes
    ----------
    flatten
        Name of the mask outside which every image gets one colour, for training as for explaining.
    batch
        Metadata column of the batch (scanner, year, plate) that must not drive the model.
    """

    path: Path_ | None = None
    phantom: str | None = None
    labels: str | None = None
    masks: str | list[str] | dict[str, str] | None = None
    object: str | None = None
    flatten: str | None = None
    batch: str | None = None
    split: str | None = None
    group: str | None = None
    size: list[AtLeastOne] | None = None
    axes: str | None = None
    spacing: Numbers | None = None
    channels: list[str] | None = None
    classes: list[str] | None = None
    series: int | str | None = None
    level: Count | None = None
    um_per_px: Annotated[float, Field(gt=0, strict=False)] | None = None
    tile: Annotated[list[AtLeastOne], Field(min_length=2, max_length=2)] | AtLeastOne | None = None
    overlap: Count = 0
    tissue: str | None = None
    limit: AtLeastOne | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.path is not None and self.phantom is not None:
            raise ValueError("give path or phantom, not both")
        return self


class ModelConfig(Table):
    """``[model]``: a trained model.

    Attributes
    ----------
    weights, path
        Where it lies, by either name: a file of weights, or the file, folder or package of any source.
    factory, arguments
        What builds the network of plain weights, and its settings; for other sources `arguments` are the source's own.
    trust
        ``"sha256:..."``: no other content is opened. Consent to execute it is given on the command line, never by a file.
    """

    weights: Path_ | None = None
    path: Path_ | None = None
    trust: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")] | None = None
    factory: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    classes: list[str] | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    task: Literal["classification", "regression", "segmentation"] | None = None
    embedding: str | None = None

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both or neither")
        if self.weights is not None and self.path is not None:
            raise ValueError("weights and path name the same thing: give one of them")
        return self

    @property
    def place(self) -> Path | None:
        """Where the model lies."""
        return self.weights or self.path


class FitConfig(Table):
    """``[fit]``: the training of the reference network, see `pellucid.models.fit`."""

    epochs: AtLeastOne = 20
    width: AtLeastOne = 16
    depth: AtLeastOne = 4
    batch_size: AtLeastOne = 32
    learning_rate: Annotated[float, Field(gt=0, strict=False)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, strict=False)] = 0.05
    augment: bool = True
    balance: bool = True
    patience: AtLeastOne = 10


class ExplainConfig(Table):
    """``[explain]``: which images, which methods, which target."""

    methods: list[str] | Literal["panel"] = "panel"
    target: str | int = "predicted"
    images: Count = 100
    selection: Literal["stratified", "balanced", "random"] = "stratified"
    require_mask: bool = False


class EvaluateConfig(Table):
    """``[evaluate]``: which metrics, which mask is the human truth, and what the conclusions rest on.

    Attributes
    ----------
    self_test
        Whether metrics are tested before they judge.
    ranked
        Explained images behind ranking, findings and report, rounded up to whole shards; 0 = all. They are the first in the
        order of a hash, a fair sample, so that a study of any size is concluded in the same memory; every image is scored
        in any case.
    """

    metrics: list[str] | Literal["panel"] = "panel"
    mask: str | list[str] | None = None
    self_test: bool = True
    ranked: Count = 2500


def in_shards(wanted: int, images: int, shard: int) -> int:
    """Return so many of the images, rounded up to whole shards; all of them for 0."""
    return images if not wanted else min(images, -(-wanted // shard) * shard)


def _once(levels: list[str]) -> list[str]:
    if len(set(levels)) != len(levels):
        raise ValueError("name each level once")
    return levels


class PipelineConfig(Table):
    """``[pipeline]``: the levels of every choice between raw map and score; the first of each is the reference."""

    pool: Annotated[list[Pool], Field(min_length=1), AfterValidator(_once)] = ["sum"]
    sign: Annotated[list[Sign], Field(min_length=1), AfterValidator(_once)] = ["signed"]
    normalise: Annotated[list[Normalise], Field(min_length=1), AfterValidator(_once)] = ["none"]
    align: Annotated[list[Align], Field(min_length=1), AfterValidator(_once)] = ["none"]
    aggregate: Annotated[list[Align | Normalise], AfterValidator(_once)] = []

    @property
    def choices(self) -> Pipeline:
        """The choices as a value."""
        return Pipeline(
            pool=tuple(self.pool), sign=tuple(self.sign), normalise=tuple(self.normalise), align=tuple(self.align),
            aggregate=tuple(self.aggregate),
        )  # fmt: skip


class StabilityConfig(Table):
    """``[stability]``: the task learnt again, to see whether the maps hold for other nets.

    Attributes
    ----------
    seeds
        Nets to train from other seeds and other cuts of the training images; the test images stay.
    shuffled
        Whether to train one net on shuffled labels, whose maps must differ.
    images
        Explained images to compare, rounded up to whole shards; 0 = all.
    """

    seeds: Count = 3
    shuffled: bool = False
    images: Count = 32


class RunConfig(Table):
    """``[run]``: what decides the last bits of the numbers; fixed before the first task and kept on resume."""

    batch_size: AtLeastOne | None = None
    threads: AtLeastOne | None = None
    device: str | None = None
    shard: AtLeastOne = 8


class StoreConfig(Table):
    """``[store]``: what is kept of the maps; scores are kept of every image in any case.

    Attributes
    ----------
    maps
        Explained images whose maps are kept in full, rounded up to whole shards; 0 = all. They are the first in the order of a
        hash, so they are a fair sample, and what needs maps of many images looks at them.
    reduced
        Longest side of the small maps, channels added up, that are kept of every explained image; 0 = none.
    """

    maps: Count = 0
    reduced: Count = 0

    def whole(self, images: int, shard: int) -> int:
        """Return how many of so many images keep their maps in full."""
        return in_shards(self.maps, images, shard)
