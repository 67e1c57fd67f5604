"""The players of a game on latents: the raw latents, or axes named after phenotypes and one for all that is left."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.interpretation.phenotypes.atlas import HELD, Atlas

__all__ = ["REST", "Axes", "Basis"]

Axes = Literal["latents", "phenotypes"]

REST = "(the rest)"


@dataclass(frozen=True, eq=False)
class Basis:
    """Coordinates of points, each belonging to one player.

    Attributes
    ----------
    names
        Of the players.
    matrix
        ``(D, D)``: coordinates are points @ matrix.
    players
        ``(D,)`` the player that owns each coordinate.
    """

    names: tuple[str, ...]
    matrix: Tensor
    players: Tensor

    @classmethod
    def of(cls, atlas: Atlas, axes: Axes) -> "Basis":
        """Return the raw latents, or the phenotypes' mean ways made orthogonal with as little change as possible.

        The latter are Löwdin's symmetric orthogonalisation, so that no phenotype comes before another; what is orthogonal to
        all of them is one further player.
        """
        if axes == "latents":
            count = len(atlas.space.centre)
            names = tuple(f"latent {place}" for place in range(count))
            return cls(names, atlas.space.axes.T.clone(), torch.arange(count))
        points = atlas.directions.heads.points
        held = [place for place, r2 in enumerate(atlas.directions.heads.r2) if r2 >= HELD]
        ways = torch.stack([atlas.directions.unit(points, place).mean(0) for place in held], 1)
        left, _, right = torch.linalg.svd(ways / ways.norm(dim=0).clamp(min=1e-12), full_matrices=True)
        count = len(held)
        matrix = torch.cat([left[:, :count] @ right, left[:, count:]], 1)
        names = (*(atlas.names[place] for place in held), *((REST,) if count < len(matrix) else ()))
        return cls(names, matrix, torch.arange(len(matrix)).clamp(max=count))

    def coordinates(self, points: Tensor) -> Tensor:
        """Return the coordinates ``(N, D)`` of points."""
        return points @ self.matrix

    def points(self, coordinates: Tensor) -> Tensor:
        """Return the points of coordinates."""
        return torch.linalg.solve(self.matrix.T, coordinates.T).T
