"""What a bioimage.io package does to images before its network sees them, and to outputs afterwards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import CannotExplain, ShapeError
from pellucid.models.model import Normalise
from pellucid.models.sources.arranged import Axes
from pellucid.models.sources.source import fetched, first_line

__all__ = ["Processing", "linear", "postprocessed", "whole_number_range"]

_EXTRA = {"extra": "bioimageio", "what": "a bioimage.io package"}


def whole_number_range(tensor: Any) -> float:
    """Return what images between 0 and 1 are multiplied by to be what the package takes: 255 for 8-bit images, else 1."""
    kind = str(tensor.dtype)
    return float(np.iinfo(kind).max) if kind.startswith(("uint", "int")) else 1.0


class Processing:
    """The package's own preprocessing, image by image, by ``bioimageio.core``; a row never depends on another.

    Takes and returns images ``(N, C, *S)``; `gain` turns values between 0 and 1 into those of the package's files.
    """

    def __init__(self, tensor: Any, axes: Axes, gain: float) -> None:
        self._tensor, self._axes, self._gain = tensor, axes, gain
        self._steps = [_step(described, tensor) for described in _beyond_reading(tensor)]
        self._names = [axis.id for axis in tensor.axes]
        _refuse_data_set(self._steps)

    def __call__(self, x: Tensor) -> Tensor:
        """Return images in model space."""
        rows = [self._one(x[row : row + 1]) for row in range(len(x))]
        return torch.cat(rows).to(x.device, x.dtype)

    def _one(self, x: Tensor) -> Tensor:
        laid_out = (self._axes.there(x) * self._gain).cpu().float().numpy()  # not whole numbers: an edit may be finer
        try:
            done = _applied(self._steps, laid_out, self._names, self._tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise ShapeError(
                f"the package's preprocessing cannot take an image of shape {tuple(x.shape[1:])} (C, *S): {first_line(error)}"
            ) from error
        return self._axes.back(torch.from_numpy(done))

    def __repr__(self) -> str:
        return f"Processing({', '.join(described.id for described in self._tensor.preprocessing)})"


def _beyond_reading(tensor: Any) -> list[Any]:
    """Return the steps without a first one that says what the files hold: it would round images that were read as 0 to 1."""
    steps = list(tensor.preprocessing)
    said = steps and steps[0].id == "ensure_dtype" and steps[0].kwargs.dtype == tensor.dtype
    return steps[1:] if said else steps


def postprocessed(output: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an output, in the package's own axes, after the package's postprocessing."""
    steps = [_step(described, output) for described in output.postprocessing]
    _refuse_data_set(steps)
    return _applied(steps, values, [axis.id for axis in output.axes], output)


def _step(described: Any, tensor: Any) -> Any:
    return fetched("bioimageio.core.proc_ops", **_EXTRA).get_proc(described, tensor)


def _refuse_data_set(steps: Sequence[Any]) -> None:
    measures = [measure for step in steps for measure in step.required_measures]
    if any(measure.scope != "sample" for measure in measures):
        raise CannotExplain(
            "the package's processing needs statistics of a whole data set, which it does not bring; give preprocess="
        )


def _applied(
    steps: Sequence[Any], values: np.ndarray[Any, Any], names: Sequence[Any], tensor: Any
) -> np.ndarray[Any, Any]:
    core = fetched("bioimageio.core", **_EXTRA)
    member = fetched("bioimageio.core.digest_spec", **_EXTRA).get_member_id(tensor)
    sample = core.Sample(members={member: core.Tensor.from_numpy(values, dims=names)}, stat={}, id=None)
    needed = {measure for step in steps for measure in step.required_measures}
    if needed:
        sample.stat.update(
            fetched("bioimageio.core.stat_calculators", **_EXTRA).compute_sample_measures(needed, sample)
        )
    for step in steps:
        step(sample)
    done: np.ndarray[Any, Any] = np.ascontiguousarray(sample.members[member].data.to_numpy(), dtype=np.float32)
    return done


def linear(tensor: Any, channels: int, gain: float) -> Normalise | None:
    """Return the preprocessing as a shift and scale a channel, or None where it does more than that."""
    slope, offset = np.full(channels, gain), np.zeros(channels)
    for step in _beyond_reading(tensor):
        told = _shift_and_scale(step, channels)
        if told is None:
            return None
        slope, offset = slope * told[0], offset * told[0] + told[1]
    if not np.all(slope):
        return None
    return Normalise(tuple((-offset / slope).tolist()), tuple((1 / slope).tolist()))


def _shift_and_scale(step: Any, channels: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    told = step.kwargs
    if getattr(told, "axis", "channel") != "channel":
        return None
    if step.id == "ensure_dtype" and told.dtype in {"float32", "float64"}:
        return np.ones(channels), np.zeros(channels)
    if step.id == "scale_linear":
        return np.full(channels, told.gain), np.full(channels, told.offset)
    if step.id == "fixed_zero_mean_unit_variance":
        std = np.full(channels, told.std)
        return 1 / std, -np.full(channels, told.mean) / std
    return None
