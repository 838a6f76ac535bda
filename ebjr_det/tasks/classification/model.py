"""Classifiers as `types.Model`: the CIFAR networks, any timm or torchvision name, any callable.

A classifier owns its preprocessing. Heavy libraries are imported only for the family that is asked for.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.io.checkpoints import (
    check_classes,
    check_sha256,
    find_checkpoint,
    load_into,
    read_classes,
    read_state,
)
from ebjr_det.io.third_party import foreign_errors, import_callable
from ebjr_det.runtimes import Network
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.networks.cifar import NETWORKS
from ebjr_det.tasks.classification.networks.classifier import Classifier, Surroundings
from ebjr_det.tasks.classification.networks.ebjr_flops import count_ebjr_flops
from ebjr_det.tasks.classification.networks.preprocessing import (
    CIFAR_STATISTICS,
    OnPil,
    Preprocessing,
    Transform,
    described,
    parse_preprocessing,
)
from ebjr_det.tasks.classification.networks.published import compare_classes, published_names


class TorchClassifier(Classifier):
    """A torch classifier, in eager torch until it is given another runtime.

    Args:
        name: shown in tables.
        network: float images [images, 3, h, w] -> logits [images, classes].
        preprocess: one image of the data set -> one input tensor.
        device: where the network runs, for example `cpu` or `cuda`.
    """

    def __init__(
        self,
        name: str,
        network: Callable[[Tensor], Tensor],
        preprocess: Callable[[Any], Tensor],
        device: str = "cpu",
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
        told = described(self.preprocess)
        return None if told is None else Surroundings(told)

    def facts(self, image: Any) -> dict[str, int]:
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


def build_model(
    data: ImageSet,
    arch: str,
    *,
    device: str = "cpu",
    name: str | None = None,
    depth: int | None = None,
    growth: int | None = None,
    width: int | None = None,
    block: str | None = None,
    checkpoint: str | None = None,
    sha256: str | None = None,
    pretrained: bool = False,
    random_weights: bool = False,
    options: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> TorchClassifier:
    """A classifier, its weights loaded and its class count checked on one image.

    Args:
        arch: `densenet`, `resnet`, `preresnet` or `wrn` (CIFAR networks from `depth` and `growth`, `width`
            or `block`); `timm/NAME`; `torchvision/NAME`; or `package.module:function`, called with
            `num_classes` and `options`, that returns what maps [images, 3, h, w] to [images, classes].
        data: gives the class count and an image to try the model on.
        checkpoint: manifest name or path; `sha256`: its expected checksum.
        pretrained: take the library's own weights (timm and torchvision; downloads).
        random_weights: say that an untrained network is meant; a callable brings weights of its own.
        options: further arguments of the network's builder.
        preprocessing: fields of `Preprocessing`, which then replaces the family's own as a whole. Without
            it CIFAR networks use CIFAR's statistics, timm and torchvision models their library's evaluation
            transform, and a callable gets values in [0, 1].

    Raises:
        ConfigError: unknown names, arguments that the builder does not take, a wrong class count.
        CheckpointError: see `checkpoints`.
    """
    shape = {"depth": depth, "growth": growth, "width": width, "block": block}
    given = {key: value for key, value in shape.items() if value is not None} | dict(options or {})
    network, transform = _build(arch, data.num_classes, pretrained, given)
    if checkpoint is None and not (pretrained or random_weights or ":" in arch):
        raise ConfigError(
            f"Expected weights for `{arch}`, got none. Give `checkpoint` or `pretrained: true`, or say "
            "`random_weights: true`."
        )
    if checkpoint is not None:
        path = find_checkpoint(checkpoint)
        if sha256 is not None:
            check_sha256(path, sha256)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"Expected a torch module to load `{checkpoint}` into, got `{arch}`.")
        check_classes(path, data.class_names)
        load_into(network, read_state(path), checkpoint)
    if preprocessing:
        with foreign_errors("`preprocessing` that can be built"):
            transform = parse_preprocessing(preprocessing).build()
    label = name or "-".join([arch.split("/")[-1], *(str(v) for v in shape.values() if v is not None)])
    model = TorchClassifier(label, network, transform, device)
    image = data.load(0)
    with foreign_errors(f"`{label}` to take an image of the data, preprocessed as set"):
        inputs = [model.preprocess(image)]
        classes = model(inputs).logits.values.shape[2]
    if classes != data.num_classes:
        raise ConfigError(
            f"Expected `{label}` to give {data.num_classes} logits, one a class of the data, got {classes}."
        )
    model.shape = tuple(inputs[0].shape)
    if checkpoint is None and not random_weights:
        names = published_names(arch, network, pretrained, given)
        compare_classes(label, data.class_names, names, published=pretrained)
    elif checkpoint is not None and read_classes(path) is None:
        compare_classes(label, data.class_names)
    return model


def _build(
    arch: str, num_classes: int, pretrained: bool, options: dict[str, Any]
) -> tuple[Callable[[Tensor], Tensor], Transform]:
    library, slash, rest = arch.partition("/")
    if slash and library in LIBRARIES:
        return LIBRARIES[library](rest, num_classes, pretrained, options)
    if pretrained:
        raise ConfigError(f"Expected `pretrained` with timm/ or torchvision/, got it with `{arch}`.")
    if ":" in arch:
        builder: Callable[..., Any] = import_callable(arch)
        transform = Preprocessing((0.0,) * 3, (1.0,) * 3).build()
    elif arch in NETWORKS:
        builder, transform = NETWORKS[arch], Preprocessing(*CIFAR_STATISTICS).build()
    else:
        valid = [*NETWORKS, "timm/NAME", "torchvision/NAME", "package.module:function"]
        raise ConfigError(f"Expected a known `arch`, got `{arch}`. {did_you_mean(arch, valid)}")
    with foreign_errors(f"arguments from which `{arch}` can be built"):
        return builder(num_classes=num_classes, **options), transform


def _from_timm(
    name: str, num_classes: int, pretrained: bool, options: dict[str, Any]
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
    name: str, num_classes: int, pretrained: bool, options: dict[str, Any]
) -> tuple[nn.Module, Transform]:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ConfigError(
            f"Expected a torchvision classifier, got `{name}`. "
            + did_you_mean(name, models.list_models(module=models))
        )
    with foreign_errors(f"arguments from which `torchvision/{name}` can be built"):
        if pretrained:
            network = models.get_model(name, weights="DEFAULT", **options)
        else:
            network = models.get_model(name, num_classes=num_classes, **options)
    return network, OnPil(models.get_model_weights(name).DEFAULT.transforms())


LIBRARIES = {"timm": _from_timm, "torchvision": _from_torchvision}
