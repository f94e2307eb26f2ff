"""A figure as a part of a page: text stays text, and colours follow the page's theme."""

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from kdxai.report.charts.look import COLOURS, LOOK, NO_GLYPH, POINTS, SAYS, WIDTH

VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
NOT_DRAWN = ("metadata", "style", "clipPath")
# What the page or its browser takes anyway.
USUAL = {
    **{"font-family": None, "stroke-linejoin": None, "stroke-linecap": "butt"},
    **{"stroke-width": "1", "text-anchor": "start", "image-rendering": "crisp-edges"},
}


def svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an element: no size of its own but a greatest one, and nothing beside it.

    Args:
      name: unique on the page; all ids begin with it.
      description: what the figure shows, for those who do not see it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(LOOK | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_GLYPH)  # the page has fonts of its own
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawing = ElementTree.fromstring(buffer.getvalue())
    for node in drawing.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.attrib = {key.rpartition("}")[2]: value for key, value in node.attrib.items()}
    targets = dict.fromkeys(node.attrib["href"][1:] for node in drawing.iter("use"))
    name = re.sub(r"[^\w-]", "-", name)
    names = {target: f"{name}-{place}" for place, target in enumerate(targets, 1)}
    root = Element("svg", viewBox=rounded(drawing.attrib["viewBox"]), role="img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    width = figure.get_figwidth() * POINTS
    least = 0.85 * width if is_wide(figure) else 0  # then a telephone shows it in parts
    root.set("style", f"min-width: {least:.0f}px; max-width: {1.3 * width:.0f}px")
    SubElement(root, "title", id=f"{name}-title").text = title
    SubElement(root, "desc", id=f"{name}-description").text = description
    root.extend(gathered([kept for child in drawing for kept in lean(child, names)]))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def is_wide(figure: Figure) -> bool:
    """Whether a telephone cannot show all of it at once."""
    return bool(figure.get_figwidth() * POINTS > 1.2 * WIDTH)


def lean(node: Element, names: Mapping[str, str]) -> Iterator[Element]:
    """A node without what a page does not need; of a group without a meaning its children.

    Args:
      names: id that is pointed to -> its name on the page.
    """
    style = styled(node.get("style", ""))
    unseen = style == {"fill": "none"} and node.tag == "path"
    if node.tag in NOT_DRAWN or unseen or node.get("id") == "patch_1":  # the figure's ground
        return
    children = [kept for child in node for kept in lean(child, names)]
    if node.tag in ("g", "defs") and not children:
        return
    made = Element(node.tag, attributes(node, names))
    made.text = node.text if node.tag == "text" else None
    if style:
        made.set("style", "; ".join(f"{key}: {value}" for key, value in style.items()))
    if node.get("id", "").startswith(SAYS):
        SubElement(made, "title").text = node.attrib["id"].removeprefix(SAYS)
    elif node.tag == "g" and not made.attrib:
        yield from children
        return
    made.extend(gathered(children))
    yield made


def gathered(nodes: Sequence[Element]) -> Iterator[Element]:
    """Neighbours of one style in a group that has it."""
    for style, run in itertools.groupby(nodes, lambda node: node.get("style", "")):
        own = list(run)
        # Of a group the opacity is that of all together.
        if len(own) == 1 or not style or style.startswith("opacity") or "; opacity" in style:
            yield from own
            continue
        group = Element("g", style=style)
        for node in own:
            del node.attrib["style"]
        group.extend(own)
        yield group


def attributes(node: Element, names: Mapping[str, str]) -> dict[str, str]:
    """All but the style, with short numbers and ids of the page's own."""
    found = {}
    for key, value in node.attrib.items():
        if key == "id" and value in names:
            found[key] = names[value]
        elif key == "href":
            found[key] = f"#{names[value[1:]]}" if value[0] == "#" else value.replace("\n", "")
        elif key == "d":
            # A mark is small, and its form must stay.
            found[key] = rounded(value, 2 if node.get("id") in names else 1)
        elif key in ("x", "y", "width", "height") or (
            key == "transform" and not value.startswith("rotate(-0 ")
        ):
            found[key] = rounded(value, 3 if "matrix" in value else 1)
    return found


def styled(text: str) -> dict[str, str]:
    """A style as the page has it."""
    found = {}
    for part in filter(None, text.split(";")):
        key, value = (piece.strip() for piece in part.split(":", 1))
        if key in USUAL and USUAL[key] in (None, value):
            continue
        found[key] = VARIABLES.get(value, value)
    if found.get("fill-opacity") == "0":
        del found["fill-opacity"]
        found["fill"] = "none"
    return found


def rounded(text: str, digits: int = 1) -> str:
    """Numbers without what is not seen of them."""
    text = re.sub(r"-?\d+\.\d+", lambda n: f"{round(float(n[0]), digits):g}", text)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", text).strip() if text[:1] == "M" else text
