"""Values that print and parse: one grammar for methods, metrics and edits.

A recipe is a frozen dataclass whose text is its name in Python, in ``study.toml``, on the command line, in the
store and under a figure: ``lime(samples=200)`` parses back to the equal value.
"""

import ast
import dataclasses
import difflib
import hashlib
import inspect
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from pellucid.errors import BadRecipe

__all__ = ["Recipe", "Registry"]


@cache
def _validators(recipe: type["Recipe"]) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(recipe, include_extras=True)
    config = ConfigDict(arbitrary_types_allowed=True)
    return {field.name: TypeAdapter(hints[field.name], config=config) for field in dataclasses.fields(recipe)}


def _digest(value: Tensor | np.ndarray[Any, Any]) -> str:
    """Return what tells one tensor from another in a line; its numbers would fill a page."""
    shape = tuple(value.shape)
    if isinstance(value, Tensor):
        value = (value.double() if value.is_floating_point() else value).detach().cpu().numpy()
    content = f"{value.dtype}{shape}".encode() + value.tobytes()
    return f"tensor({shape}, sha256:{hashlib.sha256(content).hexdigest()[:16]})"


def _spelt(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return _digest(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple | list):
        inner = ", ".join(_spelt(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """A named, immutable, validated set of settings.

    Subclasses are frozen keyword-only dataclasses; annotations may carry pydantic constraints, which are enforced.
    The class's own name, lower case, is the recipe's name.

    Raises
    ------
    BadRecipe
        When a setting does not fit its annotation; the sentence quotes the recipe and the setting.
    """

    version: ClassVar[int] = 1
    """Raised by one whenever the numbers that this recipe gives change."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__repr__ = Recipe.__str__  # type: ignore[assignment]  # dataclass(repr=...) would otherwise replace it

    def __post_init__(self) -> None:
        for name, validator in _validators(type(self)).items():  # type: ignore[arg-type]  # a class is hashable
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, validator.validate_python(value))
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                message = f"{self.name}({name}={_spelt(value)}): {name} does not fit; {reason[0].lower()}{reason[1:]}"
                raise BadRecipe(message) from None

    @property
    def name(self) -> str:
        """The recipe's name without its settings."""
        return type(self).__name__

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting, defaults included, in field order."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def definition(self) -> str:
        """Sixteen hexadecimal digits that change when the definition or a setting does; stored beside each number."""
        told = {name: _digest(value) if isinstance(value, Tensor) else value for name, value in self.settings.items()}
        source = f"{self.version}\n{inspect.getsource(type(self))}\n{told!r}"
        return hashlib.sha256(source.encode()).hexdigest()[:16]

    def replace(self, **settings: Any) -> Self:
        """Return the same recipe with some settings changed."""
        return dataclasses.replace(self, **settings)

    def __str__(self) -> str:
        spelt = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                spelt.append(f"{field.name}={_spelt(value)}")
        return f"{self.name}({', '.join(spelt)})" if spelt else self.name


R = TypeVar("R", bound=Recipe)


class Registry(Mapping[str, type[R]], Generic[R]):
    """Recipes of one kind by name: the built-in ones and those that installed packages add by entry point."""

    def __init__(self, kind: str, base: type[R], group: str) -> None:
        self.kind, self.base, self._group = kind, base, group
        self._recipes: dict[str, type[R]] = {}
        self._discovered = False

    def register(self, recipe: type[R]) -> type[R]:
        """Add a recipe class under its own name; usable as a decorator.

        Raises
        ------
        BadRecipe
            When the name is taken by another class.
        """
        known = self._recipes.setdefault(recipe.__name__, recipe)
        if known is not recipe:
            raise BadRecipe(f"the {self.kind} name {recipe.__name__!r} is taken by {known.__module__}")
        return recipe

    def _discover(self) -> dict[str, type[R]]:
        if not self._discovered:
            self._discovered = True
            for entry in entry_points(group=self._group):
                self.register(entry.load())
        return self._recipes

    def __getitem__(self, name: str) -> type[R]:
        return self._discover()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._discover())

    def __len__(self) -> int:
        return len(self._discover())

    def parse(self, text: "str | R") -> R:
        """Turn ``"name(setting=value)"`` into the recipe; a recipe is returned as it is.

        Raises
        ------
        BadRecipe
            When the text is no call of a known name with known, literal settings.
        """
        if isinstance(text, self.base):
            return text
        if not isinstance(text, str):
            raise BadRecipe(f"a {self.kind} is a text such as {next(iter(self))!r} or a value, not {text!r}")
        name, settings = _read_call(text, self.kind)
        if name not in self:
            raise BadRecipe(f"{text!r}: there is no {self.kind} {name!r}{self._nearest(name, list(self))}")
        recipe = self[name]
        known = [field.name for field in dataclasses.fields(recipe)]
        for setting in settings:
            if setting not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes no settings"
                raise BadRecipe(f"{text!r}: {name} has no setting {setting!r}; {takes}")
        return recipe(**settings)

    @staticmethod
    def _nearest(name: str, names: list[str]) -> str:
        close = difflib.get_close_matches(name, names, n=3)
        return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(sorted(names))}"


def _read_call(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    problem = f"{text!r} is not a {kind}: write name or name(setting=value, ...) with plain values"
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise BadRecipe(problem) from None
    if isinstance(tree, ast.Name):
        return tree.id, {}
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
        raise BadRecipe(problem)
    try:
        settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords if keyword.arg}
    except ValueError:
        raise BadRecipe(problem) from None
    if len(settings) != len(tree.keywords):
        raise BadRecipe(problem)
    return tree.func.id, settings
