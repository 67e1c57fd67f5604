"""The study file: every choice of a study, checked before anything runs, with errors that name the line."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from pellucid.attribution import METHODS
from pellucid.errors import BadRecipe, BadStudy
from pellucid.evaluation import METRICS
from pellucid.images.tissue import TISSUE
from pellucid.measure import EDITS
from pellucid.study.panels import METHOD_PANEL, METRIC_PANEL
from pellucid.study.phantom import PHANTOMS
from pellucid.study.questions import (
    CalibrateConfig,
    ConceptsConfig,
    CounterfactualConfig,
    ExamplesConfig,
    InterpretConfig,
    PhenotypesConfig,
    StrategiesConfig,
)
from pellucid.study.slide_config import SlideConfig
from pellucid.study.tables import (
    EvaluateConfig,
    ExplainConfig,
    FitConfig,
    ImagesConfig,
    ModelConfig,
    PipelineConfig,
    RunConfig,
    StabilityConfig,
    StoreConfig,
    Table,
)
from pellucid.study.toml import TomlFile, read_toml

__all__ = [
    "RESOLVED_TABLES", "StudyConfig", "default_out", "read_config", "table_defaults",
]  # fmt: skip


class StudyConfig(Table):
    """All of a study file.

    Attributes
    ----------
    seed
        Of everything random.
    images, model, fit, explain, evaluate, pipeline, stability, calibrate, counterfactual, interpret, concepts, examples, strategies, phenotypes, slide, run, store
        The tables; the model is trained where there is a ``[fit]``, else loaded, and again where there is a ``[stability]``;
        the same maps are scored under other choices where there is a ``[pipeline]``. ``[calibrate]``, ``[concepts]``, ``[examples]`` and
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
    calibrate: CalibrateConfig | None = None
    counterfactual: CounterfactualConfig | None = None
    interpret: InterpretConfig | None = None
    concepts: ConceptsConfig | None = None
    examples: ExamplesConfig | None = None
    strategies: StrategiesConfig | None = None
    phenotypes: PhenotypesConfig | None = None
    slide: SlideConfig | None = None
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


def table_defaults(name: str) -> dict[str, Any]:
    """Return the plain values of the keys of a table that need not be given."""
    fields = _model_of([name]).model_fields.items()
    told = {key: field.get_default(call_default_factory=True) for key, field in fields if not field.is_required()}
    return {key: value for key, value in told.items() if value is not None}


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
            "slide": _spelt_slide(config.slide, file),
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


def _spelt_slide(asked: SlideConfig | None, file: TomlFile) -> SlideConfig | None:
    """Write method and tissue recipe of ``[slide]`` in their canonical text."""
    if asked is None:
        return None
    if asked.shard % asked.tile:
        raise BadStudy(
            f"{file.where(['slide', 'shard'])}: slide.shard = {asked.shard} is no whole number of tiles of {asked.tile} pixels"
        )
    registries = {"method": METHODS, "tissue": TISSUE}
    texts = {key: getattr(asked, key) for key in registries}
    return asked.model_copy(
        update={
            key: _parsed(registries[key], text, file, ("slide", key)) for key, text in texts.items() if text is not None
        }
    )


def _parsed(registry: Any, text: str, file: TomlFile, keys: Sequence[str | int]) -> str:
    try:
        return str(registry.parse(text))
    except BadRecipe as error:
        raise BadStudy(f"{file.where(keys)}: {error}") from None


def _absolute(config: StudyConfig, folder: Path) -> StudyConfig:
    """Let every path start at the study file's folder."""
    tables = {}
    for name, table in config:
        if isinstance(table, Table):
            paths = {key: (folder / value).resolve() for key, value in table if isinstance(value, Path)}
            tables[name] = table.model_copy(update=paths)
    return config.model_copy(update=tables)
