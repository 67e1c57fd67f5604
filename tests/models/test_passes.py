import pytest
import torch
from torch import nn

from pellucid.errors import CannotExplain, GuardError, PellucidError, ShapeError
from pellucid.models import Model, Normalise, Passes, ReadOut, frozen, repeat_rows, take_rows
from pellucid.models.targets import Class, Latent

X = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Restless(nn.Module):
    """Counts its forwards in a buffer, grows another, updates statistics in eval mode, and holds a hook of its own."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))
        self.register_buffer("empty", None)
        self.fails = False

    def forward(self, x):
        self.seen += 1
        self.replaced = self.replaced + 1
        self.empty = torch.ones(1)
        self.features[1].running_mean.add_(0.5)
        if self.fails:
            raise ValueError("broken on purpose")
        h = self.features(x)
        return self.head(self.drop(h.mean((2, 3))))


def restless():
    torch.manual_seed(0)
    net = Restless()
    net.train()
    net.features[1].eval()
    net.head.bias.requires_grad_(False)
    net.head.weight.grad = torch.full_like(net.head.weight, 7.0)
    net.features[0].register_forward_hook(lambda module, inputs, output: None)
    return net


def snapshot(net):
    return {
        "weights": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "identity": {name: id(tensor) for name, tensor in (*net.named_parameters(), *net.named_buffers())},
        "versions": {name: part.training for name, part in net.named_modules()},
        "needs": {name: tensor.requires_grad for name, tensor in net.named_parameters()},
        "grads": {name: (id(tensor.grad), None if tensor.grad is None else tensor.grad.clone())
                  for name, tensor in net.named_parameters()},
        "hooks": {name: list(part._forward_hooks) for name, part in net.named_modules()},
        "empty": net.empty,
    }  # fmt: skip


def assert_same(before, after):
    assert before["weights"].keys() == after["weights"].keys()
    for name, tensor in before["weights"].items():
        assert torch.equal(tensor, after["weights"][name]), name
    for name, (identity, gradient) in before["grads"].items():
        assert identity == after["grads"][name][0], name
        assert gradient is None or torch.equal(gradient, after["grads"][name][1]), name
    for name in ("identity", "versions", "needs", "hooks", "empty"):
        assert before[name] == after[name], name


def test_the_model_comes_back_as_it_went_in():
    net = restless()
    before = snapshot(net)
    with Passes(Model(net), batch_size=2) as passes:
        outputs = passes.outputs((X,))
        passes.outputs((X,), layer="features")
        passes.gradient((X,), Class(0).freeze(passes.model, outputs))
        assert not net.drop.training
        assert net.seen.item() > 0
    assert_same(before, snapshot(net))


def test_the_model_comes_back_after_its_own_exception():
    net = restless()
    net.fails = True
    before = snapshot(net)
    with pytest.raises(ShapeError, match="broken on purpose"), Passes(Model(net)) as passes:
        passes.outputs((X,))
    assert_same(before, snapshot(net))


def test_the_model_comes_back_after_a_foreign_exception_in_a_backward():
    net = restless()
    before = snapshot(net)

    def refuse(outputs, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Passes(Model(net)) as passes:
        passes.gradient((X,), ReadOut(refuse), at="features")
    assert_same(before, snapshot(net))


def test_a_layer_that_rewrites_its_weights_when_it_is_set_to_eval_is_left_alone():
    class Merging(nn.Linear):
        def train(self, mode=True):
            with torch.no_grad():
                self.weight.mul_(0.5)
            return super().train(mode)

    net = Merging(3, 2)
    before = net.weight.clone()
    with frozen(net):
        assert not net.training
    assert torch.equal(net.weight, before)
    assert net.training


def test_a_plain_callable_has_nothing_to_restore():
    with Passes(Model(lambda x: x.flatten(1)[:, :2])) as passes:
        assert passes.outputs((X,)).shape == (5, 2)


def linear_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def test_outputs_and_gradients_do_not_depend_on_the_batch():
    net = linear_net()
    found = []
    for size in (1, 2, 5):
        with Passes(Model(net), batch_size=size) as passes:
            outputs = passes.outputs((X,))
            score, _, (gradient,) = passes.gradient((X,), Class((0, 1, 2, 0, 1)).freeze(passes.model, outputs))
            found.append((outputs, score, gradient))
            assert (passes.forwards, passes.backwards) == (10, 5)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.allclose(one, two, atol=1e-6)


def test_a_gradient_equals_autograd():
    net = linear_net().eval()
    leaf = X.clone().requires_grad_()
    wanted = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0]
    with Passes(Model(net), batch_size=2) as passes:
        score, points, gradients = passes.gradient((X,), Class(1).freeze(passes.model, net(X).detach()))
    assert torch.allclose(gradients[0], wanted, atol=1e-6)
    assert torch.equal(points[0], X)
    assert torch.allclose(score, net(X)[:, 1])


def test_a_gradient_at_a_layer_has_the_layers_shape():
    net = linear_net()
    with Passes(Model(net)) as passes:
        outputs = passes.outputs((X,))
        _, points, gradients = passes.gradient((X,), Class(0).freeze(passes.model, outputs), at="1")
    assert points[0].shape == gradients[0].shape == (5, 4, 4, 4)


class Small(nn.Module):
    """Takes up to `most` rows, as a device with little memory would."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.sizes = most, error, []
        self.weight = nn.Parameter(torch.arange(6.0))

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return x.flatten(1)[:, :6] * self.weight


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_is_halved_for_lack_of_memory_and_stays_small(error):
    x = torch.rand(20, 1, 6, generator=torch.Generator().manual_seed(0))
    net = Small(2, error)
    with Passes(Model(net), batch_size=8) as passes:
        assert torch.equal(passes.outputs((x,)), x.flatten(1) * net.weight)
        assert net.sizes[:3] == [8, 4, 2]
        assert set(net.sizes[7:]) == {2}
        assert passes.warnings
        assert all("halved" in warning for warning in passes.warnings)
        assert passes.forwards == 20


class Writes(nn.Module):
    """Doubles its input in place, and then may find no memory for more than `most` rows."""

    def __init__(self, most=99):
        super().__init__()
        self.most = most

    def forward(self, x):
        x *= 2
        if len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return x.flatten(1)


def test_only_spent_inputs_are_written_into():
    x = torch.rand(4, 1, 6, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    with Passes(Model(Writes())) as passes:
        assert torch.equal(passes.outputs((x,)), 2 * kept.flatten(1))
        assert torch.equal(x, kept)
        answers = passes.outputs((x,), spent=True)
        assert torch.equal(answers, 2 * kept.flatten(1))
        x.zero_()
        assert torch.equal(answers, 2 * kept.flatten(1))


def test_spent_inputs_that_were_written_into_are_not_sent_again_for_lack_of_memory():
    with Passes(Model(Writes(most=2)), batch_size=4) as passes:
        assert torch.equal(passes.outputs((torch.ones(4, 1, 6),)), torch.full((4, 6), 2.0))
    with Passes(Model(Writes(most=2)), batch_size=4) as passes, pytest.raises(PellucidError, match="out of memory"):
        passes.outputs((torch.ones(4, 1, 6),), spent=True)


def test_images_made_in_inference_mode_are_images():
    with torch.inference_mode():
        x = torch.ones(3, 1, 6)
    with Passes(Model(Writes())) as passes:
        assert torch.equal(passes.outputs((x,)), torch.full((3, 6), 2.0))


def test_a_gradient_batch_is_halved_for_lack_of_memory():
    x = torch.rand(7, 1, 6, generator=torch.Generator().manual_seed(0))
    net = Small(2, torch.OutOfMemoryError("out of memory"))
    with Passes(Model(net), batch_size=7) as passes:
        score, _, (gradient,) = passes.gradient((x,), Class(3).freeze(passes.model, torch.zeros(7, 6)))
        assert torch.equal(score, 3 * x[:, 0, 3])
        assert torch.equal(gradient, 3 * torch.eye(6)[3].expand(7, 1, 6))
        assert passes.warnings


def test_the_memory_of_a_failed_batch_is_free_when_its_halves_run():
    alive = []

    class Tracked(nn.Module):
        def forward(self, x):
            import gc
            import weakref

            gc.collect()
            alive.append(sum(ref() is not None for ref in self.held))
            mine = x * 2
            self.held.append(weakref.ref(mine))
            if len(x) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return mine.flatten(1)

    net = Tracked()
    net.held = []
    with Passes(Model(net), batch_size=4) as passes:
        passes.outputs((torch.rand(4, 1, 3),))
    assert alive[:3] == [0, 0, 0]


def test_one_row_that_does_not_fit_is_one_sentence():
    net = Small(0, torch.OutOfMemoryError("out of memory"))
    with Passes(Model(net)) as passes, pytest.raises(PellucidError, match="out of memory"):
        passes.outputs((torch.rand(2, 1, 6),))


def test_the_automatic_batch_shrinks_with_the_image():
    with Passes(Model(linear_net())) as passes:
        assert passes.batch_size((torch.empty(1, 3, 1024, 1024),)) == 1
    with Passes(Model(linear_net())) as passes:
        assert passes.batch_size((torch.empty(1, 1, 8, 8),)) == 64


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (nn.Conv2d(3, 2, 1), r"cannot take images of shape \(1, 6, 6\)"),
        (lambda x: (x, x), "returned tuple"),
        (lambda x: x.sum((1, 2, 3))[:2], "row axis first"),
    ],
)
def test_a_model_that_does_not_fit_the_images_is_one_sentence(net, says):
    with Passes(Model(net)) as passes, pytest.raises(ShapeError, match=says):
        passes.outputs((X,))


def test_an_empty_batch_is_refused():
    with Passes(Model(linear_net())) as passes:
        with pytest.raises(ShapeError, match="batch is empty"):
            passes.outputs((X[:0],))
        with pytest.raises(ShapeError, match="batch is empty"):
            passes.gradient((X[:0],), Class(0).freeze(passes.model, torch.zeros(0, 3)))


def test_a_model_without_derivatives_names_the_methods_that_would_do():
    with (
        Passes(Model(lambda x: x.detach().flatten(1)[:, :2])) as passes,
        pytest.raises(CannotExplain, match="occlusion"),
    ):
        passes.gradient((X,), Class(0).freeze(passes.model, torch.zeros(5, 2)))


def test_layers_that_cannot_be_tapped_are_named():
    net = linear_net()
    with Passes(Model(net)) as passes:
        with pytest.raises(CannotExplain, match=r"no layer 'body'; it has 0, 1"):
            passes.outputs((X,), layer="body")
        relu = nn.ReLU()
        twice = nn.Sequential(relu, relu)
    with Passes(Model(twice)) as passes, pytest.raises(CannotExplain, match="more than once"):
        passes.outputs((X,), layer="0")


def test_a_one_dimensional_output_is_one_column():
    with Passes(Model(lambda x: x.sum((1, 2, 3)))) as passes:
        assert passes.outputs((X,)).shape == (5, 1)


def test_scores_of_repeated_rows_follow_the_explained_row():
    net = linear_net()
    with Passes(Model(net), batch_size=3) as passes:
        outputs = passes.outputs((X,))
        read = Class((0, 1, 2, 0, 1)).freeze(passes.model, outputs)
        scores = passes.scores(repeat_rows((X,), 2), read, torch.arange(5).repeat_interleave(2))
        assert torch.allclose(scores, read(outputs, torch.arange(5)).repeat_interleave(2), atol=1e-6)
        assert torch.equal(take_rows((X,), slice(1, 3))[0], X[1:3])


def test_a_target_on_a_layer_reads_the_layer():
    net = linear_net().eval()
    with Passes(Model(net)) as passes:
        read = Latent(2, layer="0").freeze(passes.model, torch.zeros(5, 3))
        scores = passes.scores((X,), read)
        assert torch.allclose(scores, net[0](X)[:, 2].mean((1, 2)), atol=1e-6)


def test_a_bar_may_be_shown():
    with Passes(Model(linear_net()), progress=True) as passes:
        passes.expect(5, "outputs")
        assert passes.outputs((X,)).shape == (5, 3)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_and_an_exported_model_pass_too():
    net = linear_net().eval()
    wanted = net(X).detach()
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(net, (X,), dynamic_shapes=({0: rows},)).module()
    for model in (Model(torch.jit.trace(net, X)), Model(exported)):
        with Passes(model) as passes:
            assert torch.allclose(passes.outputs((X,)), wanted, atol=1e-6)


def test_preprocessing_leads_into_model_space_and_back():
    normalise = Normalise(mean=(0.5,), std=(0.25,))
    model = Model(linear_net(), preprocess=normalise)
    (inside,) = model.prepare(X)
    assert torch.allclose(inside, (X - 0.5) / 0.25)
    assert torch.allclose(normalise.inverse(inside), X, atol=1e-6)
    with pytest.raises(ShapeError, match="1 channels and the images 3"):
        model.prepare(X.expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("x", "says"),
    [(torch.tensor([[float("nan")]]), "NaN"), (torch.rand(3), "N, C"), ((X, X[:2]), "rows"), (("a",), "str")],
)
def test_images_that_are_none_are_refused(x, says):
    with pytest.raises(ShapeError, match=says):
        Model(linear_net()).prepare(x)


def _to_zero(_model, forward):
    """Change a forward by what rounding would."""
    return lambda *given: tuple(output + 1e-9 for output in forward(*given))


def _to_nothing(_model, forward):
    return lambda *given: tuple(output * torch.nan for output in forward(*given))


def _elsewhere(_model, forward):
    return lambda *given: tuple(output + 1e-3 for output in forward(*given))


def silent_net():
    """A net whose outputs are exactly zero, though they depend on the image."""
    return lambda x: x.flatten(1)[:, :3] * 0


def test_rules_that_round_an_output_of_exactly_zero_are_followed():
    model = Model(silent_net())
    with Passes(model) as passes:
        score, _, (slopes,) = passes.gradient((X,), Class(1).freeze(model, torch.zeros(5, 3)), rules=_to_zero)
    assert torch.equal(score, torch.full((5,), 1e-9))
    assert not slopes.any()


@pytest.mark.parametrize("net", [silent_net(), linear_net()])
@pytest.mark.parametrize("rules", [_to_nothing, _elsewhere])
def test_rules_that_change_the_output_are_refused(net, rules):
    model = Model(net)
    read = Class(1).freeze(model, torch.zeros(5, 3))
    with Passes(model) as passes, pytest.raises(GuardError, match="the rules cannot follow"):
        passes.gradient((X,), read, rules=rules)


def test_a_value_that_is_no_number_names_its_row():
    def rules(_model, forward):
        def run(x):
            (output,) = forward(x)
            broken = torch.where(torch.arange(len(x)) == 3, torch.nan, 0.0)
            return (output + broken[:, None],)

        return run

    model = Model(linear_net())
    with Passes(model) as passes, pytest.raises(GuardError, match="gives nan in row 3"):
        passes.gradient((X,), Class(1).freeze(model, torch.zeros(5, 3)), rules=rules)


class Normalised(nn.Module):
    """An instance norm behind which activations are permuted, so that its gradient arrives channels-last."""

    def __init__(self, rank, width, *, scripted):
        super().__init__()
        torch.manual_seed(0)
        norm = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[rank](width, affine=True)
        self.norm = torch.jit.script(norm) if scripted else norm
        self.mix = nn.Linear(width, 4)

    def forward(self, x):
        h = self.mix(self.norm(x).movedim(1, -1)).tanh()
        return h.flatten(1, -2).square().mean(1)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("space", [(7,), (4, 5), (3, 3), (3, 4, 2)])
def test_one_rows_gradient_through_an_instance_norm_equals_finite_differences(space, width, scripted):
    """Torch's own is wrong there for a batch of one: see `graph.lay_out_gradients`."""
    model = Model(Normalised(len(space), width, scripted=scripted).double())
    stream = torch.Generator().manual_seed(1)
    x, along = (torch.randn(3, width, *space, generator=stream, dtype=torch.float64) for _ in range(2))
    read = Class(2).freeze(model, torch.zeros(3, 4))
    with Passes(model) as passes:
        there, back = (passes.scores((x + step * along,), read) for step in (1e-5, -1e-5))
        together = passes.gradient((x,), read)[2][0]
    with Passes(model, batch_size=1) as passes:
        alone = passes.gradient((x,), read)[2][0]
    torch.testing.assert_close((alone * along).flatten(1).sum(1), (there - back) / 2e-5, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(alone, together)
