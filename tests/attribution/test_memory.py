"""What lives at once is bounded by the batch: more steps, samples, masks or images cost time and no memory."""

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pellucid


class Peak(TorchDispatchMode):
    """Count the bytes of the tensors that live at once, forward and backward, views once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.note(leaf.untyped_storage())
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self.known and self.known[storage._cdata].alive:
            return
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        self.known[storage._cdata] = weakref.finalize(storage, self.drop, storage.nbytes())

    def drop(self, size: int) -> None:
        self.now -= size


def peak(method: str, images: int = 1) -> int:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2048, 2))
    with Peak() as memory:
        pellucid.explain(net.eval(), torch.rand(images, 3, 32, 32), method, target=0, batch_size=4)
    return memory.most


def test_the_counter_sees_a_path_that_is_held_at_once():
    with Peak() as few:
        torch.stack([torch.zeros(1000) for _ in range(2)])
    with Peak() as many:
        torch.stack([torch.zeros(1000) for _ in range(20)])
    assert (few.most, many.most) == (4 * 4000, 40 * 4000)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        ("integrated_gradients(steps=8)", "integrated_gradients(steps=80)"),
        ("smoothgrad(samples=8)", "smoothgrad(samples=80)"),
        ("occlusion(window=16, stride=16)", "occlusion(window=16, stride=4)"),
        ("rise(samples=16)", "rise(samples=64)"),
        ('lime(segments="grid(4, 4)", samples=40)', 'lime(segments="grid(4, 4)", samples=200)'),
        ('kernel_shap(segments="grid(4, 4)", samples=40)', 'kernel_shap(segments="grid(4, 4)", samples=200)'),
    ],
)
def test_many_times_the_work_takes_the_same_memory(few, many):
    assert peak(many) <= 1.1 * peak(few)
