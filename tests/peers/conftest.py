"""Peers are imported here as the benchmarks import them; where one is not installed, its tests are skipped and say so."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def peer() -> Callable[[str], ModuleType]:
    spec = importlib.util.spec_from_file_location("pellucid_benchmarks_peers", BENCHMARKS / "peers.py")
    loader = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)

    def load(name: str) -> ModuleType:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            pytest.skip(f"{name} is not installed: pip install --no-deps -r requirements-peers.lock")
        return loader.peer(name)

    return load


@pytest.fixture
def pixels() -> Callable[..., Tensor]:
    def make(*shape: int, seed: int = 1) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def settled() -> Callable[[nn.Module], nn.Module]:
    """Give a net weights of its own and, where it normalises, statistics that matter."""

    def settle(net: nn.Module, seed: int = 0) -> nn.Module:
        stream = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=stream) / parameter[0].numel() ** 0.5)
            for part in net.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.weight.uniform_(0.5, 1.5, generator=stream)
                    part.running_mean.uniform_(-0.5, 0.5, generator=stream)
                    part.running_var.uniform_(0.5, 1.5, generator=stream)
        return net.eval()

    return settle
