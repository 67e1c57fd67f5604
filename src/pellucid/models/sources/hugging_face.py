"""Hugging Face folders: config.json and safetensors, opened by the transformers library, offline and without remote code."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from pellucid.errors import CannotExplain, UntrustedModel
from pellucid.models.model import Known, Normalise, Task
from pellucid.models.sources.source import Asked, ModelSource, Opened, fetched, first_line, own_settings

__all__ = ["HuggingFace"]

_TASKS: Mapping[str, Task] = {"ForImageClassification": "classification", "ForSemanticSegmentation": "segmentation"}
_POOLS: Mapping[str, str] = {"convnext": "convnext.layernorm", "resnet": "resnet.pooler", "swin": "swin.pooler"}
"""Layers that give one row of features an image, by model type."""

_WEIGHTS, _INDEX, _PIXELS = "model.safetensors", "model.safetensors.index.json", "preprocessor_config.json"


class HuggingFace(ModelSource):
    """A folder of ``save_pretrained``: an image classifier or semantic segmentation net of transformers."""

    name: ClassVar[str] = "hugging_face"
    title: ClassVar[str] = "Hugging Face folder (config.json and safetensors)"

    def recognises(self, path: Path) -> bool:
        """Look for a config that names its model type."""
        config = path / "config.json"
        return config.is_file() and bool({"model_type", "architectures"} & _read(config).keys())

    def files(self, path: Path) -> list[Path]:
        """Return the config, the weights and what is said of the pixels."""
        own = [path / name for name in ("config.json", _PIXELS, _WEIGHTS, _INDEX) if (path / name).is_file()]
        return [*own, *(file for file in _shards(path) if file.is_file())]

    def open(self, asked: Asked) -> Opened:
        """Build the class that the config names and read its weights."""
        own_settings(asked, "a Hugging Face folder")
        config = _read(asked.path / "config.json")
        _refuse_foreign(config, asked.path)
        architecture, task = _architecture(config, asked.path)
        _refuse_pickles(asked.path)
        network = _network(architecture, asked.path)
        return Opened(
            network=network.eval(),
            classes=_classes(network.config),
            preprocess=_normalise(asked.path, int(getattr(network.config, "num_channels", 3))),
            task="regression" if config.get("problem_type") == "regression" else task,
            embedding=_POOLS.get(config.get("model_type", "")),
            shape=_shape(network.config),
            known=Known(gradients=True, attention=_attends(network)),
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotExplain(f"{path} is no JSON file: {first_line(error)}") from error
    return found if isinstance(found, dict) else {}


def _shards(path: Path) -> list[Path]:
    """Return the files that the index of a large model names; none may lie elsewhere."""
    index = path / _INDEX
    if not index.is_file():
        return []
    names = sorted({str(name) for name in _read(index).get("weight_map", {}).values()})
    for name in names:
        if Path(name).name != name:
            raise UntrustedModel(
                f"{index} names {name!r}, which lies outside the folder: it is never read, trusted or not"
            )
    return [path / name for name in names]


def _refuse_foreign(config: Mapping[str, Any], path: Path) -> None:
    """Refuse code that lies in the folder or elsewhere; there is no way to run it from here, trusted or not."""
    if "auto_map" in config:
        raise UntrustedModel(
            f"{path} brings Python code of its own (auto_map in config.json), which is never run from here: build the network "
            "in your own code and give pellucid.Model(network), or save it as a class of the transformers library"
        )
    if "quantization_config" in config:
        raise CannotExplain(f"{path} holds quantised weights, which cannot be explained; save it in float32")


def _architecture(config: Mapping[str, Any], path: Path) -> tuple[str, Task]:
    for name in config.get("architectures") or ():
        for ending, task in _TASKS.items():
            if str(name).endswith(ending):
                return str(name), task
    raise CannotExplain(
        f"{path} holds {config.get('architectures') or config.get('model_type')}; a classifier or segmentation net is needed "
        f"({' or '.join('...' + ending for ending in _TASKS)}): for another network give pellucid.Model(network)"
    )


def _refuse_pickles(path: Path) -> None:
    if (path / _WEIGHTS).is_file() or (path / _INDEX).is_file():
        return
    pickled = sorted(file.name for file in path.glob("*.bin"))
    if pickled:
        raise UntrustedModel(
            f"{path} holds pickled weights ({pickled[0]}), and opening them could execute code: convert them once with "
            "model.save_pretrained(folder), which writes safetensors"
        )
    raise CannotExplain(f"{path} holds no {_WEIGHTS}; nothing is downloaded: fetch the whole folder first")


def _network(architecture: str, path: Path) -> Any:
    transformers = fetched("transformers", "hf", what="a Hugging Face folder")
    made: Any = getattr(transformers, architecture, None)
    known = isinstance(made, type) and issubclass(made, nn.Module)
    if not known:
        raise CannotExplain(f"{path} holds {architecture}, which transformers {transformers.__version__} does not know")
    with _offline(transformers), _quiet(transformers):
        try:
            network, told = made.from_pretrained(
                str(path), local_files_only=True, trust_remote_code=False, use_safetensors=True,
                attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise CannotExplain(f"{path} cannot be opened by transformers: {first_line(error)}") from error
    _refuse_gaps(told, path)
    return network.float()


def _refuse_gaps(told: Mapping[str, Any], path: Path) -> None:
    """Refuse weights that the library would have made up; what it has no use for is left out, as it does."""
    for key in ("missing_keys", "mismatched_keys"):
        names = sorted(map(str, told.get(key) or ()))
        if names:
            raise CannotExplain(
                f"{path} does not fit its config: {len(names)} {key.replace('_keys', '')} weights (first {names[0]}); "
                "they would be random numbers"
            )


def _classes(config: Any) -> tuple[str, ...]:
    """Return the class names in the order of the outputs, or none where the config has only made them up."""
    told = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    names = tuple(told[number] for number in sorted(told))
    made_up = tuple(f"LABEL_{number}" for number in sorted(told))
    return () if names == made_up else names


def _normalise(path: Path, channels: int) -> Normalise | None:
    """Return what the folder's image processor does to the values of a pixel, for images between 0 and 1.

    Raises
    ------
    CannotExplain
        When it does what no shift and scale of a channel can do.
    """
    if not (path / _PIXELS).is_file():
        return None
    told = _read(path / _PIXELS)
    if told.get("do_flip_channel_order"):
        raise CannotExplain(f"{path / _PIXELS} reverses the channels; give preprocess= and leave that file out")
    gain = 255 * float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 255.0
    offset = 1.0 if told.get("rescale_offset") else 0.0
    mean, std = 0.0, 1.0
    if told.get("do_normalize", "image_mean" in told):
        mean, std = told.get("image_mean", mean), told.get("image_std", std)
    means, stds = _each(mean, channels), _each(std, channels)
    made = Normalise(
        tuple((offset + value) / gain for value in means),
        tuple(value / gain for value in stds),
    )
    return None if made == Normalise((0.0,) * channels, (1.0,) * channels) else made


def _each(value: Any, channels: int) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list) else (float(value),) * channels


def _shape(config: Any) -> tuple[int, ...] | None:
    size = getattr(config, "image_size", None)
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    return (int(getattr(config, "num_channels", 3)), *map(int, sides))


def _attends(network: nn.Module) -> bool:
    return any("Attention" in type(part).__name__ for part in network.modules())


@contextmanager
def _offline(transformers: Any) -> Iterator[None]:
    """Forbid the library to ask the network while it reads a folder, whatever it was told before."""
    constants = fetched("huggingface_hub.constants", "hf", what=f"transformers {transformers.__version__}")
    was = constants.HF_HUB_OFFLINE, {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    constants.HF_HUB_OFFLINE = True
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was[0]
        for name, value in was[1].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
