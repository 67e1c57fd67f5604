"""Which line of the user's model made a call."""

import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

__all__ = ["Line", "current_line", "described"]

Line = tuple[CodeType, int]
"""A line of code, kept as a reference: its words are made only for a refusal."""

_TORCH = str(Path(torch.__file__).parent)
_OURS = tuple(
    str(Path(__file__).parents[2] / part)
    for part in ("attribution", "models/tapping", "models/passes", "models/derivative")
)
_LAYERS = str(Path(_TORCH) / "nn" / "modules")
_theirs: dict[str, bool] = {}


def _is_theirs(path: str) -> bool:
    known = _theirs.get(path)
    if known is None:
        known = _theirs[path] = not path.startswith((_TORCH, *_OURS, "<frozen"))
    return known


def current_line() -> Line:
    """Return the innermost line that is neither torch's nor ours; a layer's, where such a layer is the model itself."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    layer: FrameType | None = None
    while frame is not None:
        path = frame.f_code.co_filename
        if _is_theirs(path):
            return frame.f_code, frame.f_lineno
        if layer is None and frame.f_code.co_name == "forward" and path.startswith(_LAYERS):
            layer = frame
        if path.startswith(_OURS[1]):
            break  # the model itself is called here: whatever lies further out is not its code
        frame = frame.f_back
    found = layer or sys._getframe(1)  # noqa: SLF001
    return found.f_code, found.f_lineno


def described(line: Line) -> str:
    """Return a line in words: ``net.py:41 in Attention.forward``."""
    code, number = line
    return f"{Path(code.co_filename).name}:{number} in {getattr(code, 'co_qualname', code.co_name)}"
