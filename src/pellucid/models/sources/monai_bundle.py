"""MONAI bundles: the network that a configuration builds, its weights, and the names of its channels."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file
from torch import nn

from pellucid.errors import CannotExplain
from pellucid.models.content import file_kind, zip_names
from pellucid.models.model import Task
from pellucid.models.sources.factories import fill
from pellucid.models.sources.programs import scripted
from pellucid.models.sources.source import Asked, ModelSource, Opened, fetched, first_line, own_settings
from pellucid.models.weights import read_state_dict

__all__ = ["MonaiBundle"]

_EXTRA = {"extra": "monai", "what": "a MONAI bundle"}
_ENDINGS = (".json", ".yaml", ".yml")
_WEIGHTS = ("model.safetensors", "model.pt", "model.ts")
_TASKS: Mapping[str, Task] = {"segmentation": "segmentation", "classification": "classification"}


class MonaiBundle(ModelSource):
    """A folder with ``configs/`` and ``models/``, as the MONAI model zoo publishes them."""

    name: ClassVar[str] = "monai_bundle"
    title: ClassVar[str] = "MONAI bundle"
    consent: ClassVar[str] = "its configuration is evaluated as Python"

    def recognises(self, path: Path) -> bool:
        """Look for a configuration of inference or the metadata of a bundle."""
        if path.is_dir():
            return _config(path, "inference") is not None or (path / "configs" / "metadata.json").is_file()
        return file_kind(path) == "zip" and any(name.endswith("configs/metadata.json") for name in zip_names(path))

    def open(self, asked: Asked) -> Opened:
        """Evaluate the network's definition, with consent, and read its weights."""
        asked.consent.demand(
            "is a MONAI bundle, whose configuration is evaluated as Python",
            "build its network in your own code and give factory= for its state dict (models/model.pt)",
        )
        if not asked.path.is_dir():
            raise CannotExplain(f"{asked.path} is an archive of a MONAI bundle; unpack it and give the folder")
        chosen = own_settings(asked, "a MONAI bundle", config="inference", network="network_def", weights=None)
        metadata = _metadata(asked.path)
        weights = _weights(asked.path, chosen["weights"])
        config = _config(asked.path, chosen["config"])
        steps: tuple[str, ...] = ()
        if weights.suffix == ".ts":
            opened = scripted(weights.read_bytes(), asked.path)
        elif config is None:
            raise CannotExplain(f"{asked.path} has no configuration configs/{chosen['config']}.json")
        else:
            network, steps = _built(asked.path, config, chosen["network"])
            fill(network, load_file(weights) if weights.suffix == ".safetensors" else read_state_dict(weights), weights)
            opened = Opened(network=network.eval())
        return Opened(
            network=opened.network,
            known=opened.known,
            classes=_channels(metadata),
            task=_task(metadata),
            shape=_shape(metadata),
            settings=chosen,
            notes=(_unprepared(steps),),
        )


def _config(path: Path, name: str) -> Path | None:
    return next((file for end in _ENDINGS if (file := path / "configs" / f"{name}{end}").is_file()), None)


def _weights(path: Path, name: str | None) -> Path:
    names = _WEIGHTS if name is None else (name,)
    for candidate in names:
        if (path / "models" / candidate).is_file():
            return path / "models" / candidate
    raise CannotExplain(
        f"{path} has no weights models/{' or models/'.join(names)}; nothing is downloaded: fetch them first"
        f"{' from where large_files.yml says' if (path / 'large_files.yml').is_file() else ''}"
    )


def _built(path: Path, config: Path, name: str) -> tuple[nn.Module, tuple[str, ...]]:
    parser_kind = fetched("monai.bundle", **_EXTRA).ConfigParser
    with _importable(path):
        try:
            parser = parser_kind()
            parser.read_config(str(config))
            parser["bundle_root"] = str(path)
            if parser.get(f"{name}::pretrained"):
                parser[f"{name}::pretrained"] = False  # the bundle's own weights follow; nothing is downloaded
            network = parser.get_parsed_content(name)
        except Exception as error:  # whatever the bundle's own expressions raise
            raise CannotExplain(
                f"{config}: {name} cannot be built: {type(error).__name__}: {first_line(error)}"
            ) from error
    if not isinstance(network, nn.Module):
        raise CannotExplain(
            f"{config}: {name} is {type(network).__name__} and no network; say settings={{'network': ...}}"
        )
    return network, _steps(parser.get("preprocessing"))


def _steps(told: Any) -> tuple[str, ...]:
    found = told.get("transforms") if isinstance(told, Mapping) else None
    steps = found if isinstance(found, list) else []
    return tuple(str(step.get("_target_", "?")) if isinstance(step, Mapping) else str(step) for step in steps)


def _unprepared(steps: tuple[str, ...]) -> str:
    listed = f" ({', '.join(steps)})" if steps else ""
    return (
        f"the bundle's own preprocessing{listed} is not applied: give images as its network takes them, or preprocess="
    )


def _metadata(path: Path) -> Mapping[str, Any]:
    file = path / "configs" / "metadata.json"
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8")).get("network_data_format") or {}
    except (ValueError, AttributeError) as error:
        raise CannotExplain(f"{file} is no description of a bundle: {first_line(error)}") from error
    return told if isinstance(told, Mapping) else {}


def _first(told: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    described = told.get(side) or {}
    return next((entry for entry in described.values() if isinstance(entry, Mapping)), {})


def _channels(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the output's channels, or none where they are not numbered through."""
    named = {str(number): str(name) for number, name in (_first(told, "outputs").get("channel_def") or {}).items()}
    wanted = [str(number) for number in range(len(named))]
    return tuple(named[number] for number in wanted) if set(wanted) == named.keys() else ()


def _task(told: Mapping[str, Any]) -> Task | None:
    return _TASKS.get(str(_first(told, "outputs").get("format")))


def _shape(told: Mapping[str, Any]) -> tuple[int, ...] | None:
    image = _first(told, "inputs")
    sizes = [image.get("num_channels"), *(image.get("spatial_shape") or ["*"])]
    return tuple(sizes) if all(isinstance(size, int) for size in sizes) else None


@contextmanager
def _importable(path: Path) -> Iterator[None]:
    """Let a configuration import the bundle's own scripts while it is read, without leaving compiled files there."""
    was = sys.dont_write_bytecode
    sys.path.insert(0, str(path))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = was
        sys.path.remove(str(path))
