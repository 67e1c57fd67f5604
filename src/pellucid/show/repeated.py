"""What stayed when something was repeated: other nets, other settings, another batch's colour."""

import matplotlib as mpl
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from pellucid.evaluation.stability import REPEATED
from pellucid.interpretation.checks import Check
from pellucid.interpretation.stability import ALIKE
from pellucid.intervals import Interval
from pellucid.show.charts import ACCENT, INK, MUTED, Dot, dot_chart, short
from pellucid.show.colour import shade
from pellucid.show.standing import Cell, HeatTable
from pellucid.show.svg import STYLE

__all__ = [
    "batch_chart",
    "nets_told",
    "repeat_checks",
    "repeat_numbers",
    "setting_numbers",
    "setting_table",
    "stability_chart",
]

_LABEL = "rank correlation of maps, 95 % interval (1: the same map, 0: unrelated)"


def stability_chart(stability: pa.Table) -> Figure | None:
    """Draw how alike the maps of other nets are, by method, and those of a net of shuffled labels; None without nets."""
    rows = [row for row in stability.to_pylist() if row["value"] is not None]
    told = {"correlation": ("", INK), "shuffled": (", shuffled labels", MUTED)}
    dots = [
        Dot(short(row["method"], 34) + told[row["measure"]][0], row["value"], row["low"], row["high"],
            told[row["measure"]][1], hollow=row["measure"] == "shuffled")
        for row in rows if row["measure"] in told
    ]  # fmt: skip
    return _chart(dots, _LABEL, ALIKE) if dots else None


def batch_chart(colours: pa.Table) -> Figure | None:
    """Draw how far the colour of another batch moves the model, by region; None where no batch was tested."""
    dots = [
        Dot(f"{row['region']} (colour gives the batch: {row['accuracy']:.2f})", row["pull"], row["low"], row["high"],
            ACCENT if (row["low"] or 0) > 0 else INK)
        for row in colours.to_pylist() if row["pull"] is not None
    ]  # fmt: skip
    return _chart(dots, "probability moved to the classes of the other batch, 95 % interval", 0.0) if dots else None


def _chart(dots: list[Dot], label: str, reference: float) -> Figure:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 0.8 + 0.27 * len(dots)))
        dot_chart(figure.subplots(), dots, label=label, reference=reference)
    return figure


def nets_told(nets: pa.Table) -> str:
    """Say which nets were trained again and how accurate each is beside the explained one."""
    return "; ".join(
        f"{row['model']}: accuracy {row['accuracy']:.3f}, {row['difference']:+.3f} "
        + ("(shuffled labels)" if row["shuffled"] else "as accurate" if row["equal"] else "not as accurate, left out")
        for row in nets.to_pylist()
    )


def setting_table(settings: pa.Table) -> HeatTable | None:
    """Return every two settings of one method with what their maps have in common; None where none has several."""
    if not settings.num_rows:
        return None
    rows = tuple(
        (f"{short(row['first'])} and {short(row['second'])}",
         (Cell(f"{row['correlation']:.2f}", shade(max(row["correlation"], 0.0))), _share(row["overlap"])))
        for row in settings.to_pylist()
    )  # fmt: skip
    return HeatTable(("rank correlation", "top tenth in common"), rows)


def _share(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{100 * value:.0f} %", shade(value))


def repeat_numbers(repeats: pa.Table, nets: pa.Table) -> dict[tuple[str, str], str]:
    """Return by image and method what stands beside a map: its mean rank correlation with those of other nets."""
    if not repeats.num_rows:
        return {}
    equal = [row["model"] for row in nets.to_pylist() if row["equal"] and not row["shuffled"]]
    kept = pc.and_(pc.equal(repeats["metric"], REPEATED[1]), pc.is_in(repeats["model"], pa.array(equal, pa.string())))
    means = repeats.filter(pc.and_(kept, pc.is_valid(repeats["value"]))).group_by(["image", "method"])
    return {
        (
            row["image"],
            row["method"],
        ): f"other nets' maps: rank corr. {1 - row['value_mean']:.2f} ({row['value_count']} nets)"
        for row in means.aggregate([("value", "mean"), ("value", "count")]).to_pylist()
    }


def setting_numbers(settings: pa.Table) -> dict[str, str]:
    """Return by method what stands beside its maps: the mean rank correlation with those of its other settings."""
    found: dict[str, list[float]] = {}
    for row in settings.to_pylist():
        for side in ("first", "second"):
            found.setdefault(row[side], []).append(row["correlation"])
    return {
        method: f"other settings' maps: rank corr. {sum(values) / len(values):.2f} over all images"
        for method, values in found.items()
    }


def repeat_checks(stability: pa.Table, method: str) -> list[Check]:
    """Return what nets that learnt the task again say of a method, in plain words."""
    rows = {row["measure"]: row for row in stability.to_pylist() if row["method"] == method and row["low"] is not None}
    checks: list[Check] = []
    if "shuffled" in rows:
        found = _interval(rows["shuffled"])
        same = f"It draws much the same map for a net of shuffled labels (rank correlation {found})."
        other = f"Its map is another for a net of shuffled labels (rank correlation {found}), as it must be."
        failed = found.low > ALIKE
        checks.append(Check("shuffled labels", "failed" if failed else "passed", same if failed else other, found))
    if "correlation" in rows:
        found, nets = _interval(rows["correlation"]), rows["correlation"]["nets"]
        told = f"rank correlation {found} with {nets} equally accurate nets"
        stays = f"Its map stays much the same when the net is trained again ({told})."
        changes = f"Its map changes with the net's seed ({told}): what it shows may hold for this net only."
        passed = found.low > ALIKE
        checks.append(Check("retraining", "passed" if passed else "unclear", stays if passed else changes, found))
    return checks


def _interval(row: dict[str, float]) -> Interval:
    return Interval(row["value"], row["low"], row["high"], int(row["images"]), 2)
