"""The report of a study: one offline file that asks nothing of the network, every text escaped."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from pellucid.attribution import METHODS
from pellucid.evaluation.ranking import EXACT
from pellucid.interpretation.checks import SIDE
from pellucid.show import changes, distribution, pipeline, rank_charts, repeated, settings, standing, words
from pellucid.show.chapters import Chapter, chapters
from pellucid.show.charts import ranking_chart
from pellucid.show.colour import DIVERGING, GREYS, shade
from pellucid.show.figure import sign_of
from pellucid.show.gallery import Album
from pellucid.show.sections import SECTIONS, Section
from pellucid.show.standing import Cell, HeatTable
from pellucid.show.svg import inline_svg
from pellucid.study import Study

__all__ = ["write_report"]

_ROWS = 200
"""Failures listed at most; the rest stands in ``failures.parquet``."""

_MODULES = ("colour", "viewer")


def write_report(study: Study, path: Path | None = None) -> Path:
    """Write the report of a study that ran to its end.

    Parameters
    ----------
    study
        The study.
    path
        The file; default ``report.html`` in the study's directory.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    BadStudy
        When the study has not run to its end.
    """
    where = study.path / "report.html" if path is None else path
    page = _environment().get_template("report.html.j2").render(_Content(study).fields())
    begun = where.with_name(f".{where.name}.part")
    begun.write_text(page, encoding="utf-8")
    begun.replace(where)
    return where


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pellucid.show"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["breakable"] = lambda text: (
        escape(text).replace("_", Markup("_<wbr>")).replace("(", Markup("(<wbr>"))
    )
    environment.filters["number"] = lambda value, digits=3: "–" if value is None else f"{value:.{digits}g}"
    environment.filters["fixed"] = lambda value: "–" if value is None else f"{value:.3f}"
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f} %"
    return environment


def _static(name: str) -> str:
    return (files("pellucid.show") / "static" / name).read_text(encoding="utf-8")


def _assets() -> dict[str, Any]:
    """Return style and script: modules travel as ``data:`` addresses of an import map, untouched."""
    modules = {
        f"pellucid/{name}": "data:text/javascript;base64," + base64.b64encode(_static(f"{name}.js").encode()).decode()
        for name in _MODULES
    }
    palettes = {"signed": DIVERGING, "unsigned": GREYS}
    return {
        "style": Markup(_static("report.css")),  # noqa: S704  # ours
        "import_map": Markup(json.dumps({"imports": modules})),  # noqa: S704  # ours
        "palettes": {
            name: [" ".join(f"{anchor[band] / 255:.4f}" for anchor in anchors) for band in range(3)]
            for name, anchors in palettes.items()
        },
    }


@dataclass(frozen=True)
class _Content:
    """Everything the template prints, section by section."""

    study: Study

    @cached_property
    def _chapters(self) -> Sequence[Chapter]:
        return chapters(self.study)

    @cached_property
    def _album(self) -> Album:
        return Album(self.study, tuple(image for chapter in self._chapters for image in chapter.ids))

    def fields(self) -> dict[str, Any]:
        """Return the template's variables."""
        return {
            **_assets(), **self._opening(), **self._performance(), **self._ranking(), **self._gallery(),
            **self._values(), **self._pipeline(), **self._tests(), **self._record(), "sections": self._sections(),
        }  # fmt: skip

    def _opening(self) -> dict[str, Any]:
        study = self.study
        model, methods = words.notices([*study.findings, *words.untested(study)])
        return {
            "title": study.path.resolve().name, "asked": words.asked(study), "notices": model, "method_notices": methods,
            "verdict": words.verdict(study.findings), "single_method": words.single_method(study), "selection": words.selection(study),
        }  # fmt: skip

    def _performance(self) -> dict[str, Any]:
        found = self.study.performance
        return {"performance": found, "confusion": _confusion(found) if found else None}

    def _ranking(self) -> dict[str, Any]:
        study, table = self.study, self.study.ranking.table
        charts = {side: _svg(ranking_chart(table, side), f"rank{place}") for place, side in enumerate(_SIDES)}
        tested = study.self_test
        return {
            "self_test": "" if tested is None else words.self_test_told(tested),
            "sides": [
                (side, told, charts[side], rows := standing.overall(table, side), standing.order_in_words(rows))
                for side, told in _SIDES.items()
            ],
            "per_metric": standing.per_metric(table, study.methods),
            "left_out": standing.left_out(study.ranking),
            **self._disputed(),
            "explained": len(study.ranked_images),
            "rests_on": words.rests_on(study),
            "means": standing.means(study.means, study.methods),
        }

    def _disputed(self) -> dict[str, Any]:
        """Return what the ranking rests on: what tells methods apart, which metrics repeat each other, what places depend on."""
        ranking = self.study.ranking
        ranked = {side.name for side in ranking.sides}
        tests = {side: ranking.friedman(side) for side in _SIDES if side in ranked}
        real = [name for name in ranking.order() if not METHODS.parse(name).taxonomy.is_control]
        return {
            "differences": [(side, found, _svg(rank_charts.critical_difference_chart(found), f"cd{place}"))
                            for place, (side, found) in enumerate(tests.items()) if found is not None],
            "redundancy": _svg(rank_charts.redundancy_chart(ranking, SIDE), "tau"),
            "weights": [row for row in ranking.metrics.to_pylist() if row["side"]],
            "pareto": _svg(rank_charts.pareto_chart(ranking), "front"),
            "variance": _svg(rank_charts.variance_chart(ranking.variance()), "variance") if SIDE in ranked else None,
            "kemeny": [name for name in ranking.kemeny() if name in real] if 0 < len(ranking.order()) <= EXACT else [],
            "borda": real,
        }  # fmt: skip

    def _gallery(self) -> dict[str, Any]:
        study, album = self.study, self._album
        signs: dict[str, list[str]] = {}
        for method in study.methods:
            signs.setdefault(sign_of(METHODS.parse(method)), []).append(method)
        return {
            "chapters": [(chapter, [album.case(image) for image in chapter.ids]) for chapter in self._chapters],
            "case_verdicts": words.case_verdicts(study), "signs": signs, "target": words.target_words(study.config.explain.target),
            "channels": study.images.record.channels,
            "pseudo_colour": len(study.images.record.spatial) > 1 and study.images.shape[0] not in {1, 3}, "masks": study.truth,
        }  # fmt: skip

    def _values(self) -> dict[str, Any]:
        album, method = self._album, self._shown_method
        cases = self._chapters[0].ids[:2]
        strips = [(album.case(image), distribution.pooled(album, method, image), distribution.normalised(album, method, image))
                  for image in cases if method and self._whole(method, image)]  # fmt: skip
        return {
            "histograms": _svg(distribution.histograms(album), "values"), "spreads": distribution.spreads(album),
            "steps_method": method, "strips": strips, "gallery_size": len(album.ids),
        }  # fmt: skip

    def _pipeline(self) -> dict[str, Any]:
        study, album, tables = self.study, self._album, self.study.tables
        nothing, case = pa.table({}), album.case(self._chapters[0].ids[0])
        effects, agreed = tables.get("choice_effects", nothing), tables.get("annotators", nothing)
        sides = [(side, pipeline.effect_table(effects, side)) for side in _SIDES]
        merged = pipeline.consensus(album, case.id)
        return {
            "effects": [(side, table) for side, table in sides if table is not None],
            "changed": _svg(pipeline.changed_chart(effects), "choices"),
            "setting_strips": [(case, *strip) for strip in pipeline.settings(album, case.id)],
            "consensus_strip": (case, merged) if merged else None,
            "agreed": pipeline.agreement_table(agreed), "ceiling": _svg(pipeline.ceiling_chart(study), "ceiling"),
            "augmentation": _svg(pipeline.augmentation_chart(tables.get("augmentation", nothing)), "augmented"),
            "leak": pipeline.leak_table(tables.get("leak", nothing)), "metric_rows": pipeline.metric_table(study),
        }  # fmt: skip

    @property
    def _shown_method(self) -> str:
        """Return the best method whose maps keep the image's channels, so that pooling them can be seen."""
        order = standing.ordered(self.study.ranking, self.study.methods)
        real = [name for name in order if not METHODS.parse(name).taxonomy.is_control and self._drawable(name)]
        several = [name for name in real if self._album.raw[name].shape[1] > 1]
        return next(iter((*several, *real)), "")

    def _drawable(self, method: str) -> bool:
        return not isinstance(self._album.shown[method], str)

    def _whole(self, method: str, image: str) -> bool:
        return bool(self._album.raw[method][self._album.ids.index(image)].isfinite().all())

    def _tests(self) -> dict[str, Any]:
        study, tables = self.study, self.study.tables
        swaps, edits = tables.get("background_swaps", pa.table({})), tables.get("changes", pa.table({}))
        stability = tables.get("stability", pa.table({}))
        return {
            "verdicts": standing.verdicts(
                study.ranked_scores.table,
                study.ranking.table,
                study.methods,
                partial(repeated.repeat_checks, stability),
            ),
            "stability": _svg(repeated.stability_chart(stability), "stability"),
            "nets": repeated.nets_told(study.nets),
            "swept": repeated.setting_table(tables.get("settings", pa.table({}))),
            "batch": _svg(repeated.batch_chart(tables.get("batch_colours", pa.table({}))), "batch"),
            "swaps": changes.swap_table(swaps),
            "swaps_told": changes.swap_interval(swaps) if swaps.num_rows else "",
            "changes": _svg(changes.changes_chart(edits), "changes"),
        }

    def _sections(self) -> list[tuple[Section, dict[str, Any]]]:
        contents = [(section, section.content(self.study)) for section in SECTIONS]
        return [(section, content) for section, content in contents if content is not None]

    def _record(self) -> dict[str, Any]:
        study, failures = self.study, self.study.failures
        return {
            "failures": failures.slice(0, _ROWS).to_pylist(), "failed": failures.num_rows,
            "settings": settings.setting_rows(study), "spent": settings.spent(study), "costs": settings.costs(study.costs),
            "citations": words.citations(study), "methods_paragraph": words.methods_paragraph(study),
        }  # fmt: skip


_SIDES = {
    "faithfulness-side": "Does the map show what the model uses? Faithfulness, robustness and randomisation metrics.",
    "plausibility": "Does the map lie where the expert marked? Localisation metrics; says nothing of what the model uses.",
}


def _svg(figure: Figure | None, name: str) -> Markup | None:
    return None if figure is None else inline_svg(figure, name)


def _confusion(found: Mapping[str, Any]) -> HeatTable:
    names, counts = found["classes"], found["confusion"]
    rows = tuple(
        (name, tuple(Cell(str(count), shade(count / max(sum(row), 1))) for count in row))
        for name, row in zip(names, counts, strict=True)
    )
    return HeatTable(tuple(names), rows)
