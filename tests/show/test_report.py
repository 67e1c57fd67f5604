"""The report: complete, honest, escaped, offline and small."""

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pellucid.evaluation import SelfTest, rank
from pellucid.show import chapters, gallery, write_report
from pellucid.show.words import methods_paragraph, notices, untested
from pellucid.study import Study


class Page(HTMLParser):
    """Every tag, attribute and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="session")
def page(report: Path) -> Page:
    return Page(report.read_text())


def test_every_link_is_data_or_a_place_on_the_page(page: Page) -> None:
    links = [
        value for name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset", "action", "data"}
    ]
    assert len(links) > 50
    assert all(value.startswith(("data:", "#")) for value in links)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for value in links if value.startswith("#")} <= anchors


def test_the_page_names_no_address_at_all(report: Path) -> None:
    assert not re.search(r"https?://|//cdn|@import", report.read_text())
    places = re.findall(r"url\(['\"]?([^'\")]{5})", report.read_text())
    assert places
    assert all(place == "data:" or place.startswith("#") for place in places)


def test_the_sections_stand_in_their_order(page: Page) -> None:
    wanted = [
        "findings",
        "performance",
        "ranking",
        "gallery",
        "values",
        "sanity",
        "tests",
        "failures",
        "settings",
        "citations",
    ]
    found = [value for name, value in page.attributes if name == "id" and value in wanted]
    assert found == wanted


def test_the_report_prints_the_numbers_of_the_study(study: Study, page: Page) -> None:
    assert study.performance["summary"] in page.text
    for row in study.ranking.table.to_pylist():
        if row["metric"] == "overall" and not row["control"]:
            assert f"{row['rank']:.3g}" in page.text
    for finding in study.findings:
        assert finding["statement"] in page.text
        assert finding["evidence"] in page.text


def test_every_case_shows_a_map_of_every_method_with_its_number_and_scale(study: Study, page: Page) -> None:
    cases = sum(1 for tag in page.tags if tag == "article")
    assert cases == sum(len(chapter.ids) for chapter in chapters.chapters(study))
    tiles = sum(1 for name, value in page.attributes if (name, value) == ("class", "tile"))
    strips = 2 * (5 + 4)
    assert tiles == cases * len(study.methods) + strips
    assert page.text.count("mass in mask") == cases * len(study.methods)
    assert page.text.count("full colour ±") == tiles


def test_the_number_beside_a_map_is_the_studys_score(study: Study) -> None:
    image = study.chosen[0]
    tile = gallery.Album(study, (image,)).case(image).tiles[1]
    score = next(row for row in study.scores.table.to_pylist()
                 if (row["image"], row["method"], row["metric"]) == (image, tile.method, "relevance_mass"))  # fmt: skip
    every = [row["value"] for row in study.scores.table.to_pylist()
             if (row["method"], row["metric"]) == (tile.method, "relevance_mass")]  # fmt: skip
    mean = np.mean([value for value in every if value is not None])
    assert tile.number == f"mass in mask {score['value']:.3f} (chance {score['chance']:.3f}, all images {mean:.3f})"


def test_a_tile_states_the_99th_percentile_of_the_channel_sum(study: Study) -> None:
    image = study.chosen[2]
    for tile in gallery.Album(study, (image,)).case(image).tiles:
        summed = study.maps(tile.method, [image])[0].double().sum(0).abs().numpy()
        assert tile.scale == pytest.approx(np.percentile(summed, 99), rel=1e-5)


def test_chapters_show_every_image_once_and_wrong_calls_first(study: Study) -> None:
    made = chapters.chapters(study)
    shown = [image for chapter in made for image in chapter.ids]
    assert len(shown) == len(set(shown))
    assert set(shown) <= set(study.chosen)
    rows = {row["image"]: row for row in study.predictions.to_pylist()}
    wrong = made[3]
    assert wrong.title == "Wrong"
    assert all(rows[image]["label"] != rows[image]["predicted"] for image in wrong.ids)
    sure, unsure = ([rows[image]["confidence"] for image in made[place].ids] for place in (1, 2))
    assert sure == sorted(sure, reverse=True)
    assert unsure == sorted(unsure)
    assert all(str(len(chapter.ids)) in chapter.rule for chapter in made)


def test_captions_say_rule_target_normalisation_and_size(study: Study, page: Page) -> None:
    assert "the class that the model calls" in page.text
    assert "99th percentile" in page.text
    assert "magnitudes without sign" in page.text
    for chapter in chapters.chapters(study):
        assert f"Selection: {chapter.rule}" in page.text
    assert f"{len(study.chosen)} explained images" in page.text


def test_the_paragraph_names_every_method_metric_and_version(study: Study, page: Page) -> None:
    paragraph = methods_paragraph(study)
    assert paragraph in page.text
    for name in (*study.methods, *study.metrics, "seed 0", "torch"):
        assert name in paragraph


def test_every_method_and_metric_is_cited(study: Study, page: Page) -> None:
    from pellucid.attribution import METHODS
    from pellucid.evaluation import METRICS

    for method in study.methods:
        assert METHODS.parse(method).taxonomy.reference in page.text
    for metric in study.metrics:
        assert METRICS.parse(metric).profile.reference in page.text


def test_several_methods_carry_no_banner(page: Page) -> None:
    assert "rests on one method only" not in page.text


def test_a_single_method_carries_a_banner(tmp_path: Path, finish: Callable[[Path, str], Study]) -> None:
    written = Page(write_report(finish(tmp_path, '"gradient"'), tmp_path / "one.html").read_text())
    assert "This report rests on one method only, gradient." in written.text


def test_hostile_text_is_shown_and_not_run(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = '<script>alert("$x$")</script>'
    failures = [
        {"image": evil, "method": "", "metric": "", "stage": "read", "sentence": f'"><img src=x onerror={evil}>'}
    ]
    hostile = [{**study.findings[0], "statement": evil, "evidence": evil, "subject": evil}]
    changes = pa.table({"change": [evil], "kind": ["edit"], "effect": [1.0], "low": [0.5], "high": [2.0]})
    monkeypatch.setitem(study.__dict__, "findings", hostile)
    monkeypatch.setitem(study.__dict__, "tables", {"changes": changes})
    monkeypatch.setattr(Study, "failures", pa.Table.from_pylist(failures))
    monkeypatch.setattr(study.model, "classes", ('</style><script>alert("a")</script>', "b&<i>"))
    written = Page(write_report(study, tmp_path / "evil.html").read_text())
    assert written.tags.count("script") == 2
    assert not any(name.startswith("on") for name, _ in written.attributes)
    assert "i" not in [tag for tag in written.tags if tag == "i"][2:]
    assert written.text.count("alert") >= 4


def test_findings_come_warnings_first_and_methods_apart() -> None:
    def finding(kind: str, verdict: str = "supported") -> dict[str, object]:
        return {
            "kind": kind,
            "verdict": verdict,
            "statement": kind,
            "evidence": "e",
            "value": 0.25,
            "low": 0.125,
            "high": 0.5,
        }

    found = [finding(kind) for kind in ("inseparable", "unstable", "refused", "not_localised", "shortcut")]
    model, methods = notices([*found, finding("confounder", "undecided")])
    assert [one.statement for one in model] == ["shortcut", "confounder", "not_localised", "inseparable", "refused"]
    assert [one.tone for one in model] == ["warning", "note", "warning", "note", "untested"]
    assert model[0].number == "0.25 [0.125, 0.5]"
    assert model[1].title == "Confounder (undecided)"
    assert [one.statement for one in methods] == ["unstable"]


def test_many_methods_make_smaller_pictures_not_a_heavier_page(study: Study) -> None:
    class Many:
        methods = study.methods * 20

    small = gallery.Album(Many(), tuple(map(str, range(24))))
    few = gallery.Album(study, tuple(map(str, range(24))))
    assert few.edge == gallery.EDGE
    assert small.edge < gallery.EDGE
    # noise does not compress: 8 bits a pixel and a third more as base64
    assert small.edge**2 * 24 * len(Many.methods) * 4 / 3 < 9e6


def test_large_volumes_have_fewer_cases(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chapters.cases_each(study) == chapters.EACH
    monkeypatch.setattr(chapters, "_VALUES", 4 * len(study.methods) * 3 * 32 * 32 * 2)
    assert chapters.cases_each(study) == 2
    assert next(len(chapter.ids) for chapter in chapters.chapters(study)) == 2


def test_an_interpretation_that_failed_is_not_read_as_nothing_found(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"image": "", "method": "", "metric": "", "stage": "interpret", "sentence": "one channel has no colour"}
    monkeypatch.setattr(Study, "failures", pa.Table.from_pylist([row]))
    model, _ = notices(untested(study))
    assert [(one.tone, one.evidence) for one in model] == [("untested", "one channel has no colour")]


def test_the_report_of_a_small_study_is_small(report: Path) -> None:
    assert report.stat().st_size < 3e6


def test_a_study_without_labels_says_so(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(study.__dict__, "performance", {})
    blank = study.predictions.set_column(
        study.predictions.schema.get_field_index("label"), "label", pa.nulls(study.predictions.num_rows, pa.int64())
    )
    monkeypatch.setitem(study.__dict__, "predictions", blank)
    written = Page(write_report(study, tmp_path / "blank.html").read_text())
    assert "nothing can be said of how good the model is" in written.text
    assert "label unknown" in written.text


def test_a_failed_map_is_told_and_not_drawn(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    image, method = study.chosen[0], study.methods[0]
    album = gallery.Album(study, (image,))
    album.raw[method][:] = float("nan")
    tile = next(tile for tile in album.case(image).tiles if tile.method == method)
    assert not tile.src
    assert "failed" in tile.sentence


def test_a_map_without_place_in_the_image_is_told(study: Study) -> None:
    image, method = study.chosen[0], study.methods[0]
    album = gallery.Album(study, (image,))
    album.raw[method] = album.raw[method].flatten(2)
    tile = next(tile for tile in album.case(image).tiles if tile.method == method)
    assert not tile.src
    assert "have no place on images" in tile.sentence
    assert dataclasses.replace(tile, sentence="") != tile


def test_the_report_opens_with_the_verdict_and_every_case_has_its_own(study: Study, page: Page) -> None:
    own = [finding for finding in study.findings if finding["kind"] == "verdict"]
    assert len(own) == 3
    places = [page.text.index(finding["statement"]) for finding in own]
    assert max(places) < page.text.index("Key findings")
    assert all(page.text.count(finding["statement"]) == 1 for finding in own)
    sentences = {row["image"]: row["sentence"] for row in study.tables["cases"].to_pylist()}
    shown = [image for chapter in chapters.chapters(study) for image in chapter.ids]
    assert shown
    assert all(sentences[image] in page.text for image in shown)


def test_a_metric_that_failed_its_test_is_told_above_the_ranking(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study.self_test is not None
    rows = study.self_test.table.to_pylist()
    spoilt = [row | {"passed": row["metric"] != "max_sensitivity(samples=2)"} for row in rows]
    tested = SelfTest(pa.Table.from_pylist(spoilt, schema=study.self_test.table.schema))
    monkeypatch.setattr(Study, "self_test", tested)
    ranking = rank(study.scores, excluded={"max_sensitivity(samples=2)": "it wanders"})
    monkeypatch.setitem(study.__dict__, "ranking", ranking)
    text = Page(write_report(study, tmp_path / "spoilt.html").read_text()).text
    assert "1 failed and have none" in text
    assert "max_sensitivity has no say in the overall ranking: it wanders." in text
