"""The CIFAR networks and their FLOPs against papers, the EBJR authors' checkpoints and formulas by hand."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.tasks.classification.networks.cifar import NETWORKS, densenet, preresnet, resnet, wrn
from ebjr_det.tasks.classification.networks.ebjr_flops import count_ebjr_flops

# EBJR's four networks: data set, classes, depth, growth, parameters, FLOPs as the authors' runs print them.
PUBLISHED = [
    ("cifar10", 10, 52, 6, 68_704, 54_754_784),
    ("cifar10", 10, 64, 12, 368_122, 292_380_404),
    ("cifar100", 100, 58, 6, 90_271, 64_281_872),
    ("cifar100", 100, 88, 8, 298_900, 214_001_928),
]
published = pytest.mark.parametrize(("data", "classes", "depth", "growth", "parameters", "flops"), PUBLISHED)


def on_meta(build, **settings):
    """A network with shapes only: no memory, no arithmetic."""
    with torch.device("meta"):
        return build(**settings)


def count_parameters(network, without="none"):
    return sum(p.numel() for name, p in network.named_parameters() if without not in name)


def state_shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def shared_checkpoint(name):
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("EBJR_DET_SHARED_DATA", root.parent / "shared" / "data"))
    path = data / "ebjr_checkpoints" / name
    if not path.is_file():
        pytest.skip(f"needs {name} of the EBJR authors: set EBJR_DET_SHARED_DATA to the folder over it")
    return torch.load(path, weights_only=True, map_location="cpu")["state_dict"]


# --- Sizes that papers and the authors' code state ---


@published
def test_densenet_has_the_published_parameters_and_flops(data, classes, depth, growth, parameters, flops):
    network = on_meta(densenet, num_classes=classes, depth=depth, growth=growth)
    assert count_parameters(network) == parameters
    assert count_ebjr_flops(network, torch.zeros(1, 3, 32, 32, device="meta")) == flops


@pytest.mark.parametrize(("depth", "growth", "millions"), [(100, 12, 0.8), (250, 24, 15.3), (190, 40, 25.6)])
def test_densenet_has_the_parameters_of_its_paper(depth, growth, millions):
    network = on_meta(densenet, num_classes=10, depth=depth, growth=growth)
    assert round(count_parameters(network) / 1e6, 1) == millions


# He et al. 2016, table 6. Its shortcuts are free of parameters (option A), so ours are left out of the count.
@pytest.mark.parametrize(
    ("depth", "millions", "digits"),
    [(20, 0.27, 2), (32, 0.46, 2), (44, 0.66, 2), (56, 0.85, 2), (110, 1.7, 1)],
)
def test_resnet_has_the_parameters_of_its_paper(depth, millions, digits):
    network = on_meta(resnet, num_classes=10, depth=depth)
    assert round(count_parameters(network, without="downsample") / 1e6, digits) == millions
    assert count_parameters(network) - count_parameters(network, without="downsample") == 2752


@pytest.mark.parametrize(("depth", "block", "millions"), [(110, "basic", 1.7), (164, "bottleneck", 1.7)])
def test_preresnet_has_the_parameters_of_its_paper(depth, block, millions):
    network = on_meta(preresnet, num_classes=10, depth=depth, block=block)
    assert round(count_parameters(network) / 1e6, 1) == millions


# Zagoruyko and Komodakis 2016, tables 3 to 5.
@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (28, 10, 36.5), (22, 8, 17.2), (16, 4, 2.7), (16, 8, 11.0)],
)
def test_wrn_has_the_parameters_of_its_paper(depth, width, millions):
    network = on_meta(wrn, num_classes=10, depth=depth, width=width)
    assert round(count_parameters(network) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("build", "settings", "depth"),
    [
        (densenet, {"growth": 4}, 22),
        (resnet, {}, 20),
        (resnet, {"block": "bottleneck"}, 29),
        (preresnet, {}, 14),
        (preresnet, {"block": "bottleneck"}, 20),
    ],
)
def test_depth_counts_convolutions_and_linear_layers_outside_shortcuts(build, settings, depth):
    modules = on_meta(build, num_classes=10, depth=depth, **settings).named_modules()
    layers = [name for name, module in modules if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == depth


def test_depth_of_wrn_counts_all_convolutions():
    modules = on_meta(wrn, num_classes=10, depth=16, width=2).modules()
    assert len([module for module in modules if isinstance(module, nn.Conv2d)]) == 16


# --- The state dict: names and shapes of bearpaw/pytorch-classification ---


@pytest.mark.shared
@published
def test_published_checkpoint_loads_strictly(data, classes, depth, growth, parameters, flops):
    state = shared_checkpoint(f"{data}__densenet-bc-{depth}-{growth}.pth.tar")
    network = densenet(classes, depth, growth).eval()
    network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=True)
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).isfinite().all()


def norm_shapes(name, channels):
    tensors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{tensor}": (channels,) for tensor in tensors} | {f"{name}.num_batches_tracked": ()}


def ends_shapes(norm, norm_channels, channels):
    head = {"fc.weight": (10, channels), "fc.bias": (10,)}
    return {"conv1.weight": (16, 3, 3, 3)} | norm_shapes(norm, norm_channels) | head


def test_resnet_names():
    expected = ends_shapes("bn1", 16, 64)
    for stage, before, after in [(1, 16, 16), (2, 16, 32), (3, 32, 64)]:
        unit = f"layer{stage}.0"
        expected[f"{unit}.conv1.weight"] = (after, before, 3, 3)
        expected[f"{unit}.conv2.weight"] = (after, after, 3, 3)
        expected |= norm_shapes(f"{unit}.bn1", after) | norm_shapes(f"{unit}.bn2", after)
        if stage > 1:
            expected[f"{unit}.downsample.0.weight"] = (after, before, 1, 1)
            expected |= norm_shapes(f"{unit}.downsample.1", after)
    assert state_shapes(resnet(10, 8)) == expected


def test_preresnet_bottleneck_names():
    expected = ends_shapes("bn", 256, 256)
    for stage, before, inner in [(1, 16, 16), (2, 64, 32), (3, 128, 64)]:
        unit, after = f"layer{stage}.0", 4 * inner
        expected[f"{unit}.conv1.weight"] = (inner, before, 1, 1)
        expected[f"{unit}.conv2.weight"] = (inner, inner, 3, 3)
        expected[f"{unit}.conv3.weight"] = (after, inner, 1, 1)
        expected[f"{unit}.downsample.0.weight"] = (after, before, 1, 1)
        for norm, channels in [("bn1", before), ("bn2", inner), ("bn3", inner)]:
            expected |= norm_shapes(f"{unit}.{norm}", channels)
    assert state_shapes(preresnet(10, 11, block="bottleneck")) == expected


def test_wrn_names():
    expected = ends_shapes("bn1", 128, 128)
    for stage, before, after in [(1, 16, 32), (2, 32, 64), (3, 64, 128)]:
        unit = f"block{stage}.layer.0"
        expected[f"{unit}.conv1.weight"] = (after, before, 3, 3)
        expected[f"{unit}.conv2.weight"] = (after, after, 3, 3)
        expected[f"{unit}.convShortcut.weight"] = (after, before, 1, 1)
        expected |= norm_shapes(f"{unit}.bn1", before) | norm_shapes(f"{unit}.bn2", after)
    assert state_shapes(wrn(10, 10, 2)) == expected


# --- What the networks compute, in float64, against the same formula written with functions ---


def randomised(network):
    """Norms with statistics and weights of their own, so that a norm in the wrong place shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.double().eval()


class ByHand:
    """conv and norm by the names of a state dict."""

    def __init__(self, network):
        self.state = network.state_dict()

    def conv(self, x, name, stride=1):
        weight = self.state[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, x, name):
        mean, var, weight, bias = (
            self.state[f"{name}.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def head(self, x):
        return functional.linear(x.mean((2, 3)), self.state["fc.weight"], self.state["fc.bias"])


def resnet_by_hand(network, x):
    net = ByHand(network)
    x = net.norm(net.conv(x, "conv1"), "bn1").relu()
    for unit, stride in [("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)]:
        out = net.norm(net.conv(x, f"{unit}.conv1", stride), f"{unit}.bn1").relu()
        out = net.norm(net.conv(out, f"{unit}.conv2"), f"{unit}.bn2")
        if stride == 2:
            x = net.norm(net.conv(x, f"{unit}.downsample.0", stride), f"{unit}.downsample.1")
        x = (out + x).relu()
    return net.head(x)


def preresnet_by_hand(network, x):
    net = ByHand(network)
    x = net.conv(x, "conv1")
    for unit, stride in [("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)]:
        out = net.conv(net.norm(x, f"{unit}.bn1").relu(), f"{unit}.conv1")
        out = net.conv(net.norm(out, f"{unit}.bn2").relu(), f"{unit}.conv2", stride)
        out = net.conv(net.norm(out, f"{unit}.bn3").relu(), f"{unit}.conv3")
        x = out + net.conv(x, f"{unit}.downsample.0", stride)
    return net.head(net.norm(x, "bn").relu())


def wrn_by_hand(network, x):
    net = ByHand(network)
    x = net.conv(x, "conv1")
    for unit, stride in [("block1.layer.0", 1), ("block2.layer.0", 2), ("block3.layer.0", 2)]:
        active = net.norm(x, f"{unit}.bn1").relu()
        out = net.conv(active, f"{unit}.conv1", stride)
        out = net.conv(net.norm(out, f"{unit}.bn2").relu(), f"{unit}.conv2")
        x = out + net.conv(active, f"{unit}.convShortcut", stride)
    return net.head(net.norm(x, "bn1").relu())


def densenet_by_hand(network, x):
    net = ByHand(network)
    x = net.conv(x, "conv1")
    for stage in (1, 2, 3):
        layer = f"dense{stage}.0"
        new = net.conv(net.norm(x, f"{layer}.bn1").relu(), f"{layer}.conv1")
        new = net.conv(net.norm(new, f"{layer}.bn2").relu(), f"{layer}.conv2")
        x = torch.cat((x, new), 1)
        if stage < 3:
            x = net.conv(net.norm(x, f"trans{stage}.bn1").relu(), f"trans{stage}.conv1")
            x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    return net.head(net.norm(x, "bn").relu())


@pytest.mark.parametrize(
    ("build", "settings", "by_hand"),
    [
        (densenet, {"depth": 10, "growth": 5}, densenet_by_hand),
        (resnet, {"depth": 8}, resnet_by_hand),
        (preresnet, {"depth": 11, "block": "bottleneck"}, preresnet_by_hand),
        (wrn, {"depth": 10, "width": 2}, wrn_by_hand),
    ],
)
def test_forward_is_the_formula(build, settings, by_hand):
    torch.manual_seed(0)
    network = randomised(build(num_classes=10, **settings))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(network, x), rtol=1e-10, atol=1e-10)
    assert torch.equal(x, before)


@pytest.mark.parametrize("build", [resnet, preresnet])
def test_a_unit_that_keeps_its_shape_has_the_identity_as_shortcut(build):
    unit = randomised(build(10, 14)).layer1[1]
    last = unit.bn2 if build is resnet else unit.conv2
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    x = torch.rand(1, 16, 8, 8, dtype=torch.float64)
    assert torch.equal(unit(x), x)


# --- Inputs and settings ---


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (40, 24), (9, 7)])
@pytest.mark.parametrize(("name", "settings"), [("resnet", {}), ("preresnet", {}), ("wrn", {"width": 1})])
def test_residual_networks_take_other_input_sizes(name, settings, size):
    depth = 10 if name == "wrn" else 8
    network = NETWORKS[name](num_classes=7, depth=depth, **settings).eval()
    assert network(torch.zeros(2, 3, *size)).shape == (2, 7)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 32), (31, 32)])
def test_densenet_names_a_wrong_input_size(height, width):
    with pytest.raises(InvalidInput, match=rf"32x32 images, got shape \[1, 3, {height}, {width}\]"):
        densenet(10, 10, 4)(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("densenet", {"growth": 4}), ("resnet", {}), ("preresnet", {}), ("wrn", {"width": 1})],
)
def test_every_parameter_learns(name, settings):
    torch.manual_seed(0)
    depth = 8 if "resnet" in name else 10
    network = NETWORKS[name](num_classes=10, depth=depth, **settings)
    functional.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("wrn", {"depth": 53, "width": 1}, "to be 6n+4 (10, 16, 22, ...), got 53. Nearest: 52."),
        ("densenet", {"depth": 12, "growth": 4}, "to be 6n+4 (10, 16, 22, ...), got 12. Nearest: 10."),
        ("resnet", {"depth": 18}, "to be 6n+2 (8, 14, 20, ...), got 18. Nearest: 20."),
        ("resnet", {"depth": 44, "block": "bottleneck"}, "9n+2 (11, 20, 29, ...), got 44. Nearest: 47."),
        ("preresnet", {"depth": 2}, "to be 6n+2 (8, 14, 20, ...), got 2. Nearest: 8."),
        ("preresnet", {"depth": 1000, "block": "bottleneck"}, "got 1000. Nearest: 1001."),
        ("resnet", {"depth": 20.0}, "Expected `depth` to be a whole number >= 1, got 20.0."),
        ("resnet", {"depth": 20, "width": 0}, "Expected `width` to be a whole number >= 1, got 0."),
        ("wrn", {"depth": 16, "width": -2}, "Expected `width` to be a whole number >= 1, got -2."),
        ("densenet", {"depth": 16, "growth": 0}, "Expected `growth` to be a whole number >= 1, got 0."),
        ("densenet", {"depth": 16, "growth": True}, "Expected `growth` to be a whole number >= 1, got True."),
        ("densenet", {"depth": 16, "growth": 4, "num_classes": 0}, "Expected `num_classes` to be"),
        ("densenet", {"depth": 16, "growth": 4, "compression": 0}, "Expected `compression` to be"),
        ("densenet", {"depth": 16, "growth": 4, "compression": 17}, "at most 16 (the channels before"),
        ("resnet", {"depth": 20, "block": "bottelneck"}, "got 'bottelneck'. Did you mean `bottleneck`?"),
    ],
)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(ConfigError) as error:
        NETWORKS[name](**({"num_classes": 10} | settings))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- FLOPs in the EBJR authors' convention ---

IMAGE = torch.zeros(1, 4, 8, 8)


@pytest.mark.parametrize(
    ("module", "operations"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, stride=2), 4 * 4 * 6 * (4 * 9)),
        (nn.Conv2d(4, 8, (1, 3), groups=2), 8 * 6 * 8 * (2 * 3)),
        (nn.ReLU(), 4 * 8 * 8),
        (nn.AvgPool2d(2), 4 * 4 * 4 * 4),
        (nn.MaxPool2d((3, 2), stride=1), 4 * 6 * 7 * 6),
        (nn.AdaptiveAvgPool2d(2), 4 * 8 * 8),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), 256 * 10 + 10),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 10, bias=False)), 256 * 10),
        (nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(), nn.Identity(), nn.Sequential()), 0),
        (nn.Sequential(*[nn.ReLU()] * 3), 3 * 4 * 8 * 8),
    ],
)
def test_flops_of_one_module_by_hand(module, operations):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_ebjr_flops(module, IMAGE) == 2 * operations


def test_flops_name_the_modules_they_do_not_know():
    network = nn.Sequential(nn.SiLU(), nn.GroupNorm(2, 4), nn.ReLU())
    with pytest.warns(UserWarning, match="as 0: GroupNorm, SiLU"):
        assert count_ebjr_flops(network, IMAGE) == 2 * 4 * 8 * 8


def test_flops_leave_the_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).train()
    network[1].eval()  # a frozen norm inside a network in training
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_ebjr_flops(network, IMAGE)
    assert [module.training for module in network.modules()] == [True, True, False, True]
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_flops_leave_no_hook_when_the_network_fails():
    network = densenet(10, 10, 4).train()
    with pytest.raises(InvalidInput):
        count_ebjr_flops(network, torch.zeros(1, 3, 64, 64))
    assert all(module.training and not module._forward_hooks for module in network.modules())


def test_flops_are_for_one_image():
    with pytest.raises(InvalidInput, match=r"hold 1 image, got shape \[2, 4, 8, 8\]"):
        count_ebjr_flops(nn.ReLU(), torch.zeros(2, 4, 8, 8))
