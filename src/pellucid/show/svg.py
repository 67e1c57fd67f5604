"""Figures as part of the page: SVG whose text stays text, without dates, addresses or names that could clash."""

import io
import re
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = ["STYLE", "inline_svg"]

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a8f98", "axes.linewidth": 0.8,
    "axes.labelcolor": "#24292f", "text.color": "#24292f", "xtick.color": "#57606a", "ytick.color": "#57606a",
    "xtick.labelcolor": "#24292f", "ytick.labelcolor": "#24292f", "axes.titlesize": 10.0, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip
"""How every figure looks; text is never read as mathematics, since class names may hold a dollar sign."""

_DROPPED = (
    (r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", ""),
    (r' xmlns(:\w+)?="[^"]*"', ""),
    (r' id="(?![mp][0-9a-f]{10}")[^"]*"', ""),
    (r"xlink:href", "href"),
    (r"font-family: [^;\"]*;? ?", ""),
)
"""What a page has no use for, or what would reach beyond the figure: addresses, styles and names of its own."""


def inline_svg(figure: Figure, name: str) -> Markup:
    """Return a figure as an ``<svg>`` element for the page.

    Parameters
    ----------
    figure
        Any figure.
    name
        Unique on the page: the names of shared shapes are made from it.
    """
    file = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(
            file, format="svg", bbox_inches="tight", pad_inches=0.04, transparent=True, metadata={"Date": None}
        )
    text = file.getvalue()
    for pattern, kept in _DROPPED:
        text = re.sub(pattern, kept, text, flags=re.DOTALL)
    text = re.sub(r'(?<=")#|(?<=url\()#|(?<= id=")', lambda found: f"{found[0]}{name}-", text)
    return Markup(text.strip())  # noqa: S704  # matplotlib escaped every text in it
