"""Everything that was resolved, as rows of text: choices, versions, seeds, time, memory and passes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pellucid.study import Study

__all__ = ["Cost", "costs", "setting_rows", "spent"]

Cost = dict[str, Any]

_LONG = ("plan.shards", "plan.definitions", "runs")
"""Lists that would fill pages and stand in the study's own files."""


_PLACES = ("path", "weights")
"""Where files lie is nobody else's business: a report is passed on."""


def setting_rows(study: Study) -> list[tuple[str, str]]:
    """Return every resolved setting as a dotted key and its text."""
    return [(key, _told(value)) for key, value in _flat(study.settings, "")]


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in _LONG:
            yield name, f"{len(value)} entries, in the study's directory"
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif key in _PLACES:
            yield name, f"{Path(str(value)).name} (where it lies stands in study.toml)"
        elif name == "peak_memory":
            yield name, memory(value)
        elif name == "seconds":
            yield name, f"{value:.1f} s over all runs"
        else:
            yield name, value


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def memory(size: float) -> str:
    """Return a number of bytes for people."""
    return f"{size / 2**20:.0f} MiB"


def spent(study: Study) -> str:
    """Return what the whole study took, in one sentence."""
    found = study.settings
    rows = study.costs
    passes = sum(rows["forwards"].to_pylist()), sum(rows["backwards"].to_pylist())
    return (f"{found['seconds']:.0f} s of wall time in {_counted(len(found['runs']), 'run')}, at most {memory(found['peak_memory'])} of "
            f"memory; {passes[0]:,} images went forwards and {passes[1]:,} backwards through the model.")  # fmt: skip


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def costs(table: pa.Table) -> list[Cost]:
    """Return time and passes by stage and method."""
    if not table.num_rows:
        return []
    sums = table.group_by(["stage", "method"], use_threads=False).aggregate(
        [("seconds", "sum"), ("forwards", "sum"), ("backwards", "sum")]
    )
    rows: list[Cost] = sums.to_pylist()
    return rows
