"""The viewer as a reviewer uses it: a real browser, clicks, strokes and keys, from the printed address to the saved files."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.show.viewer import Reviews, make_app
from pellucid.study import Study

from ..browser import BROWSER, Page, opened

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
uvicorn = pytest.importorskip("uvicorn")
TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Reviews go here: the study is that of all tests of the report."""
    folder = tmp_path_factory.mktemp("reviews")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reviews, "folder", property(lambda self: folder))
        yield folder


@pytest.fixture(scope="module")
def address(study: Study, report: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(make_app(study, TOKEN), log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """Come in through the printed address; nothing may be complained of by the end."""
    browser.complaints.clear()
    browser.go(f"{address}/?token={TOKEN}")
    browser.go(f"{address}/review")
    yield browser
    assert browser.complaints == []


def begin(page: Page, rater: str) -> None:
    page.click("#rater")
    page.type(rater)
    page.click("#begin")
    page.until("!document.getElementById('work').hidden && document.getElementById('map').complete")


def code_shown(page: Page) -> str:
    return str(page.value("document.getElementById('map').src")).rsplit("/", 1)[1]


def rated(page: Page, before: str) -> None:
    page.until(
        f"!document.getElementById('map').src.endsWith({json.dumps(before)}) && document.getElementById('map').complete"
    )


def test_the_printed_address_leads_to_the_report_and_the_token_is_gone_from_it(browser: Page, address: str) -> None:
    browser.go(f"{address}/?token={TOKEN}")
    assert browser.value("location.href") == f"{address}/"
    assert browser.value("document.querySelectorAll('figure').length") > 0


def test_maps_are_rated_with_the_mouse_and_with_keys(page: Page, study: Study) -> None:
    begin(page, "ann")
    count = len(Reviews(study).items)
    assert page.text("#said") == f"{count} to go"
    first = code_shown(page)
    page.click("#note")
    page.type("edge of the cell, 3 spots")
    page.click("#scale button:nth-child(4)")
    rated(page, first)
    second = code_shown(page)
    page.press("2")
    rated(page, second)
    assert page.text("#said") == f"{count - 2} to go"
    items, rows = (
        Reviews(study).items,
        {row["image"] + row["method"]: row for row in Reviews(study).ratings.to_pylist()},
    )
    one, two = (rows[items[code].image + items[code].method] for code in (first, second))
    assert (one["rater"], one["rating"], one["note"]) == ("ann", 4, "edge of the cell, 3 spots")
    assert (two["rating"], two["note"]) == (2, "")
    assert len(rows) == 2


def test_what_is_drawn_is_saved_where_it_was_drawn(page: Page, study: Study, folder: Path) -> None:
    begin(page, "bob")
    code = code_shown(page)
    page.stroke("#image", [(0.25, 0.25), (0.5, 0.25), (0.75, 0.25)])
    page.press("m")
    page.until("document.getElementById('said').innerText === 'The mask is saved.'")
    (file,) = (folder / "masks" / "bob").glob("*.png")
    with Image.open(file) as picture:
        mask = np.asarray(picture) > 0
    rows, columns = np.nonzero(mask)
    height, width = study.images.shape[-2:]
    assert mask.shape == (height, width)
    assert abs(rows.mean() / height - 0.25) < 0.05
    assert columns.min() < 0.3 * width
    assert columns.max() > 0.7 * width
    assert json.loads(file.with_suffix(".json").read_text())["image"] == Reviews(study).items[code].image


def test_a_drawing_is_not_lost_when_the_map_is_rated(page: Page, folder: Path) -> None:
    begin(page, "cem")
    code = code_shown(page)
    page.stroke("#image", [(0.5, 0.5), (0.6, 0.6)])
    page.press("5")
    rated(page, code)
    assert len(list((folder / "masks" / "cem").glob("*.png"))) == 1
    code = code_shown(page)
    page.stroke("#image", [(0.5, 0.5), (0.6, 0.6)])
    page.press("c")
    page.press("1")
    rated(page, code)
    assert len(list((folder / "masks" / "cem").glob("*.png"))) == 1


def test_a_held_key_and_the_browsers_own_shortcuts_rate_nothing_more(page: Page, folder: Path) -> None:
    begin(page, "dan")
    code = code_shown(page)
    page.press("1", control=True)
    page.press("3")
    page.press("4")
    rated(page, code)
    (file,) = (folder / "ratings").glob("dan-*.json")
    assert json.loads(file.read_text())["rating"] == 3


def test_a_name_that_is_none_is_told_in_the_page(page: Page) -> None:
    page.click("#rater")
    page.type("a b/c")
    page.click("#begin")
    assert "letters" in page.until("document.getElementById('said').innerText")
    assert page.value("document.getElementById('work').hidden")
    page.complaints.clear()  # the browser logs the refusal itself


def test_the_end_is_told_and_the_next_visit_begins_where_it_was(page: Page, study: Study, address: str) -> None:
    reviews = Reviews(study)
    for item in sorted(reviews.left("eve"), key=lambda item: item.code)[:-1]:
        reviews.rate(item.code, "eve", 3)
    begin(page, "eve")
    assert page.text("#said") == "1 to go"
    page.press("5")
    page.until("document.getElementById('said').innerText.startsWith('All maps are rated')")
    page.go(f"{address}/review")
    page.click("#rater")
    page.type("eve")
    page.click("#begin")
    page.until("document.getElementById('said').innerText.startsWith('All maps are rated')")
