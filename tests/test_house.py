"""The house itself: imports run one way, every public name is exported on purpose and documented."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import pellucid

ROOT = Path(pellucid.__file__).parent
ORDER = [
    "images", "measure", "models", "attribution", "counterfactual", "concepts", "examples", "evaluation", "interpretation", "study",
    "show", "cli",
]  # fmt: skip
BELOW = ["errors", "hashing", "intervals", "recipes"]
FOREIGN = {
    "torchvision",
    "pandas",
    "cv2",
    "timm",
    "lightning",
    "torchmetrics",
    "captum",
    "zennit",
    "quantus",
    "shap",
    "lime",
}
PICTURED_LATE = {"plot", "report", "export"}
"""Functions that fetch pictures only when called: pictures know results, not the reverse."""

MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "pellucid."))
PACKAGES = [name for name in MODULES if hasattr(importlib.import_module(name), "__path__")]


def room(module: str) -> str:
    return module.split(".")[1]


def place(module: str) -> int:
    """Return how far down the house a module lies; what everybody may use lies before the first room."""
    return -1 if room(module) in BELOW else ORDER.index(room(module))


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports name their module in full"
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def imports(tree: ast.AST, function: str = "") -> Iterator[tuple[str, str]]:
    """Yield every imported module with the function that imports it, or ""."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from ((name, inside) for name in imported(node))
        yield from imports(node, inside)


def source(module: str) -> ast.Module:
    return ast.parse(Path(inspect.getfile(importlib.import_module(module))).read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in {*ORDER, *BELOW}])
def test_imports_run_one_way(module):
    for name, function in imports(source(module)):
        assert name != "pellucid", f"{module} imports the whole house"
        if name.startswith("pellucid."):
            late = function in PICTURED_LATE and room(name) == "show"
            assert room(name) in {*ORDER, *BELOW}, f"{module} imports {name}, which lies outside the line"
            assert late or place(name) <= place(module), f"{module} imports {name}"


@pytest.mark.parametrize("module", ["pellucid", *MODULES])
def test_nothing_needs_what_the_core_does_without(module):
    foreign = {name.split(".")[0] for name, _ in imports(source(module))} & FOREIGN
    assert not foreign, f"{module} imports {foreign}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_and_what_it_offers(module):
    loaded = importlib.import_module(module)
    assert (loaded.__doc__ or "").strip(), f"{module} has no docstring"
    assert hasattr(loaded, "__all__"), f"{module} has no __all__"
    assert len(set(loaded.__all__)) == len(loaded.__all__), f"{module} offers a name twice"
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{module}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_face_of_a_package_offers_what_it_fetches(package):
    loaded = importlib.import_module(package)
    fetched = {
        name
        for name, thing in vars(loaded).items()
        if not name.startswith("_") and not isinstance(thing, ModuleType) and name != "annotations"
    }
    assert fetched <= set(loaded.__all__), f"{package} fetches {sorted(fetched - set(loaded.__all__))} for nobody"


def test_the_public_surface_is_what_the_contract_says():
    assert sorted(pellucid.__all__) == [
        "Explanation", "ImageSet", "Method", "Metric", "Model", "PellucidError", "Ranking", "Scores", "Study",
        "UntrustedModel", "activation_maps", "combine", "estimate", "evaluate", "explain", "explain_targets", "fit",
        "fit_patterns", "load_model", "methods", "metrics", "rank", "read_images", "reference_sensitivity", "targets",
    ]  # fmt: skip
    fetched = {
        name
        for name, thing in vars(pellucid).items()
        if not name.startswith("_") and not (isinstance(thing, ModuleType) and name != "targets")
    }
    assert fetched == set(pellucid.__all__)
