"""Which source a path belongs to: told by content, built-in sources first, then those of installed packages."""

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from pellucid.errors import CannotExplain
from pellucid.models.sources.bioimageio import BioimageioPackage
from pellucid.models.sources.estimators import Compressed, Skops
from pellucid.models.sources.hugging_face import HuggingFace
from pellucid.models.sources.monai_bundle import MonaiBundle
from pellucid.models.sources.onnx_graph import OnnxGraph
from pellucid.models.sources.programs import ExportedProgram, TorchScript
from pellucid.models.sources.source import ModelSource
from pellucid.models.sources.state import Safetensors, TorchFile
from pellucid.models.weights import CONVERT

__all__ = ["BUILT_IN", "source_of", "sources"]

GROUP = "pellucid.model_sources"
"""Entry points of other packages: each names a `ModelSource`."""

BUILT_IN: tuple[ModelSource, ...] = (
    Safetensors(), TorchFile(), TorchScript(), ExportedProgram(), Compressed(), Skops(), OnnxGraph(), BioimageioPackage(), MonaiBundle(), HuggingFace(),
)  # fmt: skip


@cache
def sources() -> tuple[ModelSource, ...]:
    """Return every source, in the order in which they are asked.

    Raises
    ------
    CannotExplain
        When an entry point names something else.
    """
    found = list(BUILT_IN)
    for entry in entry_points(group=GROUP):
        named = entry.load()
        source = named() if isinstance(named, type) else named
        if not isinstance(source, ModelSource):
            raise CannotExplain(
                f"the entry point {entry.value!r} of {GROUP} is {type(source).__name__}, no ModelSource"
            )
        found.append(source)
    return tuple(found)


def source_of(path: Path) -> ModelSource:
    """Return the source that a file or folder belongs to.

    Raises
    ------
    CannotExplain
        When it is of no known kind.
    """
    for source in sources():
        if source.recognises(path):
            return source
    what = "folder of a model" if path.is_dir() else "weights file"
    raise CannotExplain(
        f"{path} is no {what} that can be read; save it as safetensors (pellucid.models.save_model) or by {CONVERT}"
    )
