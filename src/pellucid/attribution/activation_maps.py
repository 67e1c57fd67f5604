"""Activation maps: what the channels of a layer light up on, and which of them the output hangs on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution.cam_layer import checked_maps, chosen_layer
from pellucid.attribution.cam_layout import layout_of
from pellucid.attribution.method import Call, row_seeds
from pellucid.attribution.scaling import resized
from pellucid.errors import CannotExplain, ShapeError
from pellucid.models import Model, Passes, Target, take_rows
from pellucid.models.targets import Latent, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ActivationMaps", "activation_maps"]

By = Literal["ablation", "slope", "activation"]


@dataclass(frozen=True, eq=False)
class ActivationMaps:
    """The leading channels of a layer for each image.

    Attributes
    ----------
    at
        The layer.
    by
        What the channels are ranked by.
    target
        The output they are related to.
    channels
        ``(N, k)`` numbers of the leading channels, the first first.
    maps
        ``(N, k, *S)`` their activations, linearly brought to the image's size; raw in value.
    association
        ``(N, k)`` what each adds to the target's value: the fall when the channel is set to zero, or, by slope, to first
        order; None by activation.
    favours
        ``(N, k)`` number of the output that falls most without the channel; None unless by ablation of a model that gives
        ``(N, K)``.
    classes
        Names of the outputs, where the model has them.
    warnings
        Sentences for the reader.
    """

    at: str
    by: By
    target: Target
    channels: Tensor
    maps: Tensor
    association: Tensor | None
    favours: Tensor | None
    classes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def table(self) -> pa.Table:
        """A row an image and channel: ``image, rank, channel, activation`` (mean), ``association, favours``."""
        return pa.Table.from_pylist(list(self._rows()))

    def _rows(self) -> Iterator[dict[str, Any]]:
        for row in range(len(self)):
            for rank in range(self.channels.shape[1]):
                yield {
                    "image": row, "rank": rank + 1, "channel": int(self.channels[row, rank]),
                    "activation": float(self.maps[row, rank].mean()),
                    "association": None if self.association is None else float(self.association[row, rank]),
                    "favours": self._favoured(row, rank),
                }  # fmt: skip

    def _favoured(self, row: int, rank: int) -> str | None:
        if self.favours is None:
            return None
        index = int(self.favours[row, rank])
        return self.classes[index] if self.classes else str(index)

    def plot(self, row: int = 0) -> "Figure":
        """Draw one image's leading channels, each with its number and what it adds to the output.

        Raises
        ------
        ShapeError
            When the maps are no pictures of two axes.
        """
        from matplotlib.figure import Figure  # noqa: PLC0415  # drawing is for who asks for it

        if self.maps.ndim != 4:
            raise ShapeError(
                f"maps of shape {tuple(self.maps.shape[2:])} are no pictures; draw slices of .maps yourself"
            )
        count = self.maps.shape[1]
        across = min(count, 5)
        figure = Figure(figsize=(2.2 * across, 2.5 * -(-count // across)), layout="constrained")
        for rank, axes in enumerate(figure.subplots(-(-count // across), across, squeeze=False).flat):
            axes.set_axis_off()
            if rank < count:
                axes.imshow(self.maps[row, rank].numpy(), cmap="cividis")
                axes.set_title(self._titled(row, rank), fontsize=8)
        figure.suptitle(f"{self.at}: channels by {self.by}, image {row}, {self._explained(row)}", fontsize=9)
        return figure

    def _explained(self, row: int) -> Target:
        index = None if isinstance(self.target, Latent) else self.target.settings.get("index")
        return self.target.replace(index=index[row]) if isinstance(index, tuple) else self.target

    def _titled(self, row: int, rank: int) -> str:
        title = f"channel {int(self.channels[row, rank])}"
        if self.association is not None:
            title += f"\nadds {float(self.association[row, rank]):.3g}"
        favoured = self._favoured(row, rank)
        return title if favoured is None else f"{title}, for {favoured}"


def _maps(call: Call, layer: str) -> Tensor:
    activations = checked_maps(call.passes.outputs(call.inputs, layer), layer)
    layout = layout_of(call, layer, tuple(activations.shape[1:]), None)
    if layout.kind != "channels first":
        raise CannotExplain(
            f"layer {layer!r} gives {layout.kind} {tuple(activations.shape)}; activation_maps shows feature maps (N, C, *S): "
            "choose another layer with at="
        )
    return activations


def activation_maps(
    model: Model | Callable[..., Any],
    x: Tensor,
    at: str | None = None,
    k: int = 10,
    *,
    by: By = "ablation",
    target: Any = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> ActivationMaps:
    """Show what the leading channels of a layer respond to in each image, and what they do to the output.

    Parameters
    ----------
    model, x, target, batch_size, progress
        As for `explain`; one input.
    at
        Name of the layer; None takes the last one with a feature map, and says which.
    k
        Channels an image.
    by
        ``"ablation"``: the fall of the output when the channel is set to zero, the largest first (a forward a channel);
        ``"slope"``: activation × gradient, its first-order estimate (one backward); ``"activation"``: the mean activation
        alone, which says nothing of the output.

    Returns
    -------
    ActivationMaps
        Channels, maps at the image's size, their association with the target and a table; ``plot()`` draws them.

    Raises
    ------
    CannotExplain
        When the layer gives no feature map with the image's axes.
    ShapeError
        When `k` is below one, or there are several inputs.

    References
    ----------
    Van Molle et al. 2018, Visualizing convolutional neural networks to improve decision support for skin lesion
    classification, MLCN workshop at MICCAI.
    """
    model = Model.of(model)
    inputs = tuple(tensor.detach() for tensor in model.prepare(x))
    if k < 1 or len(inputs) > 1:
        raise ShapeError(f"activation_maps shows k ≥ 1 channels for one input, not k={k} for {len(inputs)} inputs")
    with Passes(model, batch_size=batch_size, progress=progress) as passes:
        outputs = passes.outputs(inputs)
        chosen = resolve(target, model, outputs)
        read = chosen.freeze(model, outputs)
        call = Call(passes, inputs, read, passes.scores(inputs, read), row_seeds(0, None, len(inputs[0])))
        layer, warnings = chosen_layer(call, at)
        activations = _maps(call, layer)
        association, falls = _associated(call, outputs, layer, activations, by)
    ranked = activations.flatten(2).mean(2) if association is None else association
    first = ranked.argsort(dim=1, descending=True, stable=True)[:, :k]
    leading = torch.stack([maps[row] for maps, row in zip(activations, first, strict=True)])
    return ActivationMaps(
        at=layer,
        by=by,
        target=chosen,
        channels=first.cpu(),
        maps=resized(leading, tuple(inputs[0].shape[2:])).cpu(),
        association=None if association is None else association.gather(1, first).cpu(),
        favours=None if falls is None else falls.argmax(2).gather(1, first).cpu(),
        classes=model.classes,
        warnings=warnings,
    )


def _associated(
    call: Call, outputs: Tensor, at: str, activations: Tensor, by: By
) -> tuple[Tensor | None, Tensor | None]:
    """Return what each channel adds to the target ``(N, C)``, and the fall of every output ``(N, C, K)``, where asked for."""
    if by == "activation":
        return None, None
    if by == "slope":
        _, (slopes,) = call.gradient(at)
        return (activations * slopes).flatten(2).sum(2), None
    scores, answers = zip(*_ablated(call, at, activations), strict=True)
    shape = activations.shape[:2]
    falls = outputs[:, None] - torch.cat(answers).view(*shape, -1) if outputs.ndim == 2 else None
    return call.output[:, None] - torch.cat(scores).view(shape), falls


def _ablated(call: Call, at: str, activations: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the target's values and the outputs without each channel of each row, row after row, a batch at a time."""
    passes, (count, width) = call.passes, activations.shape[:2]
    passes.expect(count * width, "ablating channels")
    start = 0
    while start < count * width:
        members = torch.arange(start, min(count * width, start + passes.batch_size(call.inputs)))
        rows, channels = members // width, members % width
        placed = activations[rows].clone()
        placed[torch.arange(len(members)), channels] = 0
        given = take_rows(call.inputs, rows)
        outputs = passes.outputs(given, placed={at: placed})
        if call.read.layer is None:
            yield call.read(outputs, rows.to(outputs.device)), outputs
        else:
            yield passes.scores(given, call.read, rows, placed={at: placed}), outputs
        start += len(members)
