"""Write ``docs/nets.md``: every method held against every net of the zoo.

python docs/matrix.py
"""

import re
import warnings
from pathlib import Path

from rich.progress import track

from pellucid.attribution import METHODS
from pellucid.testing.zoo import ZOO, Verdict, small, verify

PAGE = Path(__file__).parent / "nets.md"
SIGNS = {
    "loop": "=", "slope": "∂", "gap": "Σ", "balance": "⚖", "rows": "✓", "warned": "!", "refused": "–",
}  # fmt: skip
LEGEND = """\
Every cell was checked by running it; a row alone equals itself in a batch in each of them.

- **=** the values equal a second, plain computation in double precision (a loop over windows, coalitions, channels or
  noisy copies; torch's own autograd; clamps hooked on autograd nodes)
- **∂** they equal central finite differences of the net in double precision
- **Σ** they add up to f(x) − f(reference): within 1e-4 for exact methods, 0.05 for sampled paths, of |f(x)| + |f(reference)|
- **⚖** they and what biases and normalisation took add up to f(x), within 1e-4
- **✓** finite, the same twice, and the same row by row: nothing stronger can be said of such a method
- **!** the values miss the sum by more, and the result's own warning says so
- **–** the method refuses the net in a sentence, numbered below"""


def sentence(verdict: Verdict) -> str:
    """Return a refusal or warning without the numbers of the one case."""
    text = re.sub(r"Model\(\w+, classes=\(\), device='cpu'\)", "the model", verdict.sentence)
    text = re.sub(r" at \w+\.py:\d+ in \w+\.\w+", "", text)
    text = re.sub(r"(?<!\w)-?\d[\d.e-]*(?!-D)", "…", text)
    return re.sub(r"…(, …)+,?", "…", text)


def cells(nets: list[str], methods: list[str]) -> dict[tuple[str, str], Verdict]:
    """Hold methods against nets."""
    pairs = [(net, method) for net in nets for method in methods]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {(net, method): verify(ZOO[net], small(method)) for net, method in track(pairs, "explaining nets")}


def page(found: dict[tuple[str, str], Verdict]) -> str:
    """Return the page for a whole matrix."""
    notes: dict[str, int] = {}
    nets, methods = (list(dict.fromkeys(key[axis] for key in found)) for axis in (0, 1))
    rows = []
    for method in methods:
        row = [f"`{small(method)}`"]
        for net in nets:
            verdict = found[net, method]
            mark = SIGNS[verdict.mark]
            if verdict.sentence:
                mark += f"<sup>{notes.setdefault(sentence(verdict), len(notes) + 1)}</sup>"
            row.append(mark)
        rows.append("| " + " | ".join(row) + " |")
    head = (
        "| method | " + " | ".join(f"{place}" for place in range(1, len(nets) + 1)) + " |\n|" + "---|" * (len(nets) + 1)
    )
    described = [f"{place}. `{net}`: {ZOO[net].habits}" for place, net in enumerate(nets, start=1)]
    numbered = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([
        "# Methods on the nets of the field", "",
        "Made by `python docs/matrix.py`; `pellucid.testing.zoo.verify` holds a method of your own against them.", "",
        "## Nets", "", "Small, seeded and untrained, with the layout and the habits of the originals.", "", *described, "",
        "## Verdicts", "", LEGEND, "", head, *rows, "", "## What is refused, and why", "", *numbered, "",
    ])  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page(cells(list(ZOO), sorted(METHODS))), encoding="utf-8")
