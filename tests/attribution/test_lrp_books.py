"""The books of LRP: rows are told apart whatever moves them, and a batch that is sent again is booked once."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid import explain
from pellucid.attribution.backward.rows import rows_first


def entered(shape: tuple[int, ...] = (3, 4, 5)) -> Tensor:
    return torch.randn(*shape, requires_grad=True) * 2


FIRST = {
    "as it was": lambda x: x,
    "there and back": lambda x: x.transpose(0, 1).transpose(0, 1),
    "by permutation and back": lambda x: x.permute(2, 0, 1).permute(1, 2, 0),
    "other axes": lambda x: x.transpose(1, 2).mT,
    "one step of time first": lambda x: x.permute(1, 0, 2)[2],
    "steps unbound": lambda x: x.transpose(0, 1).unbind(0)[1],
    "mean over time first": lambda x: x.transpose(0, 1).mean(0),
    "an axis more behind": lambda x: x.unsqueeze(1).expand(3, 2, 4, 5),
    "flattened": lambda x: x.flatten(1).view(-1, 10, 2),
    "heads": lambda x: x.view(3, 4, 5, 1).permute(2, 0, 3, 1)[0],
    "squeezed": lambda x: x.unsqueeze(0).squeeze(0),
    "stacked and taken": lambda x: torch.stack([x, x], 0)[1],
}
MOVED = {
    "transposed": lambda x: x.transpose(0, 1),
    "from behind": lambda x: x.transpose(-1, 0),
    "permuted": lambda x: x.permute(1, 0, 2) + 1,
    "turned": lambda x: x[:, 0].T,
    "stacked": lambda x: torch.stack([x, x], 0),
    "merged with time": lambda x: x.transpose(0, 1).reshape(12, 5),
    "an axis more before": lambda x: x.unsqueeze(0),
}


@pytest.mark.parametrize("move", FIRST.values(), ids=FIRST)
def test_rows_that_come_first_are_known_to(move):
    assert rows_first(move(entered()))


@pytest.mark.parametrize("move", MOVED.values(), ids=MOVED)
def test_rows_that_do_not_are_known_not_to(move):
    assert not rows_first(move(entered()))


@pytest.mark.parametrize(("there", "back"), [
    (lambda x: x.transpose(0, 1), lambda h: h.transpose(0, 1)),
    (lambda x: x.permute(1, 0, 2), lambda h: h.permute(1, 0, 2)),
    (lambda x: x.transpose(0, 1).reshape(-1, 5), lambda h: h.view(4, -1, 4).transpose(0, 1)),
    (lambda x: torch.stack([x, x], 0), lambda h: h.sum(0)),
])  # fmt: skip
def test_a_layer_behind_a_move_sends_the_rows_one_at_a_time_and_the_books_balance(nets, pixels, there, back):
    x = pixels(3, 4, 5)

    def forward(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        return b(functional.relu(back(a(there(x)))).flatten(1))

    net = nets.lived_in(nets.Call(forward, nn.Linear(5, 4), nn.Linear(16, 2)))
    together = explain(net, x, "lrp", target=0)
    assert (together.gap < 1e-5).all()
    assert "one at a time" in together.warnings[0]


def test_a_batch_that_did_not_fit_is_booked_once(nets, pixels):
    failed = []

    def forward(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        h = functional.relu(a(x.flatten(1)))
        if h.requires_grad and len(x) > 2:
            h.register_hook(run_out)
        return b(h)

    def run_out(_gradient: Tensor) -> None:
        failed.append(1)
        raise torch.OutOfMemoryError("out of memory")

    net = nets.lived_in(nets.Call(forward, nn.Linear(12, 8), nn.Linear(8, 2)))
    x = pixels(4, 3, 2, 2)
    found = explain(net, x, "lrp", target=0)
    assert failed
    assert (found.gap < 1e-5).all()
    torch.testing.assert_close(found.absorbed, explain(net, x, "lrp", target=0, batch_size=1).absorbed)
