"""A model and what it can do: any ``nn.Module`` or callable, its classes and its preprocessing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pellucid.errors import CannotExplain, ShapeError

__all__ = ["Capabilities", "Inputs", "Known", "Model", "Normalise", "Source", "Task", "as_inputs"]

Inputs = tuple[Tensor, ...]
"""What one batch is inside the engines: one tensor ``(N, C, *S)`` an input of the model."""

Task = Literal["classification", "regression", "segmentation"]


def as_inputs(x: Tensor | Sequence[Tensor]) -> Inputs:
    """Return `x` as a tuple of float tensors with the same number of rows.

    Raises
    ------
    ShapeError
        When an input is no tensor, has no row axis, holds NaN or infinity, or the numbers of rows differ.
    """
    inputs = (x,) if isinstance(x, Tensor) else tuple(x)
    for place, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor):
            raise ShapeError(
                f"input {place} is {type(tensor).__name__}; give a torch.Tensor (N, C, *S) or a tuple of them"
            )
        if tensor.ndim < 2:
            raise ShapeError(f"input {place} has shape {tuple(tensor.shape)}; images come as (N, C, *S)")
    if len({len(tensor) for tensor in inputs}) != 1:
        raise ShapeError(
            f"the inputs have {[len(tensor) for tensor in inputs]} rows; every input needs the same number"
        )
    floats = tuple(tensor if tensor.is_floating_point() else tensor.float() for tensor in inputs)
    for place, tensor in enumerate(floats):
        if not torch.isfinite(tensor).all():
            raise ShapeError(f"input {place} of shape {tuple(tensor.shape)} holds NaN or infinity")
    return floats


@dataclass(frozen=True)
class Normalise:
    """Per-channel preprocessing ``(x − mean) / std``, so that fills and plots stay in the image's own units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def _column(self, values: tuple[float, ...], x: Tensor) -> Tensor:
        if len(values) != x.shape[1]:
            raise ShapeError(
                f"Normalise has {len(values)} channels and the images {x.shape[1]} (shape {tuple(x.shape)})"
            )
        return x.new_tensor(values).view(1, -1, *[1] * (x.ndim - 2))

    def __call__(self, x: Tensor) -> Tensor:
        """Return images ``(N, C, *S)`` in model space."""
        return (x - self._column(self.mean, x)) / self._column(self.std, x)

    def inverse(self, z: Tensor) -> Tensor:
        """Return model-space values in the image's own units."""
        return z * self._column(self.std, z) + self._column(self.mean, z)


@dataclass(frozen=True)
class Source:
    """Where a model comes from, so that it can be built again.

    Attributes
    ----------
    factory
        ``"package.module:function"`` that builds the network, or None where it is not known.
    settings
        The factory's keyword arguments: plain values.
    shape
        ``(C, *S)`` of the images it was trained on, or None.
    sha256
        Content hash of the file or folder it was read from, or None.
    kind
        Name of the `ModelSource` that opened it, such as ``"onnx"``, or None.
    notes
        Sentences for the reader on how it was opened: whether its own test was reproduced, what was left to the user.
    """

    factory: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    sha256: str | None = None
    kind: str | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Known:
    """What is known of a network from where it comes, beyond what its modules show; None where it is not known.

    Attributes
    ----------
    gradients
        Whether derivatives reach the input.
    layers
        Whether named layers can be tapped.
    attention
        Whether attention can be seen in its forward.
    spatial_rank
        Number of spatial axes it takes.
    rows
        Most images that it takes at once: a program saved for a fixed batch.
    """

    gradients: bool | None = None
    layers: bool | None = None
    attention: bool | None = None
    spatial_rank: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a method may ask of a model.

    Attributes
    ----------
    gradients
        Whether derivatives reach the input; None where only a run can tell (a plain callable).
    layers
        Whether named layers can be tapped.
    attention
        Whether attention can be seen in its forward: True with an ``nn.MultiheadAttention``, False in TorchScript, else
        None, since only a run can tell.
    embedding
        Name of the layer that serves as embedding, or None.
    spatial_rank
        Number of spatial axes it takes, or None where it cannot be told.
    task
        What its output means, or None where it cannot be told.
    """

    gradients: bool | None
    layers: bool
    attention: bool | None
    embedding: str | None
    spatial_rank: int | None
    task: Task | None


_RANKS: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3),
    (nn.ConvTranspose1d, 1), (nn.ConvTranspose2d, 2), (nn.ConvTranspose3d, 3),
)  # fmt: skip


_UNKNOWN = Known()


def _told(known: bool | None, found: bool | None) -> bool | None:  # noqa: FBT001  # three-valued facts
    return found if known is None else known


def _attention(parts: Sequence[nn.Module]) -> bool | None:
    if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
        return False
    return True if any(isinstance(part, nn.MultiheadAttention) for part in parts) else None


class Model:
    """A trained model as the engines see it; the wrapped network is never changed.

    Parameters
    ----------
    network
        An ``nn.Module``, or any callable from a batch ``(N, C, *S)`` to outputs ``(N, K)`` or ``(N, K, *S)``.
    classes
        Class names in the order of the outputs.
    preprocess
        From the image's own units to what the network takes, such as `Normalise`; explanations live after it.
        For several inputs, one an input.
    task
        What the output means; needed where a default target would be a guess (regression with several outputs).
    embedding
        Name of the layer whose output is the embedding, for `Similarity` and `Latent` targets.
    device
        Where to run; default: where the network's parameters are.
    temperature
        Calibrated probabilities are ``softmax(logits / temperature)``; the logits themselves stay raw.
    source
        Where the model comes from.
    fitted
        What methods learnt about this model from data, by name, such as ``"patterns"``.
    known
        What is known of the network from where it comes, such as that no derivative reaches its input.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        *,
        classes: Sequence[str] = (),
        preprocess: Callable[[Tensor], Tensor] | Sequence[Callable[[Tensor], Tensor]] | None = None,
        task: Task | None = None,
        embedding: str | None = None,
        device: torch.device | str | None = None,
        temperature: float = 1.0,
        source: Source | None = None,
        fitted: Mapping[str, Any] | None = None,
        known: Known = _UNKNOWN,
    ) -> None:
        if not callable(network):
            raise ShapeError(f"Model() takes an nn.Module or a callable, not {type(network).__name__}")
        self.network = network
        self.classes = tuple(classes)
        self.preprocess = preprocess
        self.task: Task | None = task
        self.embedding = embedding
        self.temperature = temperature
        self.source = source
        self.fitted: Mapping[str, Any] = dict(fitted or {})
        self.known = known
        self.device = torch.device(device) if device is not None else self._found_device()
        if self.module is not None and device is not None:
            self.module.to(self.device)

    @classmethod
    def of(cls, model: "Model | Callable[..., Any]") -> "Model":
        """Return `model` as a `Model`; a bare module or callable is wrapped."""
        return model if isinstance(model, Model) else cls(model)

    @property
    def module(self) -> nn.Module | None:
        """The network if it is an ``nn.Module``, else None."""
        return self.network if isinstance(self.network, nn.Module) else None

    def _found_device(self) -> torch.device:
        if self.module is not None:
            for tensor in (*self.module.parameters(), *self.module.buffers()):
                return tensor.device
        return torch.device("cpu")

    @property
    def capabilities(self) -> Capabilities:
        """What methods may ask of this model."""
        module = self.module
        parts = list(module.modules()) if module is not None else []
        ranks = {rank for part in parts for kind, rank in _RANKS if isinstance(part, kind)}
        scripted = isinstance(module, torch.jit.ScriptModule)
        found = ranks.pop() if len(ranks) == 1 else None
        return Capabilities(
            gradients=_told(self.known.gradients, True if module is not None else None),
            layers=module is not None and not scripted and self.known.layers is not False,
            attention=_told(self.known.attention, _attention(parts)),
            embedding=self.embedding,
            spatial_rank=found if self.known.spatial_rank is None else self.known.spatial_rank,
            task=self.task,
        )

    def layer(self, name: str) -> nn.Module:
        """Return the layer of that dotted name.

        Raises
        ------
        CannotExplain
            When the model has no such layer; the sentence names those it has.
        """
        if self.module is None:
            raise CannotExplain(f"layer {name!r} was asked of a plain callable, which has no layers; wrap an nn.Module")
        layers = dict(self.module.named_modules())
        if name not in layers or not name:
            names = [known for known in layers if known]
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise CannotExplain(f"the model has no layer {name!r}; it has {shown}")
        found: nn.Module = layers[name]
        return found

    def prepare(self, x: Tensor | Sequence[Tensor]) -> Inputs:
        """Return `x` on the model's device and through its preprocessing: what the engines call model space."""
        inputs = tuple(tensor.to(self.device) for tensor in as_inputs(x))
        if self.preprocess is None:
            return inputs
        steps = (self.preprocess,) if callable(self.preprocess) else tuple(self.preprocess)
        if len(steps) != len(inputs):
            raise ShapeError(f"the model has {len(steps)} preprocessing steps and was given {len(inputs)} inputs")
        return tuple(step(tensor) for step, tensor in zip(steps, inputs, strict=True))

    def __repr__(self) -> str:
        kind = type(self.network).__name__
        return f"Model({kind}, classes={self.classes}, device={str(self.device)!r})"
