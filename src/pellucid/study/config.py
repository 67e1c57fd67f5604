"""The study file: every choice of a study, checked before anything runs, with errors that name the line."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pellucid.attribution import METHODS
from pellucid.errors import BadRecipe, BadStudy
from pellucid.evaluation import METRICS, Pipeline
from pellucid.evaluation.pipeline import Align, Normalise, Pool, Sign
from pellucid.study.panels import METHOD_PANEL, METRIC_PANEL
from pellucid.study.phantom import PHANTOMS
from pellucid.study.toml import TomlFile, read_toml

__all__ = [
    "EvaluateConfig", "ExplainConfig", "FitConfig", "ImagesConfig", "ModelConfig", "PipelineConfig", "RunConfig", "StabilityConfig",
    "StudyConfig", "default_out", "read_config",
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
    """``[model]``: a trained model."""

    weights: Path_ | None = None
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
        return self


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


class RunConfig(_Table):
    """``[run]``: what decides the last bits of the numbers; fixed before the first task and kept on resume."""

    batch_size: AtLeastOne | None = None
    threads: AtLeastOne | None = None
    device: str | None = None
    shard: AtLeastOne = 8


class StudyConfig(_Table):
    """All of a study file.

    Attributes
    ----------
    seed
        Of everything random.
    images, model, fit, explain, evaluate, pipeline, stability, run
        The tables; the model is trained where there is a ``[fit]``, else loaded, and again where there is a ``[stability]``;
        the same maps are scored under other choices where there is a ``[pipeline]``.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    images: ImagesConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    fit: FitConfig | None = None
    explain: ExplainConfig = Field(default_factory=ExplainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    pipeline: PipelineConfig | None = None
    stability: StabilityConfig | None = None
    run: RunConfig = Field(default_factory=RunConfig)

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
    for key in keys:
        kind = model.model_fields[str(key)].annotation
        inner = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel)]
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
    trained = config.model.weights is not None or config.model.factory is not None
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
        }
    )


def _parsed(registry: Any, text: str, file: TomlFile, keys: Sequence[str | int]) -> str:
    try:
        return str(registry.parse(text))
    except BadRecipe as error:
        raise BadStudy(f"{file.where(keys)}: {error}") from None


def _absolute(config: StudyConfig, folder: Path) -> StudyConfig:
    images = config.images
    if images.path is not None:
        images = images.model_copy(update={"path": (folder / images.path).resolve()})
    model = config.model
    if model.weights is not None:
        model = model.model_copy(update={"weights": (folder / model.weights).resolve()})
    return config.model_copy(update={"images": images, "model": model})
