"""Classifiers as `types.Model`: the CIFAR networks, any timm or torchvision name, any callable.

A classifier owns its preprocessing. Heavy libraries are imported only for the family that is asked for.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebjr_det.config import parse_section
from ebjr_det.core.errors import ConfigError, check_known, did_you_mean
from ebjr_det.io.checkpoints.finding import check_classes, read_classes
from ebjr_det.io.checkpoints.fitting import load_into
from ebjr_det.io.checkpoints.reading import read_state
from ebjr_det.io.third_party import foreign_errors, import_callable
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.registry import Network
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.libraries import LIBRARIES as BROUGHT
from ebjr_det.tasks.classification.networks.cifar import NETWORKS
from ebjr_det.tasks.classification.networks.classifier import Classifier, Surroundings
from ebjr_det.tasks.classification.networks.ebjr_flops import count_ebjr_flops
from ebjr_det.tasks.classification.networks.preprocessing import (
    CIFAR_STATISTICS,
    OnPil,
    Picture,
    Preprocessing,
    Transform,
    described,
    parse_preprocessing,
)
from ebjr_det.tasks.classification.networks.published import compare_classes, published_names
from ebjr_det.tasks.classification.settings import ClassifierSection
from ebjr_det.tasks.weights import check_weights, find_weights

SHAPE = {"depth", "growth", "width", "block"}  # settings of a CIFAR network


class TorchClassifier(Classifier):
    """A torch classifier, in eager torch until it is given another runtime.

    Args:
        name: shown in tables.
        network: float images [images, 3, h, w] -> logits [images, classes].
        preprocess: one image of the data set -> one input tensor.
        device: where the network runs, for example `cpu` or `cuda`.
    """

    def __init__(
        self, name: str, network: Callable[[Tensor], Tensor], preprocess: Transform, device: str = "cpu"
    ) -> None:
        self.device, self.network = torch.device(device), network
        self.graph: Callable[[Tensor], tuple[Tensor, ...]] = lambda images: (network(images),)
        if isinstance(network, nn.Module):
            self.network = network.eval().to(self.device)
            self.graph = LogitsGraph(network)
        self.eager: Network = TorchNetwork(self.graph, device)
        super().__init__(name, preprocess, self.eager)

    @property
    def around(self) -> Surroundings | None:
        """What surrounds the network as plain numbers, or None where its preprocessing is code."""
        preprocessing = described(self.preprocess)
        return None if preprocessing is None else Surroundings(preprocessing)

    def facts(self, image: Picture) -> dict[str, int]:
        """Exact numbers of a module beside its MACs: parameters and, where defined, EBJR's own FLOPs."""
        if not isinstance(self.network, nn.Module):
            return {}
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            try:
                flops = count_ebjr_flops(self.network, self.preprocess(image)[None].to(self.device))
            except UserWarning:  # it has layers that this convention does not know
                return {"parameters": parameters}
        return {"parameters": parameters, "ebjr_flops": flops}


class LogitsGraph(nn.Module):
    """A classifier as a graph of named outputs, for runtimes."""

    outputs = ("logits",)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """[images, 3, h, w] -> logits [images, classes]."""
        return (self.network(images),)


def build_model(data: ImageSet, arch: str, *, device: str = "cpu", **fields: object) -> Classifier:
    """A classifier for the classes of the data, tried on one image of it.

    Args:
        arch: `densenet`, `resnet`, `preresnet` or `wrn` (`networks.cifar`); `timm/NAME`; `torchvision/NAME`;
            `transformers/NAME_OR_FOLDER`; or `package.module:function`, called with `num_classes` and
            `options`, that returns what maps [images, 3, h, w] to [images, classes].
        data: gives the class count and an image to try the model on.
        fields: of `settings.ClassifierSection`: `depth`, `growth`, `width` and `block` shape a CIFAR network;
            `pretrained` takes the library's own weights (timm and torchvision; downloads); `options` go to
            the network's builder; `preprocessing`, fields of `Preprocessing`, replaces the family's own: the
            statistics of CIFAR, the evaluation transform of timm or torchvision, [0, 1] for a callable.

    Raises:
        ConfigError: unknown names, arguments that the builder does not take, a wrong class count.
        CheckpointError: see `checkpoints`.
    """
    settings = parse_section(ClassifierSection, {"arch": arch, **fields})
    library, slash, reference = arch.partition("/")
    if slash and library in BROUGHT:
        return _tried(BROUGHT[library](settings, reference, data, device), data)
    shape = settings.model_dump(include=SHAPE, exclude_none=True)
    options = shape | settings.options
    network, transform = _build(arch, data.num_classes, settings.pretrained, options)
    if ":" not in arch:
        check_weights(settings)
    path = find_weights(settings)
    if path is not None:
        if not isinstance(network, nn.Module):
            raise ConfigError(f"Expected a torch module to load `{settings.checkpoint}` into, got `{arch}`.")
        check_classes(path, data.class_names)
        load_into(network, read_state(path), str(settings.checkpoint))
    if settings.preprocessing:
        with foreign_errors("`preprocessing` that can be built"):
            transform = parse_preprocessing(settings.preprocessing).build()
    label = settings.name or "-".join([arch.split("/")[-1], *map(str, shape.values())])
    model = _tried(TorchClassifier(label, network, transform, device), data)
    if path is None and not settings.random_weights:
        names = published_names(arch, network, settings.pretrained, options)
        compare_classes(model.name, data.class_names, names, published=settings.pretrained)
    elif path is not None and read_classes(path) is None:
        compare_classes(model.name, data.class_names)
    return model


def _tried(model: Classifier, data: ImageSet) -> Classifier:
    """The model, its `shape` set. Raises ConfigError where it gives other logits than one a class."""
    image = data.load(0)
    with foreign_errors(f"`{model.name}` to take an image of the data, preprocessed as set"):
        inputs = [model.preprocess(image)]
        classes = model(inputs).logits.values.shape[2]
    if classes != data.num_classes:
        raise ConfigError(
            f"Expected `{model.name}` to give {data.num_classes} logits, one a class of the data, "
            f"got {classes}."
        )
    model.shape = tuple(inputs[0].shape)
    return model


def _build(
    arch: str, num_classes: int, pretrained: bool, options: dict[str, object]
) -> tuple[Callable[[Tensor], Tensor], Transform]:
    library, slash, network_name = arch.partition("/")
    if slash and library in LIBRARIES:
        return LIBRARIES[library](network_name, num_classes, pretrained, options)
    if pretrained:
        raise ConfigError(f"Expected `pretrained` with timm/ or torchvision/, got it with `{arch}`.")
    if ":" in arch:
        builder = import_callable(arch)
        transform = Preprocessing((0.0,) * 3, (1.0,) * 3).build()
    elif arch in NETWORKS:
        builder, transform = NETWORKS[arch], Preprocessing(*CIFAR_STATISTICS).build()
    else:
        brought = [f"{library}/..." for library in BROUGHT]
        valid = [*NETWORKS, "timm/NAME", "torchvision/NAME", *brought, "package.module:function"]
        raise ConfigError(f"Expected a known `arch`, got `{arch}`. {did_you_mean(arch, valid)}")
    with foreign_errors(f"arguments from which `{arch}` can be built"):
        return builder(num_classes=num_classes, **options), transform


def _from_timm(
    name: str, num_classes: int, pretrained: bool, options: dict[str, object]
) -> tuple[nn.Module, Transform]:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    if not timm.is_model(name):
        raise ConfigError(f"Expected a timm model, got `{name}`. {did_you_mean(name, timm.list_models())}")
    with foreign_errors(f"arguments from which `timm/{name}` can be built"):
        if pretrained:  # timm would quietly give another class count a new, untrained head
            network = timm.create_model(name, pretrained=True, **options)
        else:
            network = timm.create_model(name, num_classes=num_classes, **options)
    return network, OnPil(create_transform(**resolve_model_data_config(network), is_training=False))


def _from_torchvision(
    name: str, num_classes: int, pretrained: bool, options: dict[str, object]
) -> tuple[nn.Module, Transform]:
    from torchvision import models

    names = models.list_models(module=models)
    check_known(name, names, "a torchvision classifier")
    with foreign_errors(f"arguments from which `torchvision/{name}` can be built"):
        if pretrained:
            network = models.get_model(name, weights="DEFAULT", **options)
        else:
            network = models.get_model(name, num_classes=num_classes, **options)
    return network, OnPil(models.get_model_weights(name).DEFAULT.transforms())


LIBRARIES = {"timm": _from_timm, "torchvision": _from_torchvision}
