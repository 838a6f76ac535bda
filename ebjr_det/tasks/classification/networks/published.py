"""What the outputs of a published classifier are called, and whether the data's classes are these, in order.

A library's weights come with the names of their outputs; a folder of pictures has class folders, by name.
Nothing else ties the two together: a network of 1,000 outputs answers any data of 1,000 classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.notes import say
from ebjr_det.tasks.popular import known_as
from ebjr_det.tasks.weights import library_names

IMAGENET = 1000  # classes, by far the most usual
EXAMPLES = 3  # names in a message

Names: TypeAlias = Sequence[frozenset[str]]
"""All words that each output may be called by."""


def timm_names(outputs: int) -> Names | None:
    """WordNet ids and words of the ImageNet of so many classes, as timm has them; None of another count."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    words = zip(info.label_names(), info.label_descriptions(), strict=True)
    return [frozenset(map(known_as, (label, *text.split(", ")))) for label, text in words]


def torchvision_names(categories: Sequence[str]) -> Names:
    """Words as torchvision has them, and where they are ImageNet's also its WordNet ids."""
    ids = (timm_names(IMAGENET) if len(categories) == IMAGENET else None) or [frozenset()] * len(categories)
    return [words | {known_as(name)} for words, name in zip(ids, categories, strict=True)]


def published_names(arch: str, network: Any, pretrained: bool, options: Mapping[str, object]) -> Names | None:
    """What the library's own weights call the outputs; None of other weights, or where it does not tell."""
    library, _, name = arch.partition("/")
    if library == "torchvision" and pretrained:
        return torchvision_names(library_names(name))
    if hasattr(network, "pretrained_cfg") and (pretrained or options.get("pretrained")):
        check_head(network, arch)
        return timm_names(int(network.num_classes))
    return None


def compare_classes(
    label: str, class_names: Sequence[str], names: Names | None = None, *, published: bool = False
) -> None:
    """Refuse classes that are not the outputs'; tell on stderr what cannot be decided.

    Args:
        names: of the outputs, where they are known; published: whether the weights are the library's.
    """
    if names is not None:
        if strange := check_names(class_names, names, label):
            say(
                f"{strange} classes of the data go by names that `{label}` does not have; they are taken in "
                "its order."
            )
    elif published:
        say(f"What the outputs of `{label}` are called is not known; they are taken in the data's order.")
    elif len(class_names) == IMAGENET and (elsewhere := misplaced(class_names, timm_names(IMAGENET) or [])):
        say(
            f"The data has ImageNet's classes in another order than ImageNet, {elsewhere} there; the weights "
            f"of `{label}` are taken to have the data's."
        )


def check_head(network: Any, label: str) -> None:
    """Raises ConfigError for published weights whose last layer was replaced by an untrained one."""
    expected, got = (getattr(network, "pretrained_cfg", None) or {}).get("num_classes"), network.num_classes
    if expected is not None and expected != got:
        raise ConfigError(
            f"Expected the {expected} classes of the published `{label}`, got a head of {got}, which would "
            "be untrained. Leave `num_classes` out, give a `checkpoint`, or say `random_weights: true`."
        )


def misplaced(class_names: Sequence[str], names: Names) -> str | None:
    """The first class of the data that another output is called by, as words; None where there is none."""
    outputs_of: dict[str, set[int]] = {}
    for output, words in enumerate(names):
        for word in words:
            outputs_of.setdefault(word, set()).add(output)
    for label, name in enumerate(class_names):
        outputs = {int(name)} if name.isdecimal() else outputs_of.get(known_as(name), {label})
        if label not in outputs:
            return f"`{name}` as number {label}, which is output {min(outputs)}"
    return None


def check_names(class_names: Sequence[str], names: Names, label: str) -> int:
    """How many classes go by a name that is not their output's.

    Folders may be called by WordNet ids, by words, or by the number of the output.

    Raises:
        ConfigError: a class is called as another output is, or most are called as none.
    """
    elsewhere = misplaced(class_names, names)
    if elsewhere is not None:
        raise ConfigError(
            f"Expected the data's classes in the order of the outputs of `{label}`, got {elsewhere}. Name "
            "the class folders by WordNet ids (n01440764) or by the outputs' numbers with zeros (0007)."
        )
    strange = [
        name
        for name, words in zip(class_names, names, strict=True)
        if not name.isdecimal() and known_as(name) not in words
    ]
    if 2 * len(strange) > len(class_names):
        words = ", ".join(f"`{name}`" for name in strange[:EXAMPLES])
        raise ConfigError(
            f"Expected the classes that the published `{label}` knows, got {words}, ... . Give weights for "
            "these, or name the class folders by WordNet ids (n01440764) or by the outputs' numbers (0007)."
        )
    return len(strange)
