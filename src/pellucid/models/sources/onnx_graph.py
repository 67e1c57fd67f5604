"""ONNX graphs: they answer, through onnxruntime, and cannot be differentiated; opening one executes nothing."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError
from pellucid.models.content import inside
from pellucid.models.model import Known
from pellucid.models.sources.fixed import in_batches
from pellucid.models.sources.onnx_file import external_names, is_onnx
from pellucid.models.sources.source import Asked, ModelSource, Opened, fetched, first_line, own_settings

__all__ = ["Graph", "OnnxGraph", "opened_graph"]

_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class OnnxGraph(ModelSource):
    """An ``.onnx`` file, with the files beside it that hold its tensors."""

    name: ClassVar[str] = "onnx"
    title: ClassVar[str] = "ONNX graph"

    def recognises(self, path: Path) -> bool:
        """Look for a graph in the bytes of the file."""
        return is_onnx(path)

    def files(self, path: Path) -> list[Path]:
        """Return the file and those that it keeps its tensors in; none may lie outside its folder."""
        beside = [inside(path.parent, name, what=str(path)) for name in external_names(path)]
        for file in beside:
            if not file.is_file():
                raise CannotExplain(f"{path} keeps its tensors in {file.name}, which is not beside it")
        return [path, *(file for file in beside if file != path.resolve())]

    def open(self, asked: Asked) -> Opened:
        """Make a session of the graph."""
        chosen = own_settings(asked, "an ONNX graph", output=None, channels_last=False)
        return opened_graph(asked.path, output=chosen["output"], channels_last=chosen["channels_last"])


def opened_graph(path: Path, *, output: str | None = None, channels_last: bool = False) -> Opened:
    """Open a graph whose files were checked.

    Raises
    ------
    CannotExplain
        When the runtime cannot open it, or it has several outputs and none was chosen.
    """
    runtime = fetched("onnxruntime", "onnx", what="an ONNX graph")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what it would print, it also raises
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CannotExplain(f"{path} cannot be opened by onnxruntime: {first_line(error)}") from error
    graph = Graph(session, _output(session, output, path), channels_last=channels_last)
    return Opened(
        network=graph,
        shape=graph.shape,
        known=Known(gradients=False, layers=False, attention=False, spatial_rank=graph.rank, rows=graph.rows),
        settings={"output": graph.output, "channels_last": channels_last},
        notes=(f"the graph takes exactly {graph.rows} image{'s' * (graph.rows > 1)} at once",) if graph.rows else (),
    )


def _output(session: Any, asked: str | None, path: Path) -> str:
    names = [found.name for found in session.get_outputs() if found.type in _FLOATS]
    told = ", ".join(f"{found.name} {found.type} {tuple(found.shape)}" for found in session.get_outputs())
    if asked is not None and asked not in names:
        raise CannotExplain(f"settings={{'output': {asked!r}}}: {path} has the outputs {told}; choose one of numbers")
    if asked is None and len(names) != 1 and "logits" not in names:
        raise CannotExplain(f"{path} has the outputs {told}; choose one with settings={{'output': ...}}")
    return asked or ("logits" if "logits" in names else names[0])


class Graph:
    """A graph as a callable on tensors.

    Attributes
    ----------
    output
        Name of the output that is read.
    rows
        Images that it takes at once, or None where that is free.
    rank
        Spatial axes of its first input, or None where the graph does not say.
    shape
        ``(C, *S)`` of its first input, or None where a size is free.
    """

    def __init__(self, session: Any, output: str, *, channels_last: bool) -> None:
        self._session, self.output, self._channels_last = session, output, channels_last
        self._inputs = [(found.name, _FLOATS.get(found.type), found.type) for found in session.get_inputs()]
        for name, kind, told in self._inputs:
            if kind is None:
                raise CannotExplain(
                    f"the graph's input {name!r} takes {told}, and images are floating-point numbers; put a Cast before it"
                )
        sizes = tuple(session.get_inputs()[0].shape or ())
        self.rows = sizes[0] if sizes and isinstance(sizes[0], int) else None
        self.rank = len(sizes) - 2 if len(sizes) > 2 else None
        inner = (sizes[-1], *sizes[1:-1]) if channels_last and len(sizes) > 2 else sizes[1:]
        fixed = inner and all(isinstance(size, int) for size in inner)
        self.shape = tuple(map(int, inner)) if fixed else None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the output ``(N, K)`` or ``(N, K, *S)`` for images ``(N, C, *S)``.

        Raises
        ------
        ShapeError
            When the runtime refuses them.
        """
        if len(inputs) != len(self._inputs):
            names = ", ".join(name for name, _, _ in self._inputs)
            raise ShapeError(f"the graph takes the inputs {names} and was given {len(inputs)}; give a tuple of tensors")
        return self._run(*inputs) if self.rows is None else in_batches(self._run, inputs, self.rows)

    def _run(self, *inputs: Tensor) -> Tensor:
        fed = {
            name: np.ascontiguousarray(self._laid_out(tensor).detach().cpu().numpy(), dtype=kind)
            for (name, kind, _), tensor in zip(self._inputs, inputs, strict=True)
        }
        try:
            (answer,) = self._session.run([self.output], fed)
        except Exception as error:
            shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in inputs)
            raise ShapeError(f"the graph cannot take images of shape {shapes} (C, *S): {first_line(error)}") from error
        found = torch.from_numpy(np.asarray(answer, dtype=np.float32)).to(inputs[0].device)
        return found.movedim(-1, 1) if self._channels_last and found.ndim > 2 else found

    def _laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(1, -1) if self._channels_last and tensor.ndim > 2 else tensor
