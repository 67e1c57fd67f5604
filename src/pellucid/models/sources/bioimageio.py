"""bioimage.io packages: the network with its gradients, its preprocessing, its channel names; and its own test, repeated."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from pellucid.errors import CannotExplain, PellucidError
from pellucid.models.content import file_kind, inside, zip_names
from pellucid.models.model import Model, Task
from pellucid.models.passes import Passes
from pellucid.models.sources.archive import unpacked
from pellucid.models.sources.arranged import Arranged, Axes
from pellucid.models.sources.bioimageio_processing import Processing, linear, postprocessed, whole_number_range
from pellucid.models.sources.factories import build, fill, found, module_of, spelt
from pellucid.models.sources.onnx_file import external_names
from pellucid.models.sources.onnx_graph import opened_graph
from pellucid.models.sources.programs import scripted
from pellucid.models.sources.source import Asked, ModelSource, Opened, fetched, own_settings
from pellucid.models.weights import read_state_dict

__all__ = ["BioimageioPackage"]

_EXTRA = {"extra": "bioimageio", "what": "a bioimage.io package"}
_NAMES = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
_FORMATS = ("pytorch_state_dict", "torchscript", "onnx")
_DENSE = {"softmax", "sigmoid", "binarize"}


class BioimageioPackage(ModelSource):
    """A package of the bioimage.io model zoo: an archive or a folder with ``rdf.yaml``."""

    name: ClassVar[str] = "bioimageio"
    title: ClassVar[str] = "bioimage.io package (zip or folder)"
    consent: ClassVar[str] = "it brings the source code of its network; TorchScript weights are a program"

    def recognises(self, path: Path) -> bool:
        """Look for the description."""
        if path.is_file():
            return path.name in _NAMES or (file_kind(path) == "zip" and bool(set(_NAMES) & set(zip_names(path))))
        return any((path / name).is_file() for name in _NAMES)

    def files(self, path: Path) -> list[Path]:
        """Return the archive, or all files of the folder."""
        return super().files(path.parent if path.name in _NAMES else path)

    def open(self, asked: Asked) -> Opened:
        """Unpack, read the description, build the network, and repeat the package's own test."""
        folder = asked.path.parent if asked.path.name in _NAMES else asked.path
        with unpacked(folder) as root:
            package = _Package.read(root, asked.path)
            chosen = _chosen(package, asked)
            inner = _weights(package, chosen["weights"], asked)
            opened = package.described(inner, gain=chosen["range"])
            if not chosen["test"]:
                return opened
            return replace(opened, notes=(*opened.notes, package.tested(opened, chosen["weights"])))


def _chosen(package: "_Package", asked: Asked) -> dict[str, Any]:
    """Return the source's own settings; with a factory they are the factory's."""
    defaults = {"weights": package.formats[0], "range": None, "test": True}
    if asked.factory is not None:
        return defaults | {"weights": "pytorch_state_dict"}
    chosen = own_settings(asked, "a bioimage.io package", **defaults)
    if chosen["weights"] not in package.formats:
        raise CannotExplain(f"{asked.path} has no weights {chosen['weights']!r}; it has {', '.join(package.formats)}")
    return chosen


@dataclass(frozen=True)
class _Package:
    """What the description says, and where the package lies.

    Only the parts that are used are checked, each by the description's own library: a faulty citation stops nobody.
    """

    root: Path
    path: Path
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    weights: Any
    tolerances: tuple[Any, ...]

    @classmethod
    def read(cls, root: Path, path: Path) -> "_Package":
        file = next(root / name for name in _NAMES if (root / name).is_file())
        yaml = fetched("ruyaml", **_EXTRA).YAML(typ="safe")
        spec = fetched("bioimageio.spec.model.v0_5", **_EXTRA)
        try:
            told = yaml.load(file.read_text(encoding="utf-8"))
            _refuse_outside(told, root, file)
            with _without_network(root, file.name):
                spec.ModelDescr.convert_from_old_format_wo_validation(told)
                found = cls(
                    root,
                    path,
                    tuple(spec.InputTensorDescr.model_validate(tensor) for tensor in told["inputs"]),
                    tuple(spec.OutputTensorDescr.model_validate(tensor) for tensor in told["outputs"]),
                    spec.WeightsDescr.model_validate(told["weights"]),
                    tuple(spec.ReproducibilityTolerance.model_validate(entry) for entry in _tolerances(told)),
                )
        except PellucidError:
            raise
        except Exception as error:  # the description's own library decides what is wrong with it
            raise CannotExplain(f"{path}: {file.name} cannot be read: {' '.join(str(error).split())}") from error
        if not found.formats:
            have = ", ".join(found.weights.available_formats)
            raise CannotExplain(f"{path} has weights for {have} only; one of {', '.join(_FORMATS)} is needed")
        if len(found.required) != 1:
            names = ", ".join(str(tensor.id) for tensor in found.required)
            raise CannotExplain(
                f"{path} takes the inputs {names}; packages of one input are read: build it with pellucid.Model"
            )
        return found

    @property
    def required(self) -> list[Any]:
        return [tensor for tensor in self.inputs if not tensor.optional]

    @property
    def takes(self) -> Any:
        return self.required[0]

    @property
    def gives(self) -> Any:
        return self.outputs[0]

    @property
    def formats(self) -> tuple[str, ...]:
        """Weights that can be opened, those with gradients first."""
        return tuple(name for name in _FORMATS if getattr(self.weights, name) is not None)

    def content(self, entry: Any) -> bytes:
        """Return the bytes of a file that the description names.

        Raises
        ------
        CannotExplain
            When it is missing, or its hash is not the one that the description gives.
        """
        file = self.root / str(entry.source.path)
        if not file.is_file():
            raise CannotExplain(f"{self.path} names {file.name}, which is not in the package")
        content = file.read_bytes()
        if entry.sha256 is not None and hashlib.sha256(content).hexdigest() != str(entry.sha256):
            raise CannotExplain(
                f"{self.path}: {file.name} is not the file that the description was written for (its hash differs)"
            )
        return content

    def described(self, inner: Opened, *, gain: float | None) -> Opened:
        """Add to a network what the description says of it."""
        takes, gives = _axes(self.takes), _axes(self.gives)
        network = inner.network
        if not (takes.plain and gives.plain):
            network = Arranged(
                network if isinstance(network, nn.Module) else _Called(network), takes=takes, gives=gives
            )
        scale = whole_number_range(self.takes) if gain is None else float(gain)
        channels = _channels(self.takes)
        simple = linear(self.takes, max(1, len(channels)), scale)
        steps = {step.id for step in self.gives.postprocessing}
        task = ("segmentation" if gives.spatial else "classification") if steps & _DENSE else None
        return replace(
            inner,
            network=network,
            classes=_channels(self.gives),
            preprocess=simple or Processing(self.takes, takes, scale),
            task=cast("Task | None", task),
            known=replace(inner.known, spatial_rank=len(takes.spatial)),
            settings=inner.settings,
            notes=(*inner.notes, _scaled(self.takes, scale)),
        )

    def tested(self, opened: Opened, kind: str) -> str:
        """Send the test input through and say how far the output lies from the test output.

        Raises
        ------
        CannotExplain
            When it lies further away than the package allows.
        """
        if self.takes.test_tensor is None or self.gives.test_tensor is None:
            return "the package brings no test images, so that nothing says whether it was opened as it was meant"
        if any(step.id == "custom" for step in self.gives.postprocessing):
            return "the package's postprocessing is code of its own, which is not run: its test was not repeated"
        given, wanted = (self._array(tensor) for tensor in (self.takes, self.gives))
        x = _axes(self.takes).back(torch.from_numpy(given.astype(np.float32))) / whole_number_range(self.takes)
        model = Model(opened.network, preprocess=opened.preprocess, known=opened.known)
        with Passes(model) as passes:
            outputs = passes.outputs(model.prepare(x)).cpu()
        axes = _axes(self.gives)
        got = postprocessed(self.gives, axes.there(outputs).numpy())
        return self._compared(got, wanted, kind)

    def _array(self, tensor: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = np.load(io.BytesIO(self.content(tensor.test_tensor)), allow_pickle=False)
        return found

    def _compared(self, got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], kind: str) -> str:
        if got.shape != wanted.shape:
            raise CannotExplain(
                f"{self.path}: the test output has shape {wanted.shape} and the network gives {got.shape}"
            )
        away = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        absolute, relative, part = self._tolerance(kind)
        largest = f"{away.max():.2g} (largest difference; the outputs reach {np.abs(wanted).max():.2g})"
        if float(np.mean(away > absolute + relative * np.abs(wanted))) > part:
            raise CannotExplain(
                f"{self.path}: its test output is missed by up to {largest}, and the package allows {absolute:g} + {relative:g} of "
                "the value; it was made for other versions or weights: settings={'test': False} opens it all the same"
            )
        return f"its test output is reproduced to {largest}"

    def _tolerance(self, kind: str) -> tuple[float, float, float]:
        for entry in self.tolerances:
            if (not entry.weights_formats or kind in entry.weights_formats) and (
                not entry.output_ids or self.gives.id in entry.output_ids
            ):
                return entry.absolute_tolerance, entry.relative_tolerance, entry.mismatched_elements_per_million / 1e6
        return 1e-3, 1e-3, 1e-4


def _weights(package: _Package, kind: str, asked: Asked) -> Opened:
    entry = getattr(package.weights, kind)
    if entry is None:
        raise CannotExplain(f"{asked.path} has no weights {kind!r}; it has {', '.join(package.formats)}")
    file = inside(package.root, str(entry.source.path), what=str(asked.path))
    if kind == "onnx":
        for name in external_names(file):
            inside(package.root, name, what=str(file))
        return opened_graph(file)
    if kind == "torchscript":
        asked.consent.demand("has TorchScript weights, a program of their own", _freely(package))
        return scripted(package.content(entry), asked.path)
    return _state_dict(package, entry, file, asked)


def _state_dict(package: _Package, entry: Any, file: Path, asked: Asked) -> Opened:
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


def _callable(package: _Package, told: Any, text: str) -> Any:
    if getattr(told, "source", None) is None:
        return found(f"{told.import_from}:{text}")
    module = module_of(package.content(told), str(told.source.path))
    if not hasattr(module, text):
        raise CannotExplain(f"{package.path}: {told.source.path} has no {text}")
    return getattr(module, text)


def _freely(package: _Package) -> str:
    if "onnx" in package.formats:
        return "open its ONNX weights, which run no code, with settings={'weights': 'onnx'}"
    return "build the network in your own code and give factory= for its state dict"


def _tolerances(told: Mapping[str, Any]) -> list[Any]:
    config = (told.get("config") or {}).get("bioimageio") or {}
    return list(config.get("reproducibility_tolerance") or ())


class _Called(nn.Module):
    """A callable in the place of a network."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self._call(*inputs)
        return answer


def _axes(tensor: Any) -> Axes:
    letters = {"batch": "b", "channel": "c", "time": "t"}
    told = [letters.get(axis.type) or (str(axis.id) if axis.type == "space" else "c") for axis in tensor.axes]
    return Axes("".join(told))


def _channels(tensor: Any) -> tuple[str, ...]:
    named = [axis for axis in tensor.axes if axis.type == "channel"]
    return tuple(str(name) for name in named[0].channel_names) if named else ()


def _scaled(tensor: Any, scale: float) -> str:
    if scale == 1.0:
        return "it takes the values as they are; where files hold whole numbers, which are read as 0 to 1, say settings={'range': 255}"
    return f"images are read as 0 to 1 and multiplied by {scale:g}, the range of the package's {tensor.dtype} files"


def _refuse_outside(told: Any, root: Path, file: Path) -> None:
    """Refuse files that lie elsewhere: nothing is downloaded, and nothing outside the package is read."""
    for where, source in _sources(told):
        if "://" in source:
            raise CannotExplain(
                f"{file.name} takes {where} from {source}, and nothing is downloaded: export the complete package first"
            )
        inside(root, source, what=f"{file.name} ({where})")


def _sources(told: Any) -> Iterator[tuple[str, str]]:
    """Yield what is read of a description: weights, architecture, test tensors, custom steps; pictures and texts are not."""
    weights = told.get("weights") or {}
    for name in _FORMATS:
        entry = weights.get(name) or {}
        yield from _named(f"weights.{name}", entry)
        architecture = entry.get("architecture")
        if isinstance(architecture, Mapping):
            yield from _named(f"weights.{name}.architecture", architecture)
    for side in ("inputs", "outputs"):
        for tensor in told.get(side) or ():
            test = tensor.get("test_tensor")
            yield from _named(f"{side}.test_tensor", test if isinstance(test, Mapping) else {"source": test})
            for step in (*(tensor.get("preprocessing") or ()), *(tensor.get("postprocessing") or ())):
                yield from _named(f"{side}.{step.get('id') or step.get('name')}", step)
        yield from ((f"test_{side}", str(name)) for name in told.get(f"test_{side}") or ())


def _named(where: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source = entry.get("source")
    if source is not None:
        yield where, str(source)


@contextmanager
def _without_network(root: Path, name: str) -> Iterator[None]:
    context = fetched("bioimageio.spec", **_EXTRA).ValidationContext
    with context(root=root, file_name=name, perform_io_checks=False, log_warnings=False, progressbar=False):
        yield
