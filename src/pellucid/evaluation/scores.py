"""Scores: one row an image, method and metric, in one long table that parts on disk concatenate to."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.errors import BadStudy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SCHEMA", "Scores"]

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("chance", pa.float64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("resolution", pa.float64(), nullable=False),
        pa.field("definition", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("control", pa.bool_(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("tested", pa.bool_()),
    ],
    metadata={"pellucid.scores": "1"},
)
"""Columns of a score table; `step` is what was done to the map, `definition` the hash of metric and settings, `tested`
whether the metric passed its self-test (null: it took none)."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What the metrics say, image by image.

    Attributes
    ----------
    table
        Arrow table with the columns of `SCHEMA`: image, method, metric, value (null where there is a reason why not),
        chance (what an uninformed map would score, where there is such a level), and what they mean.
    forwards, backwards
        Rows that went through the model for these scores.
    """

    table: pa.Table
    forwards: int = 0
    backwards: int = 0

    def __post_init__(self) -> None:
        if "tested" not in self.table.column_names:  # scores from before metrics were tested
            nothing = pa.nulls(self.table.num_rows, pa.bool_())
            object.__setattr__(self, "table", self.table.append_column(SCHEMA.field("tested"), nothing))
        lacking = [name for name in SCHEMA.names if name not in self.table.column_names]
        if lacking:
            raise BadStudy(f"a score table needs the columns {', '.join(lacking)}; it has {self.table.column_names}")

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @classmethod
    def concat(cls, parts: Sequence["Scores"]) -> "Scores":
        """Join the scores of several parts, in the order given."""
        if not parts:
            return cls(SCHEMA.empty_table())
        table = pa.concat_tables([part.table.select(SCHEMA.names).cast(SCHEMA) for part in parts])
        return cls(table, sum(part.forwards for part in parts), sum(part.backwards for part in parts))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write one parquet file; it appears under its name only when it is whole."""
        whole = Path(path)
        begun = whole.with_name(f".{whole.name}.part")
        pq.write_table(self.table, begun)
        begun.replace(whole)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Scores":
        """Read one parquet file, or every ``part-*.parquet`` of a folder in the order of their names.

        Raises
        ------
        BadStudy
            When there is no such file, no part, or the file is no score table.
        """
        where = Path(path)
        files = sorted(where.glob("part-*.parquet")) if where.is_dir() else [where]
        if not files or not all(file.is_file() for file in files):
            raise BadStudy(f"{where} holds no scores: give a parquet file or a folder with part-*.parquet")
        return cls.concat([cls(_table(file)) for file in files])

    def plot(self, metrics: Sequence[str] | None = None) -> "Figure":
        """Draw every method's mean under every metric with its interval; see `pellucid.show.plot_scores`."""
        from pellucid.show import plot_scores  # noqa: PLC0415  # pictures know scores, not the reverse

        return plot_scores(self, metrics)

    def __repr__(self) -> str:
        columns = ("image", "method", "metric")
        counts = ", ".join(f"{len(self.table[name].unique())} {name}s" for name in columns)
        return f"Scores({len(self)} rows: {counts})"


def _table(file: Path) -> pa.Table:
    try:
        return pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise BadStudy(f"{file} is no score table: {error}") from None
