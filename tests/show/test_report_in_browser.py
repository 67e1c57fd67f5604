"""The page in a real browser: its script runs from the file, without and with controls, and asks nothing of a network."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pellucid.study import Study

from .browser import opened

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


def dumped(page: Path, home: Path, *options: str) -> tuple[str, str]:
    """Return the page as it stands after its script ran, and what the browser logged."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}", "--enable-logging=stderr",
               "--virtual-time-budget=10000", *options, "--dump-dom", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def live(report: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return dumped(report, tmp_path_factory.mktemp("browser"))


def test_the_script_runs_and_draws_every_map(live: tuple[str, str], report: Path) -> None:
    maps = len(re.findall(r'<img class="map', report.read_text()))
    assert f'data-viewer="ready, {maps} maps"' in live[0]
    assert live[0].count("<canvas") == maps
    assert not re.search(r'<form id="controls"[^>]*hidden', live[0])


def test_the_browser_reports_no_error_and_refuses_nothing(live: tuple[str, str]) -> None:
    told = [line for line in live[1].splitlines() if "CONSOLE" in line]
    assert told == []


def test_every_method_can_be_hidden(live: tuple[str, str], study: Study) -> None:
    boxes = re.search(r'<div id="method-boxes">(.*?)</div>', live[0], re.DOTALL)
    assert boxes is not None
    assert boxes[1].count('type="checkbox"') == len(study.methods)


def test_controls_and_keys_change_what_is_drawn(report: Path, tmp_path: Path) -> None:
    probe = """<script type="module">
    import "pellucid/viewer";
    const seen = () => {
      const canvas = document.querySelector("canvas.map");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let shown = 0;
      for (let place = 3; place < pixels.length; place += 4) shown += pixels[place] > 0 ? 1 : 0;
      return [shown, canvas.width * canvas.height];
    };
    const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const told = {};
    [told.before, told.all] = seen();
    for (let step = 0; step < 10; step += 1) press("t");
    told.thresholded = seen()[0];
    press("m");
    told.masks = document.body.classList.contains("no-masks");
    press("n");
    told.data = document.getElementById("per-data").checked;
    press("j");
    told.focus = document.activeElement.className;
    document.documentElement.dataset.probe = JSON.stringify(told);
    </script></body>"""
    page = tmp_path / "probe.html"
    page.write_text(report.read_text().replace("</body>", probe))
    found = re.search(r'data-probe="([^"]*)"', dumped(page, tmp_path / "home")[0])
    assert found is not None
    told = found[1].replace("&quot;", '"')
    before, everything, thresholded = (int(number) for number in re.findall(r"\d+", told)[:3])
    assert before == everything
    assert 0 < thresholded < before
    assert '"masks":true' in told
    assert '"data":true' in told
    assert '"focus":"case"' in told


def test_the_colours_in_the_browser_are_the_palette(report: Path, tmp_path: Path) -> None:
    probe = """<script type="module">
    import { lookup, readAnchors } from "pellucid/colour";
    const look = { gain: 1, threshold: 0, opacity: 1 };
    const table = lookup(readAnchors(document, "signed"), look);
    const half = lookup(readAnchors(document, "signed"), { ...look, gain: 0.5 });
    const at = (colours, byte) => [...colours.slice(4 * byte, 4 * byte + 4)].join(" ");
    document.documentElement.dataset.probe = [at(table, 1), at(table, 128), at(table, 255), at(half, 255)].join("; ");
    </script></body>"""
    page = tmp_path / "colours.html"
    page.write_text(report.read_text().replace("</body>", probe))
    found = re.search(r'data-probe="([^"]*)"', dumped(page, tmp_path / "home")[0])
    assert found is not None
    assert found[1] == "11 60 116 255; 255 255 255 255; 166 50 0 255; 240 160 122 255"


def test_a_reader_points_clicks_and_drags(report: Path, study: Study, tmp_path: Path) -> None:
    """With real input: the value under the pointer on every map of an image, a method hidden by its box, a threshold by its slider."""
    with opened(tmp_path / "home") as page:
        page.go(report.as_uri())
        page.until("(document.documentElement.dataset.viewer || '').startsWith('ready')")
        page.point(".case .stack", across=0.5, down=0.5)
        told = page.until(
            "[...document.querySelector('.case').querySelectorAll('.here')].map((one) => one.innerText).filter(Boolean)"
        )
        assert len(told) == page.value("document.querySelector('.case').querySelectorAll('canvas.map').length")
        assert all(re.fullmatch(r"here (at least )?[+−-]?[\d.e+-]+", one) for one in told)
        page.click("#controls details summary")
        page.click("#method-boxes input")
        hidden = page.value("[...document.querySelectorAll('.case .tile.off')].map((one) => one.dataset.method)")
        assert len(set(hidden)) == 1
        assert set(hidden) < set(study.methods)
        page.stroke("#threshold", [(0.03, 0.5), (0.4, 0.5), (0.7, 0.5)])
        assert 0.3 < float(page.value("document.getElementById('threshold').value")) < 0.95
        assert page.complaints == []
