"""Descriptions in the older formats 0.3 and 0.4 of bioimage.io, put as format 0.5 puts them: the parts that are used, no other.

The description's own library converts whole descriptions only, and gives up where a part that nobody needs is faulty.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.errors import CannotExplain

__all__ = ["OLDER", "modernised"]

OLDER = ("0.3.", "0.4.")
"""How the version of a format that is converted begins."""

_IDS = {"b": "batch", "c": "channel", "i": "index", "t": "time", "z": "z", "y": "y", "x": "x"}
_Described = dict[str, Any]


def modernised(told: Mapping[str, Any]) -> _Described:
    """Return inputs, outputs, weights and settings of an older description in the words of format 0.5.

    Parameters
    ----------
    told
        The description as its file has it.

    Raises
    ------
    CannotExplain
        When it uses a step of processing that the older formats do not have.
    """
    shapes = {str(one["name"]): _least(one.get("shape")) for one in told["inputs"]}
    lettered = {str(one["name"]): str(one["axes"]) for one in told["inputs"]}
    return {
        "type": "model",
        "format_version": "0.5.0",
        "inputs": [
            _tensor(one, test, _input_sizes(one), "preprocessing", [_FLOAT])
            for one, test in _with_tests(told, "inputs")
        ],
        "outputs": [
            _tensor(one, test, _output_sizes(one, shapes, lettered), "postprocessing", [])
            for one, test in _with_tests(told, "outputs")
        ],
        "weights": _weights(told),
        "config": told.get("config") or {},
    }


_FLOAT = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}


def _with_tests(told: Mapping[str, Any], side: str) -> list[tuple[Mapping[str, Any], Any]]:
    tests = list(told.get(f"test_{side}") or ())
    tensors = list(told[side])
    return list(zip(tensors, tests + [None] * (len(tensors) - len(tests)), strict=True))


def _tensor(one: Mapping[str, Any], test: Any, sizes: Sequence[Any], side: str, more: list[_Described]) -> _Described:
    letters = str(one["axes"])
    axes = [_axis(letter, size) for letter, size in zip(letters, sizes, strict=True)]
    steps = [_step(step, letters, str(one["name"])) for step in one.get(side) or ()]
    found = {"id": str(one["name"]), "axes": axes, "data": {"type": one["data_type"]}, side: steps + more}
    return found if test is None else {**found, "test_tensor": {"source": str(test)}}


def _axis(letter: str, size: Any) -> _Described:
    if letter == "b":
        return {"type": "batch"}
    if letter == "c":
        return {"type": "channel", "channel_names": [f"channel{number}" for number in range(int(size))]}
    kind = {"i": "index", "t": "time"}.get(letter, "space")
    return {"type": kind, "size": size} if kind != "space" else {"type": kind, "id": letter, "size": size}


def _least(shape: Any) -> list[int]:
    """Return the smallest shape that an input may have."""
    return [int(length) for length in (shape["min"] if isinstance(shape, Mapping) else shape)]


def _input_sizes(one: Mapping[str, Any]) -> list[Any]:
    shape = one["shape"]
    steps = shape["step"] if isinstance(shape, Mapping) else [0] * len(shape)
    return [
        {"min": least, "step": int(step)} if step else least for least, step in zip(_least(shape), steps, strict=True)
    ]


def _output_sizes(one: Mapping[str, Any], shapes: Mapping[str, list[int]], lettered: Mapping[str, str]) -> list[Any]:
    """Return what format 0.5 says of an output's lengths: whole numbers, or that of an input's axis and so many more."""
    shape = one["shape"]
    if not isinstance(shape, Mapping):
        return [int(length) for length in shape]
    of = str(shape.get("reference_tensor") or shape["reference_input"])
    sizes: list[Any] = []
    for letter, scale, offset in zip(str(one["axes"]), shape["scale"], shape["offset"], strict=True):
        held = dict(zip(lettered[of], shapes[of], strict=True)).get(letter, 0)
        if letter == "c" or not scale:
            sizes.append(int((scale or 0) * held + 2 * offset))
        else:
            sizes.append({"tensor_id": of, "axis_id": _IDS[letter], "offset": int(2 * offset)})
    return sizes


def _step(step: Mapping[str, Any], letters: str, tensor: str) -> _Described:
    """Return one step of processing; ``axes`` were the axes that share one number, and are now those that do not."""
    name, told = str(step["name"]), dict(step.get("kwargs") or {})
    mode, shared, of = told.pop("mode", None), told.pop("axes", None), told.pop("reference_tensor", None)
    if of not in (None, tensor) and name == "scale_range":
        raise CannotExplain(f"its step scale_range measures another tensor, {of!r}; give preprocess=")
    ids = None if shared is None else [_IDS[letter] for letter in shared]
    if name == "scale_linear" or (name == "zero_mean_unit_variance" and mode in (None, "fixed")):
        renamed = "scale_linear" if name == "scale_linear" else "fixed_zero_mean_unit_variance"
        return {"id": renamed, "kwargs": _along(told, letters, shared, renamed)}
    if name in {"zero_mean_unit_variance", "scale_range"}:
        own = ["batch"] if mode == "per_dataset" else []
        return {"id": name, "kwargs": {**told, "axes": own + (ids or [])}}
    if name == "scale_mean_variance":
        return {"id": name, "kwargs": {**told, "axes": ids, "reference_tensor": of}}
    if name in {"binarize", "clip", "sigmoid"}:
        return {"id": name, "kwargs": told} if told else {"id": name}
    raise CannotExplain(f"its processing has a step {name!r}, which the older formats do not have")


def _along(told: _Described, letters: str, shared: str | None, name: str) -> _Described:
    """Give numbers that differ along one axis that axis, and one number to all."""
    several = any(isinstance(value, Sequence) and len(value) > 1 for value in told.values())
    if not several:
        return {key: value[0] if isinstance(value, Sequence) else value for key, value in told.items()}
    apart = [letter for letter in letters if letter not in f"b{shared or ''}"]
    if len(apart) != 1:
        raise CannotExplain(f"its step {name} has several numbers for axes {letters} and shares them along {shared!r}")
    count = max(len(value) for value in told.values() if isinstance(value, Sequence))
    spread = {key: value if isinstance(value, Sequence) else [value] * count for key, value in told.items()}
    return {"axis": _IDS[apart[0]], **spread}


def _weights(told: Mapping[str, Any]) -> _Described:
    weights = {name: dict(entry) for name, entry in (told.get("weights") or {}).items()}
    if "pytorch_script" in weights:
        weights["torchscript"] = weights.pop("pytorch_script")
    for name in ("pytorch_state_dict", "torchscript"):
        if name in weights:
            weights[name].setdefault("pytorch_version", "1.10")
    if "onnx" in weights:
        weights["onnx"].setdefault("opset_version", 15)
    if "pytorch_state_dict" in weights:
        entry = weights["pytorch_state_dict"]
        old = {
            "architecture": told.get("source"),
            "architecture_sha256": told.get("sha256"),
            "kwargs": told.get("kwargs"),
        }
        entry.update({key: value for key, value in old.items() if key not in entry and value is not None})
        entry["architecture"] = _architecture(entry)
    kept = ("source", "sha256", "architecture", "pytorch_version", "opset_version", "parent", "tensorflow_version")
    return {name: {key: value for key, value in entry.items() if key in kept} for name, entry in weights.items()}


def _architecture(entry: Mapping[str, Any]) -> _Described:
    """Return the class of the network: ``net.py:Net`` lies in the package, ``library.module.Net`` in a library."""
    text = str(entry.get("architecture") or "")
    where, _, name = text.rpartition(":")
    arguments = {"kwargs": dict(entry.get("kwargs") or {})}
    if where:
        digest = entry.get("architecture_sha256")
        return {"source": where, "callable": name, **({"sha256": digest} if digest else {}), **arguments}
    library, _, name = text.rpartition(".")
    if not library:
        raise CannotExplain("its description names no architecture for its state dict; give factory=")
    return {"import_from": library, "callable": name, **arguments}
