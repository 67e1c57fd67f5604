"""The house itself: imports run one way, every public name is exported on purpose and documented."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import pellucid

ROOT = Path(pellucid.__file__).parent
ORDER = ["images", "measure", "models", "attribution", "evaluation", "interpretation", "study", "show", "cli"]
BELOW = {"errors", "recipes", "intervals"}
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "pellucid."))


def _room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) in ORDER])
def test_imports_run_one_way(module: str) -> None:
    tree = ast.parse(Path(inspect.getfile(importlib.import_module(module))).read_text())
    for node in tree.body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("pellucid.") and _room(name) not in BELOW:
                assert ORDER.index(_room(name)) <= ORDER.index(_room(module)), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_and_what_it_offers(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    assert loaded.__doc__.strip()
    assert hasattr(loaded, "__all__"), f"{module} has no __all__"
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{module}.{name} has no docstring"


def test_the_public_surface_is_what_the_contract_says() -> None:
    assert sorted(pellucid.__all__) == [
        "Explanation", "ImageSet", "Method", "Metric", "Model", "PellucidError", "Ranking", "Scores", "Study",
        "UntrustedModel", "combine", "evaluate", "explain", "fit", "load_model", "methods", "metrics", "rank",
        "read_images", "targets",
    ]  # fmt: skip
    public = {name for name in vars(pellucid) if not name.startswith("_")}
    rooms = {path.stem for path in ROOT.iterdir()} | {"annotations"}
    assert public - rooms == set(pellucid.__all__) - rooms
