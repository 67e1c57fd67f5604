"""The pipeline in the report: the same image through other settings and consensus maps, and what each choice changed."""

from itertools import combinations
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from pellucid.attribution import METHODS
from pellucid.attribution.combine import combine
from pellucid.errors import CannotExplain
from pellucid.evaluation import CONTROLS, METRICS
from pellucid.intervals import mean_interval
from pellucid.show.charts import ACCENT, INK, MUTED, Dot, dot_chart, short
from pellucid.show.colour import full_colour
from pellucid.show.gallery import Album, Tile, plane_of, signed_picture
from pellucid.show.standing import Cell, HeatTable
from pellucid.show.svg import STYLE
from pellucid.show.view import strongest_view
from pellucid.study import Study

__all__ = [
    "agreement_table", "augmentation_chart", "ceiling_chart", "changed_chart", "consensus", "effect_table", "leak_table", "metric_table", "settings",
]  # fmt: skip

SIDE = "faithfulness-side"
_FACTORS = {
    "pool": "channel pooling", "sign": "sign", "normalise": "normalisation", "align": "alignment", "aggregate": "aggregation",
    "consensus": "consensus", "metric": "metric", "images": "images (chance)",
}  # fmt: skip


def settings(album: Album, image: str) -> list[tuple[str, list[Tile], str]]:
    """Return for every method that was used with several settings its maps of one image, and how alike they are."""
    found: dict[str, list[str]] = {}
    for method in album.study.methods:
        found.setdefault(METHODS.parse(method).name, []).append(method)
    return [
        (name, _tiles(album, texts, image), _alike(album, texts)) for name, texts in found.items() if len(texts) > 1
    ]


def _tiles(album: Album, methods: list[str], image: str) -> list[Tile]:
    row = album.ids.index(image)
    whole = [maps[row] for method in methods if not isinstance(maps := album.shown[method], str)]
    view = strongest_view([one for one in whole if np.isfinite(one).all()], album.study.images.record.spatial)
    return [album.tile(method, image, view) for method in methods]


def _alike(album: Album, methods: list[str]) -> str:
    """Say the rank correlation of every two settings' maps, mean over the album's images."""
    told = []
    for one, two in combinations(methods, 2):
        first, second = album.shown[one], album.shown[two]
        if isinstance(first, str) or isinstance(second, str):
            continue
        pairs = [
            (a.ravel(), b.ravel())
            for a, b in zip(first, second, strict=True)
            if np.isfinite(a).all() and np.isfinite(b).all()
        ]
        values = [float(spearmanr(a, b).statistic) for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
        if values:
            told.append(f"{short(one)} and {short(two)} {mean_interval(values)}")
    return "; ".join(told)


def consensus(album: Album, image: str) -> list[Tile]:
    """Return the mean of all methods' maps of one image after every alignment or normalisation of the study."""
    asked = album.study.config.pipeline
    if asked is None:
        return []
    return [_merged(album, image, level) for level in asked.choices.aggregate]


def _merged(album: Album, image: str, level: str) -> Tile:
    asked = album.study.config.pipeline
    reading = asked.choices.aligned(level) if asked is not None else None
    shape = album.images.shape[2:]
    real = [method for method in album.raw if method not in CONTROLS]
    sound = np.all([album.raw[method].flatten(1).isfinite().all(1).numpy() for method in real], axis=0)
    row = album.ids.index(image)
    if reading is None or not sound[row]:
        return Tile(level, level, sentence="no consensus: a method failed on this image")
    place, kept = int(sound[:row].sum()), np.flatnonzero(sound)
    maps = {method: album.raw[method][kept] for method in real}
    try:
        merged = combine([reading.read(one, shape, reading.scale(one, shape)) for one in maps.values()], ["aggregate"])
    except CannotExplain as error:
        return Tile(level, level, sentence=str(error))
    values = merged.values[place, 0].double().numpy()
    values = values - np.median(values) if level in {"rank", "quantile", "zscore"} else values
    scale = full_colour(values)
    src = signed_picture(
        plane_of(values, strongest_view([values], album.study.images.record.spatial)), scale, album.edge
    )
    centred = ", its median as zero" if level in {"rank", "quantile", "zscore"} else ""
    return Tile(f"consensus ({level})", level, src, scale, steps=f"mean of {len(real)} methods after {level}{centred}")


def _named(factor: str) -> str:
    return _FACTORS.get(factor, factor)


def effect_table(effects: pa.Table, side: str) -> HeatTable | None:
    """Return what every level changed on one side, in the order of the choices; None where nothing was compared."""
    rows = [row for row in effects.to_pylist() if row["side"] == side]
    if not rows:
        return None
    columns = ("instead of", "best method", "another best method on", "Kendall's τ", "moves most",
               "share of variance")  # fmt: skip
    return HeatTable(
        columns, tuple((f"{_named(row['factor'])}: {short(row['level'], 60)}", _effect(row)) for row in rows)
    )


def _effect(row: dict[str, Any]) -> tuple[Cell, ...]:
    moved = "–" if row["rank"] == row["rank_reference"] else (
        f"{short(row['moved'], 34)}, {row['rank_reference']:.0f} → {row['rank']:.0f}")  # fmt: skip
    unit = "draws" if row["factor"] == "images" else "images"
    return (
        Cell(short(row["reference"], 34)), Cell(_best(row)),
        Cell(f"{row['changed']}/{row['n']} {unit}"), Cell("–" if row["tau"] is None else f"{row['tau']:.2f}"), Cell(moved),
        Cell("–" if row["share"] is None else f"{100 * row['share']:.1f} %"),
    )  # fmt: skip


def _best(row: dict[str, Any]) -> str:
    first, other = (short(row[name], 34) for name in ("winner_reference", "winner"))
    return first if first == other else f"{other} instead of {first}"


def changed_chart(effects: pa.Table, side: str = SIDE) -> Figure | None:
    """Draw for every level on how many images another method is best; dashed: two halves of the images, which is chance."""
    rows = [row for row in effects.to_pylist() if row["side"] == side and row["n"]]
    chance = [row["changed"] / row["n"] for row in rows if row["factor"] == "images"]
    dots = [
        Dot(f"{_named(row['factor'])}: {short(row['level'], 46)}", row["changed"] / row["n"], row["low"], row["high"],
            MUTED if not row["changed"] else ACCENT if row["winner"] != row["winner_reference"] else INK)
        for row in rows if row["factor"] != "images"
    ]  # fmt: skip
    if not dots:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 0.8 + 0.25 * len(dots)))
        axes = figure.subplots()
        dot_chart(axes, dots, label="share of images on which another method is best, 95 % interval",
                  reference=chance[0] if chance else None)  # fmt: skip
        axes.set_xlim(-0.03, 1.03)
    return figure


def augmentation_chart(curves: pa.Table) -> Figure | None:
    """Draw how maps (colours) and the model's answer (black) keep up with each natural change; None without curves."""
    rows = curves.to_pylist()
    if not rows:
        return None
    names, methods = (list(dict.fromkeys(row[name] for row in rows)) for name in ("transform", "method"))
    colours = dict(zip([name for name in methods if name], mpl.color_sequences["tab20"], strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.3 * -(-len(names) // 3) + 0.25 * len(methods)), layout="constrained")
        grid = figure.subplots(-(-len(names) // 3), 3, squeeze=False, sharey=True).ravel()
        for axes, name in zip(grid, names, strict=False):
            for method in methods:
                own = [
                    (row["strength"], row["value"])
                    for row in rows
                    if (row["transform"], row["method"]) == (name, method)
                ]
                line = sorted([*own, (0.0, 1.0)])
                axes.plot(*zip(*line, strict=True), color=colours.get(method, INK), linewidth=1.1 if method else 2.6,
                          label=short(method, 40) or "the model's answer")  # fmt: skip
            axes.set_title(name)
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        figure.legend(
            *grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=7.5
        )
    return figure


def metric_table(study: Study) -> list[dict[str, Any]]:
    """Return the metrics used with what each measures, in the form of the grain study's second table."""
    told = [(metric, METRICS.parse(metric).profile) for metric in study.metrics]
    return [
        {"metric": metric, "family": profile.family, "direction": profile.direction, "measures": profile.measures,
         "needs": ", ".join(profile.needs) or "–", "failure": profile.failure, "reference": profile.reference}
        for metric, profile in told
    ]  # fmt: skip


def agreement_table(agreed: pa.Table) -> HeatTable | None:
    """Return the mean Dice, kappa and distance of rims of every two annotators; None without them."""
    pairs = (
        list(dict.fromkeys(zip(agreed["first"].to_pylist(), agreed["second"].to_pylist(), strict=True)))
        if agreed.num_rows
        else []
    )
    if not pairs:
        return None
    return HeatTable(("Dice", "Cohen's kappa", "distance of rims (pixels)"), tuple(
        (f"{one} and {two}", tuple(_mean(agreed, one, two, name) for name in ("dice", "kappa", "surface"))) for one, two in pairs
    ))  # fmt: skip


def _mean(agreed: pa.Table, one: str, two: str, name: str) -> Cell:
    own = agreed.filter(pc.and_(pc.equal(agreed["first"], one), pc.equal(agreed["second"], two)))
    values = [value for value in own[name].to_pylist() if value is not None]
    return Cell(str(mean_interval(values)) if values else "–")


def ceiling_chart(study: Study) -> Figure | None:
    """Draw every method's mean localisation scores beside what one annotator scores against the others; None without them."""
    ceilings = {row["metric"]: row["value"] for row in study.tables.get("ceilings", pa.table({})).to_pylist()}
    if not ceilings:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, (0.9 + 0.24 * len(study.methods)) * len(ceilings)), layout="constrained")
        for axes, (metric, ceiling) in zip(
            np.atleast_1d(figure.subplots(len(ceilings), 1)), ceilings.items(), strict=True
        ):
            dot_chart(axes, _scored(study, metric), label="mean, 95 % interval; dashed: one annotator against the others",
                      reference=ceiling)  # fmt: skip
            axes.set_title(metric)
    return figure


def _scored(study: Study, metric: str) -> list[Dot]:
    table = study.ranked_scores.table
    dots = []
    for method in study.methods:
        kept = pc.and_(pc.equal(table["metric"], metric), pc.equal(table["method"], method))
        own = table.filter(pc.and_(kept, pc.is_valid(table["value"])))
        if own.num_rows:
            found = mean_interval(own["value"].to_numpy(), groups=own["group"].to_pylist())
            low, high = (found.low, found.high) if found.groups > 1 else (None, None)
            control = method in CONTROLS
            dots.append(Dot(short(method, 30), found.value, low, high, MUTED if control else INK, control))
    return sorted(dots, key=lambda dot: -dot.value)


def leak_table(table: pa.Table) -> HeatTable | None:
    """Return what every hole tells of the class, and what the model loses under it; None where it was not measured."""
    if not table.num_rows:
        return None
    columns = ("the class from the outline alone (balanced accuracy)", "chance", "drop of log-odds", "calls that stay")
    return HeatTable(columns, tuple((f"{row['hole']}, {row['fill']}", _leak(row)) for row in table.to_pylist()))


def _leak(row: dict[str, Any]) -> tuple[Cell, ...]:
    def told(name: str) -> str:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return f"{row[name]:.2f}" if low is None else f"{row[name]:.2f} [{low:.2f}, {high:.2f}]"

    return Cell(told("outline")), Cell(f"{row['chance']:.2f}"), Cell(told("drop")), Cell(f"{row['kept']}/{row['n']}")
