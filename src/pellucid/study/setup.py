"""A study's images, model and target, opened from its file: in the process that leads and in every worker."""

import importlib.util
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.attribution import Patterns
from pellucid.attribution.pattern_methods import PATTERNS
from pellucid.errors import BadStudy, UntrustedModel
from pellucid.images import ImageSet, flatten_outside, read_images
from pellucid.images.reader import LIMIT
from pellucid.models import Model, Normalise, load_model, weights_hash
from pellucid.models.targets import TARGETS, Class
from pellucid.study.config import StudyConfig, read_config
from pellucid.study.maps import MapStore
from pellucid.study.phantom import PHANTOMS
from pellucid.study.plan import Plan
from pellucid.study.store import Store
from pellucid.study.tables import ImagesConfig, ModelConfig

__all__ = ["Setup", "device_of", "open_images", "open_model"]


def open_images(config: ImagesConfig, classes: list[str] | None = None) -> ImageSet:
    """Return the images that ``[images]`` names; `classes` are the model's, in the order of its outputs."""
    images = PHANTOMS.parse(config.phantom).images() if config.phantom is not None else _read(config, classes)
    if config.object is not None and config.object not in images.masks:
        have = ", ".join(images.masks) or "none"
        raise BadStudy(f"images.object = {config.object!r} is no mask of these images; they have {have}")
    if config.batch is not None and config.batch not in images.metadata.column_names:
        have = ", ".join(images.metadata.column_names) or "none"
        raise BadStudy(f"images.batch = {config.batch!r} is no column of these images; they have {have}")
    return images if config.flatten is None else flatten_outside(images, config.flatten)


def _read(config: ImagesConfig, classes: list[str] | None) -> ImageSet:
    if config.path is None:
        raise BadStudy("[images] names no images; give path = ... or phantom = ...")
    return read_images(
        config.path, labels=config.labels, masks=config.masks, split=config.split, group=config.group,
        size=config.size, axes=config.axes, spacing=config.spacing, channels=config.channels,
        classes=config.classes or classes, series=config.series, level=config.level, um_per_px=config.um_per_px,
        tile=config.tile, overlap=config.overlap, tissue=config.tissue, limit=config.limit or LIMIT,
    )  # fmt: skip


def device_of(config: StudyConfig) -> str:
    """Return where the model runs: what ``run.device`` says, else a CUDA device where there is one."""
    return config.run.device or ("cuda" if torch.cuda.is_available() else "cpu")


def open_model(config: ModelConfig, *, device: str, trust: bool = False) -> Model:
    """Open the trained model that ``[model]`` names.

    Raises
    ------
    UntrustedModel
        When it could execute code (its content, or a factory outside the installed packages) and `trust` is False; or when
        its content is not the one that the study file names.
    """
    place = config.place
    if place is None:
        raise BadStudy(
            "[model] names a factory but no weights; give weights = ... so that a trained model is explained"
        )
    if config.factory is not None and not trust:
        _refuse_local_code(config.factory)
    if config.trust is not None:
        _refuse_other_content(place, config.trust)
    try:
        return load_model(
            place,
            factory=config.factory,
            settings=config.arguments or None,
            classes=config.classes or (),
            trust=trust,
            preprocess=Normalise(tuple(config.mean), tuple(config.std)) if config.mean and config.std else None,
            task=config.task,
            embedding=config.embedding,
            device=device,
        )
    except UntrustedModel as error:
        if trust:
            raise
        raise UntrustedModel(f"{error}; on the command line say --trust") from error


def _refuse_other_content(place: Path, trusted: str) -> None:
    now = f"sha256:{weights_hash(place)}" if place.exists() else trusted  # what is missing is told when it is opened
    if now != trusted:
        raise UntrustedModel(
            f"the content of {place} is {now} and the study file trusts {trusted}; look at what changed, and write the new hash "
            "into [model] trust"
        )


def _refuse_local_code(factory: str) -> None:
    """Let a study file name code of installed packages only; code that merely lies about is the reader's to trust."""
    package = factory.partition(":")[0].partition(".")[0]
    if package == "pellucid" or package in packages_distributions():
        return
    found = importlib.util.find_spec(package) if package else None
    home = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]
    origin = Path(found.origin).resolve() if found is not None and found.origin else None
    if found is not None and (origin is None or not any(folder in origin.parents for folder in home)):
        raise UntrustedModel(
            f"factory = {factory!r} is code outside the installed packages ({origin or package}); say --trust to run it"
        )


@dataclass(frozen=True)
class Setup:
    """What a study works with; images and model are opened once, when first asked for.

    Attributes
    ----------
    store
        The directory.
    config
        What was asked.
    trust
        Consent to execute what the model's file or factory holds.
    given
        A model in place of the study's own, for a dry run before there is one.
    """

    store: Store
    config: StudyConfig
    trust: bool = False
    given: Model | None = None

    @classmethod
    def open(cls, root: Path, *, trust: bool = False) -> "Setup":
        """Open a study directory.

        Raises
        ------
        BadStudy
            When it is none.
        """
        store = Store(root)
        store.settings()
        return cls(store, read_config(store.study_file)[0], trust)

    @cached_property
    def images(self) -> ImageSet:
        """All images of the study."""
        return open_images(self.config.images, self.config.model.classes)

    @cached_property
    def model(self) -> Model:
        """The explained model: trained here, or loaded.

        Raises
        ------
        BadStudy
            When the reference network is not trained yet, or the model's classes are not the images'.
        """
        if self.given is not None:
            return self.given
        device = self.plan.device if self.planned else device_of(self.config)
        if self.config.fit is None:
            self._refuse_changed_content()
            model = open_model(self.config.model, device=device, trust=self.trust)
        elif self.store.weights.is_file():
            model = load_model(self.store.weights, device=device)
        else:
            raise BadStudy(f"{self.store.root}: the model is not trained yet; run the study")
        self.refuse_other_classes(model)
        model.fitted = self.fitted
        return model

    def _refuse_changed_content(self) -> None:
        """Compare the model's content with that which the study began with, before anything of it is opened."""
        began = self.store.settings().get("provenance", {}).get("model")
        place = self.config.model.place
        if began is not None and place is not None and place.exists() and weights_hash(place) != began:
            raise BadStudy(f"the model's weights changed since {self.store.root} began; choose another --out")

    @property
    def fitted(self) -> dict[str, Any]:
        """What methods learnt about the model from the training images, as `Model` holds it."""
        return {PATTERNS: Patterns.load(self.store.patterns)} if self.store.patterns.is_file() else {}

    def refuse_other_classes(self, model: Model) -> None:
        """Check that a label's number means the same class to the model and to the images."""
        if model.classes and self.images.labels is not None and model.classes != self.images.classes:
            raise BadStudy(
                f"the model's classes are {', '.join(model.classes)} and the images' {', '.join(self.images.classes)}; "
                "give [model] classes = [...] in the order of its outputs"
            )

    @property
    def planned(self) -> bool:
        """Whether the tasks are laid out: from then on nothing that decides a number may change."""
        return "plan" in self.store.settings()

    @cached_property
    def plan(self) -> Plan:
        """The tasks."""
        settings = self.store.settings()
        if "plan" not in settings:
            raise BadStudy(f"{self.store.root}: no image is explained yet; run the study")
        return Plan.from_settings(settings["plan"], self.store.manifest(settings["plan"]))

    @cached_property
    def maps(self) -> MapStore:
        """The raw maps."""
        return MapStore(self.store.root / "maps.zarr", self.plan.shard, self.plan.whole, self.config.kept.reduced)

    @property
    def truth(self) -> tuple[str, ...]:
        """Names of the masks that say where an expert expects the evidence: one an annotator."""
        named = self.config.evaluate.mask
        if named is None:
            return tuple(self.images.masks)[:1]
        names = (named,) if isinstance(named, str) else tuple(named)
        for name in names:
            if name not in self.images.masks:
                have = ", ".join(self.images.masks) or "none"
                raise BadStudy(f"evaluate.mask = {name!r} is no mask of these images; they have {have}")
        return names

    def masks(self, ids: list[str]) -> dict[str, list[Tensor | None]] | None:
        """Return the expert masks of some images by annotator, or None where the study has none."""
        return {name: self.images.mask(name, ids) for name in self.truth} or None

    def target(self, ids: list[str]) -> Any:
        """Return what is explained of some images, as `explain` takes it."""
        wanted = self.config.explain.target
        if wanted == "predicted":
            return None
        if wanted == "label":
            return self.images.label(ids)
        return self.named_target(wanted, "explain.target")

    def named_target(self, wanted: int | str, key: str) -> Any:
        """Return the class or other target that `key` of the study file names, as `explain` takes it."""
        if isinstance(wanted, int) or wanted in self.model.classes:
            return Class(wanted)
        if wanted.isidentifier():
            others = '"predicted", "label", ' if key == "explain.target" else ""
            raise BadStudy(
                f"{key} = {wanted!r} is no class; give {others}a class "
                f"({', '.join(self.model.classes) or 'the model names none'}) or a target such as 'LogOdds(index=1)'"
            )
        return TARGETS.parse(wanted)
