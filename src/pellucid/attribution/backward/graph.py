"""The first guard: every step between the model's input and its output is one that the rules know.

Scripted code, other threads and custom autograd Functions never reach the interception; their nodes are in the
autograd graph all the same, and there they are found.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from pellucid.attribution.backward.frames import described
from pellucid.attribution.backward.operation import Ruled
from pellucid.errors import GuardError
from pellucid.models.graph import nodes_behind

__all__ = ["CURVED", "LINE", "LINEAR", "MOVES", "PEAKS", "WEIGHTED", "check_graph", "node_name"]


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


MOVES = _named("""
    AccumulateGrad Alias AsStrided Cat Clone ConstantPadNd Copy CopySlices Diagonal Expand Fill Flip Gather Im2Col Index
    IndexPut IndexSelect NativeChannelShuffle Permute PixelShuffle PixelUnshuffle ReflectionPad1D ReflectionPad2D
    ReflectionPad3D Repeat ReplicationPad1D ReplicationPad2D ReplicationPad3D ReshapeAlias Roll Select SelectScatter
    Slice SliceScatter Split SplitWithSizes Squeeze Stack T ToCopy Transpose Unbind Unfold Unsqueeze UnsafeSplit
    UnsafeView View Zero
""")
"""Nodes that copy numbers from place to place."""

LINEAR = MOVES | _named("""
    AdaptiveAvgPool2D AdaptiveAvgPool3D Add Addcmul AvgPool2D AvgPool3D Baddbmm Bmm Col2Im Cumsum Div Dot GridSampler2D
    GridSampler3D Lerp MkldnnAdaptiveAvgPool2D Mean Mm Mul Mv Neg Rsub Sub Sum Tril Triu UpsampleBicubic2D
    UpsampleBicubic2DAa UpsampleBilinear2D UpsampleBilinear2DAa UpsampleLinear1D UpsampleNearest1D UpsampleNearest2D
    UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D UpsampleTrilinear3D
""")
"""Nodes that add numbers up or scale them by constants: for them the gradient is the contribution."""

WEIGHTED = _named("""
    Addmm Addmv Convolution ConvolutionOverrideable CudnnBatchNorm CudnnConvolution Linear MiopenBatchNorm
    MkldnnConvolution MkldnnLinear NativeBatchNorm SlowConvDilated2D
""")
"""Affine nodes with weights."""

PEAKS = _named("""
    AdaptiveMaxPool2D AdaptiveMaxPool3D Amax Max MaxPool2DWithIndices MaxPool3DWithIndices MkldnnMaxPool2D
    MkldnnMaxPool3D Topk
""")
"""Nodes that pass on the largest number."""

CURVED = _named("""
    Abs Addcdiv Celu Cos Elu Erf Exp Expm1 Gelu Hardsigmoid Hardswish LeakyRelu LinalgVectorNorm Log Log1P LogSigmoid
    LogSoftmax Logsumexp Mish NativeGroupNorm NativeLayerNorm Norm Pow Prelu PreluKernel Reciprocal Rsqrt
    ScaledDotProductEfficientAttention ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu Sigmoid Silu
    Sin Softmax Softplus Sqrt Square Std Tanh Var
""")
"""Nodes that bend without being rectifiers."""

_TOGETHER: Mapping[str, tuple[int, int]] = {
    "Mul": (0, 1), "Mm": (0, 1), "Bmm": (0, 1), "Mv": (0, 1), "Linear": (0, 1), "Addmm": (1, 2), "Baddbmm": (1, 2),
    "Addmv": (1, 2), "Div": (1, 1), "Convolution": (1, 1), "Addcmul": (1, 2), "NativeBatchNorm": (1, 1),
    "CudnnBatchNorm": (1, 1), "Dot": (0, 1), "GridSampler2D": (1, 1), "GridSampler3D": (1, 1), "Lerp": (2, 2),
}  # fmt: skip
"""Operands that make a node nonlinear when the model's input reaches them (both of the pair)."""

LINE = "pellucid.line"
"""Where, in a node's metadata, the interception notes the call and the line that made it."""

_PATTERN = re.compile(r"^(?:torch::autograd::)?(\w+?)(?:Backward(?:s|\d+)?)?$")


def node_name(node: Any) -> str:
    """Return a node's operation: ``ReluBackward0`` is ``Relu``."""
    matched = _PATTERN.match(node.name().removeprefix("struct "))
    return matched.group(1).lstrip("_") if matched else str(node.name())


def _bends(node: Any, name: str) -> bool:
    if name in {"NativeBatchNorm", "CudnnBatchNorm"} and getattr(node, "_saved_training", False):
        return True
    first, second = _TOGETHER.get(name, (None, None))
    if first is None or second is None:
        return False
    operands = [before is not None for before, _ in node.next_functions]
    return second < len(operands) and operands[first] and operands[second]


def check_graph(
    outputs: Iterable[Tensor],
    inputs: Iterable[Tensor],
    allowed: frozenset[str],
    ours: tuple[type, ...],
    method: str,
    *,
    products: bool,
) -> None:
    """Refuse a graph that holds a step the rules do not know.

    Parameters
    ----------
    outputs, inputs
        Where the graph ends, and where it may begin.
    allowed
        Names of nodes whose plain gradient is what the rules want.
    ours
        Types of nodes that rules made.
    method
        Who asks, for the message.
    products
        Whether products of activations may pass by their plain gradient.

    Raises
    ------
    GuardError
        Naming the operation.
    """
    known = tuple(kind._backward_cls for kind in (Ruled, *ours))  # type: ignore[attr-defined]  # noqa: SLF001
    begins = {node for node in nodes_behind(inputs) if node_name(node) == "AccumulateGrad"}
    for node in nodes_behind(outputs):
        if isinstance(node, known):
            continue
        name = node_name(node)
        if name == "AccumulateGrad" and node not in begins:
            raise GuardError(
                f"{method} cannot tell the image from another tensor of shape {tuple(node.variable.shape)} that requires "
                "gradients in this network; detach it, or use integrated_gradients"
            )
        if name not in allowed or (not products and _bends(node, name)):
            raise GuardError(
                f"{method} has no rule for {_described(node, outputs)}, so its map would be wrong; use gradient, "
                "integrated_gradients, smoothgrad, occlusion or kernel_shap"
            )


def _described(node: Any, outputs: Iterable[Tensor]) -> str:
    """Name a node and the call that made it, or, where no call was seen to make it, the call that took it in."""
    title = node.name().removeprefix("torch::autograd::")
    if LINE in node.metadata:
        several = " of several activations" if _bends(node, node_name(node)) else ""
        return "the operation {}{} ({} at {})".format(title, several, *_told(node))
    taker = _taker(node, outputs)
    place = "" if taker is None else " (in or before {} at {})".format(*_told(taker))
    return f"the operation {title}{place} in this network (scripted, a custom Function, checkpointed, or unknown)"


def _taker(node: Any, outputs: Iterable[Tensor]) -> Any:
    """Return the nearest node after this one whose call was seen, or None."""
    takers: dict[Any, list[Any]] = {}
    for later in nodes_behind(outputs):
        for before, _ in later.next_functions:
            takers.setdefault(before, []).append(later)
    waiting = deque([node])
    while waiting:
        for later in takers.pop(waiting.popleft(), ()):
            if LINE in later.metadata:
                return later
            waiting.append(later)
    return None


def _told(node: Any) -> tuple[str, str]:
    name, line = node.metadata[LINE]
    return name, described(line)
