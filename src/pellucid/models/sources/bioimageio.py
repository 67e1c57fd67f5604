"""bioimage.io packages: the network with its gradients, its preprocessing, its channel names; and its own test, repeated."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from pellucid.errors import CannotExplain
from pellucid.models.content import file_kind, inside, zip_names
from pellucid.models.model import Model, Task
from pellucid.models.passes import Passes
from pellucid.models.sources.archive import unpacked
from pellucid.models.sources.arranged import Arranged
from pellucid.models.sources.bioimageio_description import NAMES, Package, axes_of, channels_of
from pellucid.models.sources.bioimageio_processing import Processing, linear, postprocessed, whole_number_range
from pellucid.models.sources.factories import build, fill, found, module_of, spelt
from pellucid.models.sources.onnx_file import external_names
from pellucid.models.sources.onnx_graph import opened_graph
from pellucid.models.sources.programs import scripted
from pellucid.models.sources.source import Asked, ModelSource, Opened, own_settings
from pellucid.models.weights import read_state_dict

__all__ = ["BioimageioPackage"]

_DENSE = {"softmax", "sigmoid", "binarize"}


class BioimageioPackage(ModelSource):
    """A package of the bioimage.io model zoo: an archive or a folder with ``rdf.yaml``."""

    name: ClassVar[str] = "bioimageio"
    title: ClassVar[str] = "bioimage.io package (zip or folder)"
    consent: ClassVar[str] = "it brings the source code of its network; TorchScript weights are a program"

    def recognises(self, path: Path) -> bool:
        """Look for the description."""
        if path.is_file():
            return path.name in NAMES or (file_kind(path) == "zip" and bool(set(NAMES) & set(zip_names(path))))
        return any((path / name).is_file() for name in NAMES)

    def files(self, path: Path) -> list[Path]:
        """Return the archive, or all files of the folder."""
        return super().files(path.parent if path.name in NAMES else path)

    def open(self, asked: Asked) -> Opened:
        """Unpack, read the description, build the network, and repeat the package's own test."""
        folder = asked.path.parent if asked.path.name in NAMES else asked.path
        with unpacked(folder) as root:
            package = Package.read(root, asked.path)
            chosen = _chosen(package, asked)
            inner = _weights(package, chosen["weights"], asked)
            scale = float(chosen["range"])
            opened = _described(package, inner, scale=scale)
            if not chosen["test"]:
                return opened
            return replace(opened, notes=(*opened.notes, _tested(package, opened, chosen["weights"], scale=scale)))


def _chosen(package: Package, asked: Asked) -> dict[str, Any]:
    """Return the source's own settings; with a factory they are the factory's."""
    defaults = {"weights": package.formats[0], "range": whole_number_range(package.takes), "test": True}
    if asked.factory is not None:
        return defaults | {"weights": "pytorch_state_dict"}
    chosen = own_settings(asked, "a bioimage.io package", **defaults)
    if chosen["weights"] not in package.formats:
        raise CannotExplain(f"{asked.path} has no weights {chosen['weights']!r}; it has {', '.join(package.formats)}")
    return chosen


def _described(package: Package, inner: Opened, *, scale: float) -> Opened:
    """Add to a network what the description says of it."""
    takes, gives = axes_of(package.takes), axes_of(package.gives)
    network = inner.network
    if not (takes.plain and gives.plain):
        network = Arranged(network if isinstance(network, nn.Module) else _Called(network), takes=takes, gives=gives)
    channels = channels_of(package.takes)
    simple = linear(package.takes, max(1, len(channels)), scale)
    steps = {step.id for step in package.gives.postprocessing}
    task = ("segmentation" if gives.spatial else "classification") if steps & _DENSE else None
    return replace(
        inner,
        network=network,
        classes=channels_of(package.gives),
        preprocess=simple or Processing(package.takes, takes, scale),
        task=cast("Task | None", task),
        known=replace(inner.known, spatial_rank=len(takes.spatial)),
        settings=inner.settings,
        notes=(*inner.notes, _scaled(package.takes, scale)),
    )


def _tested(package: Package, opened: Opened, kind: str, *, scale: float) -> str:
    """Send the test input through and say how far the output lies from the test output.

    Raises
    ------
    CannotExplain
        When it lies further away than the package allows.
    """
    if package.takes.test_tensor is None or package.gives.test_tensor is None:
        return "the package brings no test images, so that nothing says whether it was opened as it was meant"
    if any(step.id == "custom" for step in package.gives.postprocessing):
        return "the package's postprocessing is code of its own, which is not run: its test was not repeated"
    given, wanted = (_array(package, tensor) for tensor in (package.takes, package.gives))
    x = axes_of(package.takes).back(torch.from_numpy(given.astype(np.float32))) / scale
    model = Model(opened.network, preprocess=opened.preprocess, known=opened.known)
    with Passes(model) as passes:
        outputs = passes.outputs(model.prepare(x)).cpu()
    axes = axes_of(package.gives)
    got = postprocessed(package.gives, axes.there(outputs).numpy())
    return _compared(package, got, wanted, kind)


def _array(package: Package, tensor: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.load(io.BytesIO(package.content(tensor.test_tensor)), allow_pickle=False)
    return found


def _compared(package: Package, got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], kind: str) -> str:
    if got.shape != wanted.shape:
        raise CannotExplain(
            f"{package.path}: the test output has shape {wanted.shape} and the network gives {got.shape}"
        )
    away = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    absolute, relative, part = package.tolerance(kind)
    largest = f"{away.max():.2g} (largest difference; the outputs reach {np.abs(wanted).max():.2g})"
    if float(np.mean(away > absolute + relative * np.abs(wanted))) > part:
        raise CannotExplain(
            f"{package.path}: its test output is missed by up to {largest}, and the package allows {absolute:g} + {relative:g} of "
            "the value; it was made for other versions or weights: settings={'test': False} opens it all the same"
        )
    return f"its test output is reproduced to {largest}"


def _weights(package: Package, kind: str, asked: Asked) -> Opened:
    entry = getattr(package.weights, kind)
    if entry is None:
        raise CannotExplain(f"{asked.path} has no weights {kind!r}; it has {', '.join(package.formats)}")
    file = inside(package.root, str(entry.source.path), what=str(asked.path))
    if kind == "onnx":
        package.content(entry)  # its hash is compared
        for name in external_names(file):
            inside(file.parent, name, what=str(file))
        return opened_graph(file)
    if kind == "torchscript":
        asked.consent.demand("has TorchScript weights, a program of their own", _freely(package))
        return scripted(package.content(entry), asked.path)
    return _state_dict(package, entry, file, asked)


def _state_dict(package: Package, entry: Any, file: Path, asked: Asked) -> Opened:
    package.content(entry)  # its hash is compared
    told = entry.architecture
    arguments = dict(asked.settings or {}) if asked.factory is not None else dict(told.kwargs)
    if asked.factory is not None:
        text = spelt(asked.factory)
        factory = asked.factory if callable(asked.factory) else found(asked.factory)
    else:
        text = str(told.callable)
        where = getattr(told, "source", None) or told.import_from
        asked.consent.demand(
            f"builds its network by calling {text} of {where}, which is code that it names", _freely(package)
        )
        factory = _callable(package, told, text)
    network = build(factory, arguments, text)
    fill(network, read_state_dict(file), asked.path)
    return Opened(network=network.eval(), factory=text if asked.factory is not None else None, settings=arguments)


def _callable(package: Package, told: Any, text: str) -> Any:
    if getattr(told, "source", None) is None:
        return found(f"{told.import_from}:{text}")
    module = module_of(package.content(told), str(told.source.path))
    if not hasattr(module, text):
        raise CannotExplain(f"{package.path}: {told.source.path} has no {text}")
    return getattr(module, text)


def _freely(package: Package) -> str:
    if "onnx" in package.formats:
        return "open its ONNX weights, which run no code, with settings={'weights': 'onnx'}"
    return "build the network in your own code and give factory= for its state dict"


class _Called(nn.Module):
    """A callable in the place of a network."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self._call(*inputs)
        return answer


def _scaled(tensor: Any, scale: float) -> str:
    if scale == 1.0:
        return "it takes the values as they are; where files hold whole numbers, which are read as 0 to 1, say settings={'range': 255}"
    return f"images are read as 0 to 1 and multiplied by {scale:g}, the range of the package's {tensor.dtype} files"
