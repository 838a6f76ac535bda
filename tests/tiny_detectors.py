"""Random detectors and classifiers of other libraries' real architectures, small enough for a test."""

import torch
from PIL import Image

CLASSES = 6
SIDE = 96
NAMES = {index: f"class {index + 1}" for index in range(CLASSES)}
WORDS = tuple(NAMES.values())
KINDS = ("rt_detr", "rt_detr_v2", "d_fine", "deformable_detr", "conditional_detr", "detr", "yolos")


def transformers_network(kind, names=None):
    """A random network of the library whose scores spread."""
    import transformers as library

    library.logging.set_verbosity_error()
    labels = {"id2label": names or NAMES, "label2id": {name: key for key, name in (names or NAMES).items()}}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = BUILDERS[kind](library, labels).eval()
        spread(network)
    return network


def spread(network):
    """Weights with which answers depend on the picture and the query, as those of a trained network do."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
        elif "class" in name or "score" in name:
            torch.nn.init.zeros_(parameter)


def small_resnet(library, **changes):
    return library.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"], **changes,
    )  # fmt: skip


def real_time(library, labels, name):
    config = getattr(library, f"{name}Config")(
        backbone_config=small_resnet(library), d_model=32, encoder_hidden_dim=32,
        encoder_in_channels=[12, 16, 24], encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_layers=2, num_queries=30,
        decoder_in_channels=[32] * 3, **labels,
    )  # fmt: skip
    return getattr(library, f"{name}ForObjectDetection")(config)


def with_resnet(library, labels, name, **changes):
    backbone = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"] if name != "DeformableDetr" else ["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = getattr(library, f"{name}Config")(
        use_timm_backbone=False, backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2,
        num_queries=25, **changes, **labels,
    )  # fmt: skip
    return getattr(library, f"{name}ForObjectDetection")(config)


def yolos(library, labels):
    config = library.YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=[SIDE, SIDE], num_detection_tokens=20, use_mid_position_embeddings=False, **labels,
    )  # fmt: skip
    return library.YolosForObjectDetection(config)


BUILDERS = {
    "rt_detr": lambda library, labels: real_time(library, labels, "RTDetr"),
    "rt_detr_v2": lambda library, labels: real_time(library, labels, "RTDetrV2"),
    "d_fine": lambda library, labels: real_time(library, labels, "DFine"),
    "deformable_detr": lambda library, labels: with_resnet(library, labels, "DeformableDetr"),
    "conditional_detr": lambda library, labels: with_resnet(library, labels, "ConditionalDetr"),
    "detr": lambda library, labels: with_resnet(library, labels, "Detr"),
    "yolos": yolos,
}


def processor_of(kind, *, square=True):
    """The library's own preprocessing of a kind of network, for small pictures, in PIL."""
    import transformers as library

    size = {"height": SIDE, "width": SIDE} if square else {"shortest_edge": 64, "longest_edge": SIDE}
    names = {
        "rt_detr": "RTDetr", "rt_detr_v2": "RTDetr", "d_fine": "RTDetr", "deformable_detr": "DeformableDetr",
        "conditional_detr": "ConditionalDetr", "detr": "Detr", "yolos": "Yolos",
    }  # fmt: skip
    kwargs = {} if kind in ("rt_detr", "rt_detr_v2", "d_fine") else {"do_pad": not square}
    return getattr(library, f"{names[kind]}ImageProcessorPil")(size=size, **kwargs)


def save_transformers(kind, folder, *, square=True, names=None):
    """A folder as `save_pretrained` writes it."""
    transformers_network(kind, names).save_pretrained(folder)
    processor_of(kind, square=square).save_pretrained(folder)
    return folder


def save_classifier(folder, names=None):
    """A tiny ViT as `save_pretrained` writes it."""
    import transformers as library

    labels = names or NAMES
    config = library.ViTConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=32,
        patch_size=8, id2label=labels, label2id={name: key for key, name in labels.items()},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = library.ViTForImageClassification(config).eval()
    network.save_pretrained(folder)
    library.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return network


def pictures(count=3, seed=1):
    """Blurred blocks of colour of several sizes."""
    import numpy as np

    generator = np.random.default_rng(seed)
    sizes = [(97, 61), (120, 150), (64, 64), (200, 90)]
    made = []
    for index in range(count):
        blocks = Image.fromarray(generator.integers(256, size=(5, 4, 3), dtype=np.uint8))
        made.append(blocks.resize(sizes[index % 4], Image.Resampling.BICUBIC))
    return made


class Data:
    """The classes of a data set."""

    def __init__(self, names=WORDS):
        self.categories = dict(enumerate(names, start=1))
        self.class_names = tuple(names)
