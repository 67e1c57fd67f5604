"""What edited images showed: the pull of foreign backgrounds, and whole-object edits against the maps' places."""

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from pellucid.intervals import mean_interval
from pellucid.show.charts import ACCENT, INK, Dot, dot_chart, short
from pellucid.show.colour import shade
from pellucid.show.standing import Cell, HeatTable
from pellucid.show.svg import STYLE

__all__ = ["changes_chart", "swap_table"]


def swap_table(swaps: pa.Table) -> HeatTable | None:
    """Return the mean pull by the object's class (rows) and the background's class (columns); None without swaps."""
    if not swaps.num_rows:
        return None
    rows = swaps.to_pylist()
    pulls: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        pulls.setdefault((row["class"], row["donor_class"]), []).append(row["pull"])
    donors = sorted({donor for _, donor in pulls})
    classes = sorted({own for own, _ in pulls})
    return HeatTable(
        tuple(f"on background of {donor}" for donor in donors),
        tuple((own, tuple(_pull(pulls.get((own, donor), [])) for donor in donors)) for own in classes),
    )


def _pull(values: list[float]) -> Cell:
    if not values:
        return Cell("–")
    mean = float(np.mean(values))
    return Cell(f"{100 * mean:.0f} % (n = {len(values)})", shade(mean))


def swap_interval(swaps: pa.Table) -> str:
    """Return the mean pull over all swaps with its interval, and from how many."""
    found = mean_interval(swaps["pull"].to_numpy(), groups=swaps["group"].to_pylist())
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}] of {found.n} swaps in {found.groups} groups"


def changes_chart(changes: pa.Table) -> Figure | None:
    """Draw how far each edit of the whole object, and each map's places, moved the model; None without tests."""
    if not changes.num_rows:
        return None
    rows = sorted(changes.to_pylist(), key=lambda row: (row["kind"], -row["effect"]))
    dots = [
        Dot(
            short(row["change"]) if row["kind"] == "edit" else f"places of {short(row['change'], 34)}",
            row["effect"], row["low"], row["high"], ACCENT if row["kind"] == "edit" else INK,
        )
        for row in rows
    ]  # fmt: skip
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 0.8 + 0.27 * len(dots)))
        dot_chart(
            figure.subplots(), dots, label="change of the log-odds beyond the null's, 95 % interval", reference=0.0
        )
    return figure
