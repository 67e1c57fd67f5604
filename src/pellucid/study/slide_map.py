"""The map of a slide on disk: an OME-Zarr image whose shards are each written whole, by one task."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pellucid.attribution import Method
from pellucid.errors import BadStudy
from pellucid.images.multiscale import create_pyramid
from pellucid.images.reader import Wanted
from pellucid.images.slide import Slide
from pellucid.images.tiles import TissueShares
from pellucid.images.tissue import TISSUE
from pellucid.models import Model
from pellucid.study.slide_grid import Corner, Grid

__all__ = ["STEPS", "SlideChoices", "SlideMap", "begin_map", "missing", "tissue_shares", "write_shard"]

Array = NDArray[np.float32]

STEPS = ('pool_channels(how="sum")', "upsample")
"""What is done to a raw map before it is written."""

_OUTPUTS, _TISSUE = "outputs", "tissue"


@dataclass(frozen=True)
class SlideMap:
    """The map of a slide on disk.

    Attributes
    ----------
    path
        An OME-Zarr image ``(1, Y, X)`` with coarser levels: signed relevance, channels added up; NaN where a tile was left out.
    """

    path: Path

    def read(self, level: int = 0) -> Array:
        """Return a level ``(Y, X)``; 0 is the finest."""
        return np.asarray(zarr.open_array(self.path / str(level), mode="r")[0], dtype=np.float32)

    def region(self, rows: slice, columns: slice) -> Array:
        """Return a part of the finest level."""
        return np.asarray(zarr.open_array(self.path / "0", mode="r")[0, rows, columns], dtype=np.float32)

    @property
    def levels(self) -> int:
        """How many levels there are."""
        told: Any = zarr.open_group(self.path, mode="r").attrs["ome"]
        return len(told["multiscales"][0]["datasets"])

    @property
    def about(self) -> dict[str, Any]:
        """Every choice that decided the numbers."""
        told: Any = zarr.open_group(self.path, mode="r").attrs["pellucid"]
        return dict(told)

    @property
    def grid(self) -> Grid:
        """How the slide was cut."""
        told = self.about
        return Grid((told["shape"][1], told["shape"][2]), told["tile"], told["halo"], told["shard"])

    @property
    def outputs(self) -> Array:
        """What the model said of the explained target in each tile ``(rows, columns)``; NaN where a tile was left out."""
        return np.asarray(zarr.open_array(self.path / _OUTPUTS, mode="r")[...], dtype=np.float32)

    @property
    def tissue(self) -> Array | None:
        """The share of each tile that is tissue ``(rows, columns)``; None where nothing was asked of it."""
        if not (self.path / _TISSUE).is_dir():
            return None
        return np.asarray(zarr.open_array(self.path / _TISSUE, mode="r")[...], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class SlideChoices:
    """Every choice that decides the numbers of a map: one that was begun with others is not gone on with."""

    method: str
    definition: str
    target: str
    um_per_px: float | None
    tile: int
    halo: int
    shard: int
    seed: int
    batch_size: int
    shape: tuple[int, int, int]
    model: str
    tissue: str = ""

    @classmethod
    def of(
        cls, method: Method, model: Model, slide: Slide, *, target: Any, tile: int, halo: int, shard: int, seed: int,
        batch_size: int, tissue: str,
    ) -> "SlideChoices":  # fmt: skip
        """Return the choices with what method, model and slide themselves bring."""
        return cls(
            method=str(method), definition=method.definition, target=str(target), um_per_px=slide.um_per_px, tile=tile, halo=halo,
            shard=shard, seed=seed, batch_size=batch_size, shape=slide.shape, model=(model.source.sha256 if model.source else None) or "",
            tissue=tissue,
        )  # fmt: skip

    @property
    def told(self) -> dict[str, Any]:
        """As it stands in the attributes of the map."""
        return asdict(self) | {"shape": list(self.shape), "values": "raw, signed", "steps": list(STEPS)}

    @property
    def grid(self) -> Grid:
        """How the slide is cut."""
        return Grid(self.shape[1:], self.tile, self.halo, self.shard)


def begin_map(where: Path, choices: SlideChoices, slide: Slide) -> None:
    """Make an empty map, or check that the one that is there was begun with the same choices.

    Raises
    ------
    BadStudy
        When the folder holds something else, or a map that was begun with other choices.
    """
    if where.exists() and any(where.iterdir()):
        _refuse_other(where, choices)
        return
    partial = where.with_name(f".{where.name}.partial")
    spacing = None if slide.um_per_px is None else (slide.um_per_px, slide.um_per_px)
    create_pyramid(
        partial, (1, *choices.shape[1:]), axes="CYX", dtype="float32", name=f"{slide.path.name}: {choices.method}", spacing=spacing,
        channels=(choices.method,), about=choices.told, chunk=choices.tile, shard=choices.shard, fill=float("nan"),
    )  # fmt: skip
    group, side = zarr.open_group(partial, mode="r+"), choices.grid.side
    group.create_array(
        _OUTPUTS, shape=choices.grid.tiles, chunks=(side, side), dtype="float32", fill_value=float("nan")
    )
    if choices.tissue:
        shares = tissue_shares(choices, slide)
        group.create_array(_TISSUE, shape=shares.shape, dtype="float32")[...] = shares
    partial.rename(where)


def _refuse_other(where: Path, choices: SlideChoices) -> None:
    begun = zarr.open_group(where, mode="r").attrs.get("pellucid") if (where / "zarr.json").is_file() else None
    if not isinstance(begun, dict):
        raise BadStudy(f"{where} holds something that is no map of a slide; choose another out=")
    for key, value in choices.told.items():
        if begun.get(key) != value:
            raise BadStudy(
                f"{where} was begun with {key} = {begun.get(key)!r} and is now asked for {value!r}; choose another out="
            )


def tissue_shares(choices: SlideChoices, slide: Slide) -> Array:
    """Return the share of each tile that is tissue."""
    grid = choices.grid
    found = TissueShares(slide.pyramid, TISSUE.parse(choices.tissue), slide.um_per_px, Wanted(), slide.path)
    shares = np.zeros(grid.tiles, np.float32)
    for place in np.ndindex(*grid.tiles):
        tile = grid.at(*place)
        size = (tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start)
        shares[place] = found(tile.rows.start, tile.columns.start, size)
    return shares


def missing(where: Path, grid: Grid) -> list[Corner]:
    """Return the shards that are not on disk: a shard is put in place whole, and last."""
    return [corner for corner in grid.corners() if not _shard_file(where, grid, corner).is_file()]


def _shard_file(where: Path, grid: Grid, corner: Corner) -> Path:
    return where / "0" / "c" / "0" / str(corner[0] // grid.shard) / str(corner[1] // grid.shard)


def write_shard(where: Path, grid: Grid, corner: Corner, block: Array, outputs: Array) -> None:
    """Write what one task found: outputs first, and the shard of the map last, whose file says that the task is done.

    Both lie in files that no other task writes.
    """
    table = zarr.open_array(where / _OUTPUTS, mode="r+")
    row, column = corner[0] // grid.tile, corner[1] // grid.tile
    height, width = outputs.shape
    table[row : row + height, column : column + width] = outputs
    end = grid.end(corner)
    zarr.open_array(where / "0", mode="r+", config={"write_empty_chunks": True})[
        0, corner[0] : end[0], corner[1] : end[1]
    ] = block
