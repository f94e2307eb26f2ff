"""What models, methods and metrics are called where people read."""

from kdxai.explain import METHODS
from kdxai.protocol import TRUTH
from kdxai.study.stats import PAIRWISE, STATISTICS

ARROWS = {1: " ↑", -1: " ↓", 0: ""}
NAMES = ("ADCC", "IoU", "ROAD", "Pearson", "Spearman", "Gini")  # capital in a sentence too
AGREEMENT = {
    **{"same_class": "Same class", "pearson": "Pearson's r", "spearman": "Spearman's rho"},
    **{"ssim": "SSIM", "top_k_iou": "IoU of the top 10 %"},
}


def model(name: str) -> str:
    return name.replace("_", " ")


def network(model_name: str, seed: int, *, alone: bool = False) -> str:
    """`teacher 2`; by its model's name where it is the only one."""
    return model(model_name) if alone else f"{model(model_name)} {seed}"


def quoted(name: str) -> str:
    """A model where its name might be taken for a word of the sentence."""
    return f"“{model(name)}”"


def difference(one: str, other: str) -> str:
    """Of two models."""
    return f"{model(one)} \N{MINUS SIGN} {model(other)}"


def method(name: str) -> str:
    """As its paper writes it; one without a title by its name."""
    if name == TRUTH:
        return "True mask"
    return METHODS[name].title or name.replace("_", " ")


def metric(name: str) -> str:
    """`Average drop ↓`: with which way is better."""
    return STATISTICS[name].title + ARROWS[STATISTICS[name].better]


def plain(name: str) -> str:
    """`Average drop`: a metric without its direction."""
    return (STATISTICS | PAIRWISE)[name].title


def in_sentence(name: str) -> str:
    """`average drop`: a metric inside a sentence."""
    text = plain(name)
    return text if text.startswith(NAMES) else text[0].lower() + text[1:]


def agreement(name: str) -> str:
    """A measure of how alike two maps are."""
    return AGREEMENT.get(name, name)
