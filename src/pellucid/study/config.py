"""The study file: every choice of a study, checked before anything runs, with errors that name the line."""

import difflib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pellucid.attribution import METHODS
from pellucid.counterfactual import GENERATORS, SEARCHES
from pellucid.errors import BadRecipe, BadStudy
from pellucid.evaluation import METRICS, Pipeline
from pellucid.evaluation.pipeline import Align, Normalise, Pool, Sign
from pellucid.measure import EDITS
from pellucid.measure import SEGMENTATIONS
from pellucid.study.panels import METHOD_PANEL, METRIC_PANEL
from pellucid.study.phantom import PHANTOMS
from pellucid.study.toml import TomlFile, read_toml

__all__ = [
    "ClaimConfig", "ConceptsConfig", "CounterfactualConfig", "EvaluateConfig", "ExamplesConfig", "ExplainConfig",
    "FitConfig", "ImagesConfig", "InterpretConfig", "ModelConfig", "PhenotypesConfig", "PipelineConfig", "RunConfig",
    "StabilityConfig", "StoreConfig", "StrategiesConfig", "StudyConfig", "default_out", "read_config",
]  # fmt: skip


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Path_ = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
Numbers = Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=1)]


class ImagesConfig(_Table):
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


class ModelConfig(_Table):
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


class FitConfig(_Table):
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


class ExplainConfig(_Table):
    """``[explain]``: which images, which methods, which target."""

    methods: list[str] | Literal["panel"] = "panel"
    target: str | int = "predicted"
    images: Count = 100
    selection: Literal["stratified", "balanced", "random"] = "stratified"
    require_mask: bool = False


class EvaluateConfig(_Table):
    """``[evaluate]``: which metrics, which mask is the human truth, and whether metrics are tested before they judge."""

    metrics: list[str] | Literal["panel"] = "panel"
    mask: str | list[str] | None = None
    self_test: bool = True


def _once(levels: list[str]) -> list[str]:
    if len(set(levels)) != len(levels):
        raise ValueError("name each level once")
    return levels


class PipelineConfig(_Table):
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


class StabilityConfig(_Table):
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


def _two_classes(pairs: list[list[str]]) -> list[list[str]]:
    if any(len(pair) != 2 or pair[0] == pair[1] for pair in pairs):
        raise ValueError('each pair is a class and the class to go to, ["from", "to"]')
    return pairs


class CounterfactualConfig(_Table):
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
        Of the strips that are shown, in units of each image's own counterfactual.
    training
        Training images that the generator is fitted to, at most.
    """

    generator: Annotated[str, AfterValidator(lambda text: str(GENERATORS.parse(text)))] = "faithful_autoencoder"
    search: Annotated[str, AfterValidator(lambda text: str(SEARCHES.parse(text)))] | None = None
    pairs: Annotated[list[list[str]], Field(min_length=1), AfterValidator(_two_classes)] | Literal["all"] = "all"
    images: AtLeastOne = 8
    doses: Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=3)] = [-3, -2, -1, 0, 0.5, 1, 2, 3]
    training: AtLeastOne = 5000

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(a >= b for a, b in pairwise(self.doses)) or 0 not in self.doses:
            raise ValueError("doses rise and 0, the image itself, is one of them")
        return self


class ClaimConfig(_Table):
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
    evidence: list[str] = []
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


class InterpretConfig(_Table):
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
    claims: list[ClaimConfig] = []
    confounders: list[str] = []
    guideline: Path_ | None = None
    images: AtLeastOne = 60
    matters: Annotated[float, Field(gt=0, strict=False)] = 0.2

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [claim.id for claim in self.claims]
        if len(set(names)) != len(names):
            raise ValueError("each claim needs an id of its own")
        return self


class ConceptsConfig(_Table):
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
    held: list[str] = []
    images: AtLeastOne = 300
    runs: AtLeastOne = 1000
    parts: Count = 0
    part_layer: str | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.csv is None and self.phenotypes is None and not self.parts:
            raise ValueError('give csv, phenotypes (a list or "all") or parts')
        return self


class ExamplesConfig(_Table):
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


class StrategiesConfig(_Table):
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
        return self


class PhenotypesConfig(_Table):
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
    confounders: list[str] = []
    images: AtLeastOne = 40
    training: Annotated[int, Field(ge=40)] = 800
    permutations: Annotated[int, Field(ge=20)] = 400
    doses: Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=2)] = [-2, -1, 1, 2]
    others: Literal["fixed", "free"] = "fixed"
    spot_diameter: Annotated[float, Field(gt=0, strict=False)] | None = None


class RunConfig(_Table):
    """``[run]``: what decides the last bits of the numbers; fixed before the first task and kept on resume."""

    batch_size: AtLeastOne | None = None
    threads: AtLeastOne | None = None
    device: str | None = None
    shard: AtLeastOne = 8


class StoreConfig(_Table):
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
        return images if not self.maps else min(images, -(-self.maps // shard) * shard)


class StudyConfig(_Table):
    """All of a study file.

    Attributes
    ----------
    seed
        Of everything random.
    images, model, fit, explain, evaluate, pipeline, stability, counterfactual, interpret, concepts, examples, strategies, phenotypes, run, store
        The tables; the model is trained where there is a ``[fit]``, else loaded, and again where there is a ``[stability]``;
        the same maps are scored under other choices where there is a ``[pipeline]``. ``[concepts]``, ``[examples]`` and
        ``[strategies]`` are further questions, see their classes.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    images: ImagesConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    fit: FitConfig | None = None
    explain: ExplainConfig = Field(default_factory=ExplainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    pipeline: PipelineConfig | None = None
    stability: StabilityConfig | None = None
    counterfactual: CounterfactualConfig | None = None
    interpret: InterpretConfig | None = None
    concepts: ConceptsConfig | None = None
    examples: ExamplesConfig | None = None
    strategies: StrategiesConfig | None = None
    phenotypes: PhenotypesConfig | None = None
    run: RunConfig = Field(default_factory=RunConfig)
    store: StoreConfig | None = None

    @property
    def kept(self) -> StoreConfig:
        """What is kept of the maps: all of them where there is no ``[store]``."""
        return self.store or StoreConfig()

    def resolved(self) -> dict[str, Any]:
        """Return plain values for TOML: every default spelt out, absent ones left out."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return values


RESOLVED_TABLES = ("plan", "provenance")
"""Tables that a study writes into its own file; a study file that carries them is read without them."""


def read_config(path: str | Path, *, data: str | Path | None = None) -> tuple[StudyConfig, TomlFile]:
    """Read and check a study file.

    Parameters
    ----------
    path
        The file; relative paths in it start at its folder.
    data
        Folder of the images, in place of ``images.path``.

    Returns
    -------
    config
        With absolute paths, panels spelt out, and methods and metrics in their canonical text.
    file
        The file, for errors that name a line later.

    Raises
    ------
    BadStudy
        On bad TOML, unknown or misspelt keys, values of the wrong kind, unknown methods or metrics.
    """
    file = read_toml(Path(path))
    given = {key: value for key, value in file.values.items() if key not in RESOLVED_TABLES}
    if data is not None and isinstance(given.get("images", {}), dict):
        asked = {key: value for key, value in given.get("images", {}).items() if key != "phantom"}
        given["images"] = {**asked, "path": str(Path(data).absolute())}
    try:
        config = StudyConfig.model_validate(given)
    except ValidationError as error:
        raise BadStudy(_sentence(file, error.errors())) from None
    _refuse_no_images(config, file)
    _refuse_no_model(config, file)
    return _absolute(_spelt(config, file), file.path.absolute().parent), file


def default_out(toml: str | Path) -> Path:
    """Return where a study file's study goes: a folder of its name beside it; a study's own file stays at home."""
    path = Path(toml)
    at_home = path.name == "study.toml" and "provenance" in read_toml(path).values
    return path.parent if at_home else path.with_suffix("")


def _sentence(file: TomlFile, errors: Sequence[ErrorDetails]) -> str:
    """Tell the first thing that is wrong, in the words of the file."""
    first = min(errors, key=lambda error: (_order(error), file.where(error["loc"])))
    keys = tuple(first["loc"])
    where, key = file.where(keys), str(keys[-1])
    table = f"[{keys[0]}]" if len(keys) > 1 else "the study file"
    if first["type"] == "extra_forbidden":
        known = _known(keys[:-1])
        close = difflib.get_close_matches(key, known, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known)}"
        return f"{where}: {table} has no key {key!r}; {hint}"
    if first["type"] == "missing":
        return f"{where}: {table} needs the key {key!r}"
    named = ".".join(str(part) for part in keys if isinstance(part, str) and part in _every_key())
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {named or key} does not fit; {said[:1].lower()}{said[1:]}, not {first['input']!r}"


def _order(error: ErrorDetails) -> int:
    """Put a misspelt key first: it explains a missing one."""
    return {"extra_forbidden": 0, "missing": 2}.get(error["type"], 1)


def _model_of(keys: Sequence[str | int]) -> type[BaseModel]:
    model: type[BaseModel] = StudyConfig
    for key in (key for key in keys if isinstance(key, str)):
        kind = model.model_fields[key].annotation
        parts = (kind, *get_args(kind), *(inner for part in get_args(kind) for inner in get_args(part)))
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        if not inner:
            return model
        model = inner[0]
    return model


def _known(keys: Sequence[str | int]) -> list[str]:
    return list(_model_of(keys).model_fields)


def _every_key() -> set[str]:
    return {*StudyConfig.model_fields, *(key for name in StudyConfig.model_fields for key in _known([name]))}


def _refuse_no_images(config: StudyConfig, file: TomlFile) -> None:
    if config.images.path is None and config.images.phantom is None:
        raise BadStudy(f"{file.where(['images'])}: [images] needs the key 'path' (or 'phantom')")
    if config.images.phantom is not None:
        _parsed(PHANTOMS, config.images.phantom, file, ("images", "phantom"))


def _refuse_no_model(config: StudyConfig, file: TomlFile) -> None:
    trained = config.model.place is not None or config.model.factory is not None
    if config.fit is None and not trained:
        raise BadStudy(f"{file.where(['model'])}: there is no model; give [model] weights = ... or a table [fit]")
    if config.fit is not None and trained:
        raise BadStudy(f"{file.where(['fit'])}: give [model] weights = ... or [fit], not both")
    if config.stability is not None and config.fit is None:
        raise BadStudy(
            f"{file.where(['stability'])}: [stability] trains the network again and needs [fit]; for a model of your own give "
            "evaluation.compare_models the others"
        )


def _spelt(config: StudyConfig, file: TomlFile) -> StudyConfig:
    """Spell panels out and write methods and metrics in their canonical text, each once."""
    methods, metrics = config.explain.methods, config.evaluate.metrics
    chosen = METHOD_PANEL if methods == "panel" else tuple(methods)
    judged = METRIC_PANEL if metrics == "panel" else tuple(metrics)
    if not chosen:
        raise BadStudy(f'{file.where(["explain", "methods"])}: explain.methods names no method; give some or "panel"')
    texts = [_parsed(METHODS, text, file, ("explain", "methods", place)) for place, text in enumerate(chosen)]
    scores = [_parsed(METRICS, text, file, ("evaluate", "metrics", place)) for place, text in enumerate(judged)]
    return config.model_copy(
        update={
            "explain": config.explain.model_copy(update={"methods": list(dict.fromkeys(texts))}),
            "evaluate": config.evaluate.model_copy(update={"metrics": list(dict.fromkeys(scores))}),
            "interpret": _spelt_edits(config.interpret, file),
        }
    )


def _spelt_edits(asked: InterpretConfig | None, file: TomlFile) -> InterpretConfig | None:
    """Write the edits of ``[interpret]`` in their canonical text."""
    if asked is None:
        return None
    claims = [
        claim.model_copy(update={"edit": _parsed(EDITS, claim.edit, file, ("interpret", "claims", place, "edit"))})
        for place, claim in enumerate(asked.claims)
    ]
    named = asked.edits
    edits = named if isinstance(named, str) else [
        _parsed(EDITS, text, file, ("interpret", "edits", place)) for place, text in enumerate(named)
    ]  # fmt: skip
    return asked.model_copy(update={"claims": claims, "edits": edits})


def _parsed(registry: Any, text: str, file: TomlFile, keys: Sequence[str | int]) -> str:
    try:
        return str(registry.parse(text))
    except BadRecipe as error:
        raise BadStudy(f"{file.where(keys)}: {error}") from None


def _absolute(config: StudyConfig, folder: Path) -> StudyConfig:
    """Let every path start at the study file's folder."""
    tables = {}
    for name, table in config:
        if isinstance(table, _Table):
            paths = {key: (folder / value).resolve() for key, value in table if isinstance(value, Path)}
            tables[name] = table.model_copy(update=paths)
    return config.model_copy(update=tables)
