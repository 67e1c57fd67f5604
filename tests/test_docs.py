"""What the documents show is what runs: their tables come from the registries, their examples are executed."""

import importlib.util
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pellucid.images import phantoms
from pellucid.models import fit, save_model

ROOT = Path(__file__).parent.parent


def _command(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_documents_are_those_of_the_registries() -> None:
    tables, readme = _command("tables"), (ROOT / "README.md").read_text()
    assert tables.readme(readme) == readme, "run python docs/tables.py"
    assert (ROOT / "docs" / "methods.md").read_text() == tables.reference(), "run python docs/tables.py"


def test_the_table_of_formats_is_that_of_the_readers() -> None:
    spec = importlib.util.spec_from_file_location("formats", ROOT / "docs" / "formats.py")
    formats = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formats)
    text = formats.PAGE.read_text(encoding="utf-8")
    assert formats.page(text) == text, "run python docs/formats.py"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    phantom = phantoms.cells(40, size=(24, 24))
    phantom.write(tmp_path / "demo" / "phantom")
    (tmp_path / "demo" / "model").mkdir()
    save_model(fit(phantom.images, epochs=1, width=4).model, tmp_path / "demo" / "model" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _examples(document: str | Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_examples_of_the_documents_run(document: str, demo: Path) -> None:
    examples = _examples(document)
    assert examples
    for example in examples:
        done = subprocess.run([sys.executable, "-c", example], cwd=demo, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_table_of_sources_is_what_opening_them_gives() -> None:
    for module in ("transformers", "bioimageio.core", "onnx", "onnxruntime"):
        pytest.importorskip(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("monai")
    assert (ROOT / "docs" / "sources.md").read_text() == _command("sources").page(), "run python docs/sources.py"


EXTRAS = {
    "hf": "transformers",
    "bioimageio": "bioimageio.core",
    "monai": "monai",
    "onnx": "onnxruntime",
    "medical": "pydicom",
    "slides": "tiffslide",
    "bio": "bioio",
}
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if _examples(page))


def _blocks(document: str, language: str) -> str:
    return "".join(re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    for extra in re.findall(r"pellucid\[(\w+)\]", (ROOT / page).read_text()):
        pytest.importorskip(EXTRAS[extra])
    command = [sys.executable, "-W", "ignore", "-c", _blocks(page, "python")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == _blocks(page, "text")


def test_the_first_two_blocks_of_the_readme_are_the_main_job_and_the_tests() -> None:
    job, tests, *_ = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert "pellucid demo" in job
    assert tests.splitlines()[-1] in (ROOT / ".ci" / "run").read_text()
