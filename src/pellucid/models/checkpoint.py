"""A training run on disk: written whole after every epoch, so that a killed run ends as if it had never stopped."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pellucid.errors import BadStudy

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values, then rename into place: the file is always a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state of a run with these settings, or None where there is none yet.

    Raises
    ------
    BadStudy
        When the file is no checkpoint, or belongs to a run with other settings; the sentence names the first.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BadStudy(f"{path} is no checkpoint that can be resumed; remove it to train anew") from error
    if not isinstance(state, dict) or "settings" not in state:
        raise BadStudy(f"{path} is no checkpoint of this library; give another file")
    for name, value in settings.items():
        before = state["settings"].get(name)
        if before != value:
            told = "other images" if name == "images" else f"{name}={before!r} and now {name}={value!r} is asked for"
            raise BadStudy(f"{path} was trained with {told}; remove it to train anew, or give another file")
    return state
