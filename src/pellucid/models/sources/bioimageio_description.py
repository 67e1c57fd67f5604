"""What the description of a bioimage.io package says: its inputs, outputs, weights and test; read offline."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import CannotExplain, PellucidError
from pellucid.models.content import inside
from pellucid.models.sources.arranged import Axes
from pellucid.models.sources.bioimageio_older import OLDER, modernised
from pellucid.models.sources.source import fetched

__all__ = ["NAMES", "Package", "axes_of", "channels_of"]

_EXTRA = {"extra": "bioimageio", "what": "a bioimage.io package"}
NAMES = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""How the description is called."""

_FORMATS = ("pytorch_state_dict", "torchscript", "onnx")


@dataclass(frozen=True)
class Package:
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
    def read(cls, root: Path, path: Path) -> "Package":
        """Read the description of a package that lies unpacked in `root`; `path` is where the user has it.

        Raises
        ------
        CannotExplain
            When it cannot be read, or describes what cannot be opened.
        UntrustedModel
            When it names files outside the package.
        """
        file = next(root / name for name in NAMES if (root / name).is_file())
        yaml = fetched("ruyaml", **_EXTRA).YAML(typ="safe")
        spec = fetched("bioimageio.spec.model.v0_5", **_EXTRA)
        try:
            told = yaml.load(file.read_text(encoding="utf-8"))
            _refuse_outside(told, root, file)
            with _without_network(root, file.name):
                told = _current(told, path)
                _refuse_outside(told, root, file)
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
        """Inputs that must be given."""
        return [tensor for tensor in self.inputs if not tensor.optional]

    @property
    def takes(self) -> Any:
        """The input."""
        return self.required[0]

    @property
    def gives(self) -> Any:
        """The output that is read."""
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

    def tolerance(self, kind: str) -> tuple[float, float, float]:
        """Return what the output of some weights may miss: absolute, relative, and the part of values that may miss more."""
        for entry in self.tolerances:
            if (not entry.weights_formats or kind in entry.weights_formats) and (
                not entry.output_ids or self.gives.id in entry.output_ids
            ):
                return entry.absolute_tolerance, entry.relative_tolerance, entry.mismatched_elements_per_million / 1e6
        return 1e-3, 1e-3, 1e-4


def axes_of(tensor: Any) -> Axes:
    """Return the order of a tensor's axes."""
    letters = {"batch": "b", "channel": "c", "time": "t"}
    told = [letters.get(axis.type) or (str(axis.id) if axis.type == "space" else "c") for axis in tensor.axes]
    return Axes("".join(told))


def channels_of(tensor: Any) -> tuple[str, ...]:
    """Return the names of a tensor's channels."""
    named = [axis for axis in tensor.axes if axis.type == "channel"]
    return tuple(str(name) for name in named[0].channel_names) if named else ()


def _current(told: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a description in format 0.5."""
    written = str(told.get("format_version"))
    if written.startswith(OLDER):
        try:
            return modernised(told)
        except CannotExplain as error:
            raise CannotExplain(f"{path}: {error}") from error
    if not written.startswith("0.5."):
        raise CannotExplain(
            f"{path} is described in format {written}; 0.3, 0.4 and 0.5 are read: `bioimageio update-format` may convert it"
        )
    return told


def _tolerances(told: Mapping[str, Any]) -> list[Any]:
    config = (told.get("config") or {}).get("bioimageio") or {}
    return list(config.get("reproducibility_tolerance") or ())


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
