"""Open a trained model without executing anything that came with its file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import CannotExplain
from pellucid.models.content import content_hash
from pellucid.models.model import Model, Source, Task
from pellucid.models.sources import Asked, Consent, Factory, source_of, sources

__all__ = ["load_model", "weights_hash"]


def weights_hash(path: Path | str) -> str:
    """Return the sha256 of a model's content, file or folder: what a study records, and what trust is bound to."""
    path = Path(path)
    own = [source for source in sources() if source.recognises(path)]
    return content_hash(path, own[0].files(path) if own else None)


def load_model(
    weights: Path | str,
    *,
    factory: Factory | None = None,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    trust: bool | str = False,
    preprocess: Callable[[Tensor], Tensor] | Sequence[Callable[[Tensor], Tensor]] | None = None,
    task: Task | None = None,
    embedding: str | None = None,
    device: torch.device | str | None = None,
) -> Model:
    """Open a trained model; what could execute code is refused unless it is trusted, and nothing is downloaded.

    Parameters
    ----------
    weights
        A file or folder; what it is, is told by its content. Freely open: safetensors, state dicts of ``torch.save``,
        ONNX graphs and Hugging Face folders. With `trust` only: pickled models, TorchScript archives, exported programs
        (``.pt2``), MONAI bundles, and the code inside bioimage.io packages.
    factory
        ``"package.module:function"`` (or the function) that builds the untrained network. Naming one is naming code:
        its module is imported. Files of `save_model` need none where the network is this library's own.
    settings
        Keyword arguments of the factory; for sources without one, what the source itself takes (``docs/sources.md``).
    classes, preprocess, task, embedding, device
        Of the `Model`; what is not given is taken from the file or folder where it says so.
    trust
        Consent to execute what the file holds, or to call the factory that it names: True, or ``"sha256:..."`` of the
        content, which no other content satisfies.

    Returns
    -------
    Model
        In eval mode, with `Source.sha256` the hash of the content.

    Raises
    ------
    UntrustedModel
        When opening it could execute code; the sentence says how to convert it and how to trust it.
    CannotExplain
        When the file or the factory cannot be used, or the weights do not fit the network.
    """
    path = Path(weights)
    if not path.exists():
        raise CannotExplain(f"there is no weights file {path}; nothing is downloaded: fetch the model first")
    source = source_of(path)
    digest = content_hash(path, source.files(path))
    opened = source.open(Asked(path, Consent.of(trust, path, digest), factory, settings))
    return Model(
        opened.network,
        classes=tuple(classes) or opened.classes,
        preprocess=preprocess if preprocess is not None else opened.preprocess,
        task=task or opened.task,
        embedding=embedding or opened.embedding,
        device=device,
        temperature=opened.temperature,
        known=opened.known,
        source=Source(
            factory=opened.factory,
            settings=opened.settings,
            shape=opened.shape,
            sha256=digest,
            kind=source.name,
            notes=opened.notes,
        ),
    )
