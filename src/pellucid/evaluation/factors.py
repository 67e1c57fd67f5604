"""The choices that a study made, each with the scores under every level of it: steps, settings, metrics."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pellucid.evaluation.metric import FAMILIES
from pellucid.evaluation.pipeline import CONSENSUS, FACTORS, Pipeline

__all__ = ["factors", "first_settings"]


def factors(
    table: pa.Table, rescored: pa.Table | None, pipeline: Pipeline | None
) -> Iterator[tuple[str, dict[str, pa.Table]]]:
    """Yield every factor with the score table of each of its levels, the reference first.

    Parameters
    ----------
    table
        The ordinary scores.
    rescored, pipeline
        Table of `rescore` and its choices; None where there was no pipeline.
    """
    if rescored is not None and pipeline is not None:
        yield from _steps(rescored, pipeline)
    plain = first_settings(table)
    for column in ("method", "metric"):
        for name, texts in _settings(table, column).items():
            if len(texts) > 1:
                others = plain.filter(pc.not_equal(_name(plain, column), name))
                yield (
                    f"setting of {name}",
                    {
                        text: pa.concat_tables([others, _named(_only(table, column, text, plain), column, name)])
                        for text in texts
                    },
                )
    counted = plain.filter(pc.is_in(plain["family"], pa.array([family for family, side in FAMILIES.items() if side])))
    metrics = list(dict.fromkeys(counted["metric"].to_pylist()))
    if len(metrics) > 1:
        yield "metric", {"all metrics": counted} | {metric: _rows(counted, metric=metric) for metric in metrics}


def _steps(rescored: pa.Table, pipeline: Pipeline) -> Iterator[tuple[str, dict[str, pa.Table]]]:
    for name in FACTORS:
        levels = getattr(pipeline, name)
        if len(levels) > 1:
            readings = {level: replace(pipeline.reference, **{name: level}) for level in levels}
            yield (
                name,
                {
                    level: _rows(rescored, aggregate="", **{one: getattr(reading, one) for one in FACTORS})
                    for level, reading in readings.items()
                },
            )
    first = {one: getattr(pipeline.reference, one) for one in FACTORS}
    single = _rows(rescored, aggregate="", **first)
    if len(pipeline.aggregate) > 1:
        yield (
            "aggregate",
            {
                level: pa.concat_tables([single, _rows(rescored, aggregate=level, **first)])
                for level in pipeline.aggregate
            },
        )
    if pipeline.aggregate:
        level = pipeline.aggregate[0]
        merged = pa.concat_tables([single, _rows(rescored, aggregate=level, **first)])
        yield CONSENSUS, {"single methods": single, f"with the mean of all after {level}": merged}


def _rows(table: pa.Table, **wanted: str) -> pa.Table:
    for name, value in wanted.items():
        table = table.filter(pc.equal(table[name], value))
    return table


def _name(table: pa.Table, column: str) -> pa.ChunkedArray:
    return pc.list_element(pc.split_pattern(table[column], "("), 0)


def _settings(table: pa.Table, column: str) -> dict[str, list[str]]:
    """Return every name with its texts, in the order of the table."""
    found: dict[str, list[str]] = {}
    for text in dict.fromkeys(table[column].to_pylist()):
        found.setdefault(text.split("(")[0], []).append(text)
    return found


def _named(table: pa.Table, column: str, name: str) -> pa.Table:
    place = table.column_names.index(column)
    return table.set_column(place, table.schema.field(column), pa.array([name] * table.num_rows, pa.string()))


def first_settings(table: pa.Table) -> pa.Table:
    """Return the scores of the first setting of every method and metric, under their bare names."""
    for column in ("method", "metric"):
        firsts = [texts[0] for texts in _settings(table, column).values()]
        table = table.filter(pc.is_in(table[column], pa.array(firsts, pa.string())))
        place = table.column_names.index(column)
        table = table.set_column(place, table.schema.field(column), _name(table, column))
    return table


def _only(table: pa.Table, column: str, text: str, plain: pa.Table) -> pa.Table:
    """Return the scores of one setting, of everything else the first, under bare names."""
    own = table.filter(pc.equal(table[column], text))
    other = "metric" if column == "method" else "method"
    firsts = [texts[0] for texts in _settings(table, other).values()]
    own = own.filter(pc.is_in(own[other], pa.array(firsts, pa.string())))
    place = own.column_names.index(other)
    return own.set_column(place, own.schema.field(other), _name(own, other)).cast(plain.schema)
