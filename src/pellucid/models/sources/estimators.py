"""Pickled models: networks, and pipelines of scikit-learn, which answer but cannot be differentiated."""

import io
import pickle
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.errors import CannotExplain, ShapeError
from pellucid.models.content import file_kind, zip_names
from pellucid.models.model import Known
from pellucid.models.sources.source import Asked, ModelSource, Opened, fetched, first_line, own_settings

__all__ = ["Compressed", "Estimator", "Skops", "unpickled"]

_SMALLEST = 1e-6
"""Probability below which a class's logit goes no lower: a forest's vote of none has no logarithm."""

_COMPRESSED = (b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda", b"BZh", b"\xfd7zXZ", b'\x04"M\x18')
"""How gzip, zlib, bzip2, xz and lz4 begin: what ``joblib.dump(compress=...)`` writes."""

_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of ``torch.save`` began before they were archives."""

_KNOWN = Known(gradients=False, layers=False, attention=False)


class Estimator:
    """A classifier or regressor on rows of numbers, called on images.

    A classifier answers with its decision function where it has one, else with the logarithms of its probabilities,
    which a softmax turns back into them.
    """

    def __init__(self, estimator: Any, *, channels_last: bool) -> None:
        self._estimator = estimator
        self._channels_last = channels_last
        self._answer = self._chosen()

    def _chosen(self) -> Callable[[Any], Any]:
        for name in ("decision_function", "predict_proba", "predict"):
            if hasattr(self._estimator, name):
                answer: Callable[[Any], Any] = getattr(self._estimator, name)
                return _logarithms(answer) if name == "predict_proba" else answer
        raise CannotExplain(f"{type(self._estimator).__name__} is neither a network nor a scikit-learn estimator")

    def __call__(self, x: Tensor) -> Tensor:
        """Return outputs ``(N, K)`` for images ``(N, C, *S)``, whose values are laid out in one row an image."""
        features = getattr(self._estimator, "n_features_in_", None)
        if features is not None and features != prod(x.shape[1:]):
            raise ShapeError(
                f"the pipeline was fitted on {features} numbers an image and the images {tuple(x.shape[1:])} (C, *S) have "
                f"{prod(x.shape[1:])}"
            )
        rows = (x.movedim(1, -1) if self._channels_last else x).flatten(1).cpu().double().numpy()
        answers = np.asarray(self._answer(rows), dtype=np.float32)
        return torch.from_numpy(answers.reshape(len(x), -1)).to(x.device)


def _logarithms(probabilities: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def answer(rows: Any) -> Any:
        logs = np.log(np.clip(probabilities(rows), _SMALLEST, None))
        return logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs

    return answer


def unpickled(asked: Asked) -> Opened:
    """Open what was pickled: executes what it holds, hence only after consent.

    Raises
    ------
    CannotExplain
        When it cannot be opened, or is neither a network nor an estimator.
    """
    content = asked.path.read_bytes()
    try:
        held = _held(content, torch_file=content[:2] == b"PK" or content.startswith(_TORCH))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        AttributeError,
        ImportError,
        ValueError,
        TypeError,
    ) as error:
        raise CannotExplain(f"{asked.path} cannot be opened: {first_line(error)}") from error
    if isinstance(held, nn.Module):
        own_settings(asked, "a pickled network")
        return Opened(network=held.eval())
    return estimator(asked, held)


def _held(content: bytes, *, torch_file: bool) -> Any:
    if torch_file:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    return fetched("joblib", "all", what="a pickled pipeline").load(io.BytesIO(content))


def estimator(asked: Asked, held: Any) -> Opened:
    """Return an estimator as a model."""
    if not any(hasattr(held, name) for name in ("decision_function", "predict_proba", "predict")):
        raise CannotExplain(
            f"{asked.path} holds {type(held).__name__}, neither a network nor a scikit-learn estimator; a state dict needs "
            "factory="
        )
    settings = own_settings(asked, "a scikit-learn pipeline", channels_last=False)
    return Opened(
        network=Estimator(held, channels_last=settings["channels_last"]),
        classes=tuple(str(name) for name in getattr(held, "classes_", ())),
        task="classification" if hasattr(held, "classes_") else "regression",
        known=_KNOWN,
        settings=settings,
    )


class Compressed(ModelSource):
    """A file of ``joblib.dump(compress=...)``."""

    name: ClassVar[str] = "joblib"
    title: ClassVar[str] = "compressed joblib file of a scikit-learn pipeline"
    consent: ClassVar[str] = "pickled objects run code of their choice"

    def recognises(self, path: Path) -> bool:
        """Look for the first bytes of a compressed file."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(6).startswith(_COMPRESSED)

    def open(self, asked: Asked) -> Opened:
        """Unpickle it, with consent."""
        asked.consent.demand("holds pickled Python objects", "save the pipeline with skops.io.dump")
        return unpickled(asked)


class Skops(ModelSource):
    """A file of ``skops.io.dump``: types of scikit-learn open freely, others with consent."""

    name: ClassVar[str] = "skops"
    title: ClassVar[str] = "skops file of a scikit-learn pipeline"
    consent: ClassVar[str] = "types outside scikit-learn run their own code"

    def recognises(self, path: Path) -> bool:
        """Look for the schema inside the archive."""
        return file_kind(path) == "zip" and "schema.json" in zip_names(path)

    def open(self, asked: Asked) -> Opened:
        """Ask for consent where a type is not one of scikit-learn's, and read it."""
        io_ = fetched("skops.io", "all", what="a .skops file")
        content = asked.path.read_bytes()
        foreign = io_.get_untrusted_types(data=content)
        if foreign:
            asked.consent.demand(
                f"holds objects of {', '.join(foreign[:5])}", "save a pipeline of scikit-learn's own parts"
            )
        return estimator(asked, io_.loads(content, trusted=foreign))
