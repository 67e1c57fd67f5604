"""Networks whose axes come in another order than images do."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.errors import CannotExplain, ShapeError

__all__ = ["Arranged", "Axes"]

_OWN = "bctzyx"


@dataclass(frozen=True)
class Axes:
    """The order of a network's axes, by letters: b rows, c channels, t time, then z, y, x.

    Attributes
    ----------
    letters
        As the network takes or gives them, such as ``"byxc"``.
    """

    letters: str

    def __post_init__(self) -> None:
        if len(set(self.letters)) != len(self.letters) or not set(self.letters) <= set(_OWN) or "b" not in self.letters:
            raise CannotExplain(
                f"axes {self.letters!r} cannot be told: they need b, and may have c, t, z, y and x, each once"
            )

    @property
    def own(self) -> str:
        """The same axes as images come: rows, channels, time, space."""
        return "".join(letter for letter in _OWN if letter in self.letters)

    @property
    def spatial(self) -> str:
        """Axes besides rows and channels, as images come."""
        return self.own.replace("b", "").replace("c", "")

    @property
    def plain(self) -> bool:
        """Whether images can be given as they come."""
        return self.letters == self.own and "c" in self.letters

    def there(self, x: Tensor) -> Tensor:
        """Return images ``(N, C, *S)`` as the network takes them."""
        if x.ndim != 2 + len(self.spatial):
            raise ShapeError(
                f"the network takes images (N, C, {', '.join(self.spatial.upper())}), not of shape {tuple(x.shape)}"
            )
        if "c" not in self.letters:
            if x.shape[1] != 1:
                raise ShapeError(
                    f"the network takes images of one channel, not of {x.shape[1]} (shape {tuple(x.shape)})"
                )
            x = x[:, 0]
        return x.permute([self.own.index(letter) for letter in self.letters])

    def back(self, y: Tensor) -> Tensor:
        """Return what the network gives as ``(N, K, *S)``."""
        if y.ndim != len(self.letters):
            raise ShapeError(f"the network gives shape {tuple(y.shape)}, and the axes {self.letters!r} were announced")
        y = y.permute([self.letters.index(letter) for letter in self.own])
        return y if "c" in self.letters else y[:, None]


class Arranged(nn.Module):
    """A network called with images as they come; its first output is read, or the one at `place`."""

    def __init__(self, network: nn.Module, *, takes: Axes, gives: Axes, place: int = 0) -> None:
        super().__init__()
        self.network, self.takes, self.gives, self.place = network, takes, gives, place

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs ``(N, K)`` or ``(N, K, *S)``."""
        answer = self.network(self.takes.there(x))
        if isinstance(answer, tuple | list):
            answer = answer[self.place]
        return self.gives.back(torch.as_tensor(answer))
