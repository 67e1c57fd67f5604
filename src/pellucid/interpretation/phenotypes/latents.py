"""What each latent goes with among the measured phenotypes, beyond confounders and over whole groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from numpy.typing import ArrayLike
from torch import Tensor

from pellucid.interpretation.associate import associate
from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.basis import Axes, Basis

__all__ = ["automatic_names", "latent_phenotypes"]

_CLEAR = 0.5
"""Rank correlation from which a latent is called by a phenotype."""

_RATE = 0.05


def latent_phenotypes(
    atlas: Atlas,
    images: Tensor,
    *,
    axes: Axes = "latents",
    confounders: Mapping[str, ArrayLike] | pa.Table | None = None,
    groups: Sequence[Any] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> pa.Table:
    """Correlate every latent with every phenotype by ranks: see `pellucid.interpretation.associate`.

    Parameters
    ----------
    atlas
        Phenotypes and latents.
    images
        ``(N, C, *S)``, best not those of the atlas.
    axes
        Raw ``"latents"``, or axes of the ``"phenotypes"``.
    confounders, groups, draws, seed
        As for `associate`.

    Returns
    -------
    pyarrow.Table
        That of `associate`: ``measure`` is the latent, ``outcome`` the phenotype.
    """
    basis, measured = Basis.of(atlas, axes), atlas.measured(images)
    placed = basis.coordinates(atlas.space.encode(images)).numpy()
    single = [name for place, name in enumerate(basis.names) if int((basis.players == place).sum()) == 1]
    latents = {name: placed[:, int((basis.players == basis.names.index(name)).nonzero()[0])] for name in single}
    outcomes = {name: measured[:, place] for place, name in enumerate(atlas.names)}
    return associate(latents, outcomes, confounders=confounders, groups=groups, draws=draws, seed=seed)


def automatic_names(table: pa.Table) -> dict[str, str]:
    """Return what latents are called where one phenotype goes with them clearly (|ρ| of 0.5 or more, q of 0.05 or less)."""
    best: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        strong = row["value"] is not None and abs(row["value"]) >= _CLEAR and row["q"] is not None and row["q"] <= _RATE
        if strong and abs(row["value"]) > abs(best.get(row["measure"], {"value": 0.0})["value"]):
            best[row["measure"]] = row
    return {name: f"{'more' if row['value'] > 0 else 'less'} {row['outcome']}" for name, row in best.items()}
