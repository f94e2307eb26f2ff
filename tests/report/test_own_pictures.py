"""Pictures of one's own: found, explained and shown."""

from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scripts import call, refused

from kdxai import models
from kdxai.data import pictures as files
from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, min_max, resize
from kdxai.externals import External
from kdxai.models import trained
from kdxai.protocol import Protocol
from kdxai.report import gallery, pictures
from kdxai.report.overlay import overlay

COLOURS = ("red", "green", "blue")
SCALE = 20.0


def colour_model(size=16, channels=3):
    """The class is the channel with the largest mean; the map has cells of 2x2 pixels."""
    classifier = Classifier(
        features=lambda x: x.reshape(size // 2, 2, size // 2, 2, channels).mean((1, 3)),
        classify=lambda f: SCALE * f.mean((0, 1))[: len(COLOURS)],
    )
    zero, one = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    names = COLOURS if channels == 3 else COLOURS[:channels]
    return External(classifier, zero, one, names, (size, size, channels), {"model": "colours"})


def square(path, channel, corner=(0, 0), size=(64, 64), **options):
    """A dark picture with a bright square of one colour; corner (0, 0) is the upper left."""
    pixels = np.full((*size, 3), 40, np.uint8)
    height, width = size[0] // 2, size[1] // 2
    top, left = corner[0] * height, corner[1] * width
    pixels[top : top + height, left : left + width, channel] = 240
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    square(folder / "a red.png", 0)
    square(folder / "b green.jpg", 1, (0, 1), (48, 64), quality=95)
    square(folder / "c blue.webp", 2, (1, 1), (100, 80), lossless=True)
    (folder / "notes.txt").write_text("no picture")
    return folder


GRAD_CAM = Protocol("grad_cam")


@pytest.fixture(scope="module")
def explained(photos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("explained") / "made"
    both = {"large": colour_model(32), "small": colour_model()}
    ways = [GRAD_CAM, Protocol("gradient_x_input")]
    return workdir, pictures.explain_pictures(both, str(photos), ways, workdir, (1, "blue"))


def test_classes_and_probabilities(explained):
    workdir, found = explained
    assert [(one.picture, one.model) for one in found] == [
        (name, model)
        for name in ("a red.png", "b green.jpg", "c blue.webp")
        for model in ("large", "small")
    ]
    assert [one.top[0].name for one in found] == [c for c in COLOURS for _ in range(2)]
    # By hand: a quarter of the picture is brighter by 200 in the first channel.
    logits = SCALE * np.array([40 + 200 / 4, 40, 40]) / 255
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([guess.probability for guess in found[0].top], shares, rtol=1e-4)
    assert [guess.number for guess in found[0].top] == [0, 1, 2]
    rows = pd.read_csv(workdir / "top5.csv")
    assert list(rows) == ["picture", "model", "rank", "class", "class_name", "probability"]
    assert len(rows) == 6 * 3
    first = rows[(rows.picture == "a red.png") & (rows.model == "small")]
    assert list(first["rank"]) == [1, 2, 3] and list(first.class_name) == list(COLOURS)
    np.testing.assert_allclose(first.probability, shares, atol=1e-6)
    assert (
        gallery.lines(found)[0]
        == f"a red.png: large red {shares[0]:.0%}, small red {shares[0]:.0%}"
    )


def test_overlays_are_those_of_the_methods(explained, photos):
    """The map that the library draws, over the picture as it is at 224 pixels."""
    workdir, _ = explained
    path = photos / "c blue.webp"
    image = files.read(path, 16)
    for folder, k in (("grad_cam", 2), ("grad_cam-1", 1), ("grad_cam-2", 2)):
        drawn = METHODS["grad_cam"](colour_model().classifier, jnp.float32(image) / 255, k)
        expected = overlay(files.read(path, 224), resize(min_max(drawn), (16, 16)))
        shown = Image.open(workdir / "overlays" / "small" / folder / "c blue.webp.png")
        assert np.abs(np.asarray(shown).astype(int) - expected).max() <= 2
    written = sorted(p.relative_to(workdir / "overlays") for p in workdir.rglob("*.png"))
    assert len(written) == 3 * 2 * 2 * 3
    assert str(written[0]) == "large/grad_cam/a red.png.png"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_page(explained):
    text = (explained[0] / "gallery.html").read_text()
    page = Page(text)
    # The scale; each picture by each model, and its maps: the predicted class only once.
    inputs, maps = 3 * 2, 2 * 2 * (3 + 2 + 2)
    images = page.all("img")
    assert len(images) == 1 + inputs + maps
    assert all(one["alt"] and one["src"].startswith("data:image/") for one in images)
    assert not page.all("script") and not page.all("link")[0]["href"].startswith("http")
    assert "http://" not in text and "https://" not in text
    alt = {one["alt"] for one in images}
    assert "a red.png, input of small" in alt
    said = next(one for one in alt if one.startswith("Grad-CAM of small for red: strongest at the"))
    assert "top left" in said
    words = " ".join(" ".join(page.text).split())
    assert "3 pictures · large, small · Grad-CAM, Gradient \N{MULTIPLICATION SIGN} Input" in words
    assert "Evidence for green , 12" not in words
    assert words.count("predicted,") == 6
    assert "The first" not in words


def test_names_from_outside_are_no_markup(tmp_path):
    model = colour_model()._replace(class_names=("<b>red</b>", "x", "y"))
    square(tmp_path / "a & <i>.png", 0)
    found = pictures.explain_pictures({"m": model}, tmp_path, [GRAD_CAM], tmp_path / "out")
    text = (tmp_path / "out" / "gallery.html").read_text()
    assert "<b>red</b>" not in text and "&lt;b&gt;red&lt;/b&gt;" in text
    assert "<i>.png" not in text and found[0].picture == "a & <i>.png"


def test_few_at_once_give_the_same_and_the_page_has_an_end(
    explained, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(pictures, "chunk_size", lambda ready, count: 2)
    monkeypatch.setattr(pictures, "MOST", 1)
    found = pictures.explain_pictures({"small": colour_model()}, photos, [GRAD_CAM], tmp_path)
    whole = [one for one in explained[1] if one.model == "small"]
    for one, other in zip(found, whole, strict=True):
        assert one.picture == other.picture
        for a, b in zip(one.top, other.top, strict=True):
            assert a.name == b.name and abs(a.probability - b.probability) < 1e-6
    assert [bool(one.uri) for one in found] == [True, False, False]
    assert len(sorted(tmp_path.rglob("*.png"))) == 3
    page = Page((tmp_path / "gallery.html").read_text())
    assert len(page.all("article")) == 1
    words = " ".join(" ".join(page.text).split())
    assert "The first 1 pictures are shown" in words and "have all 3" in words


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_picture_is_explained_as_it_is_seen(tmp_path, orientation):
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    turns[8] = Image.Transpose.ROTATE_270
    upright = Image.fromarray(square(tmp_path / "upright.png", 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.transpose(turns[orientation]).save(tmp_path / "turned.png", exif=exif)
    pictures.explain_pictures({"m": colour_model()}, tmp_path, [GRAD_CAM], tmp_path / "out")
    drawn = [
        np.asarray(Image.open(tmp_path / "out" / "overlays" / "m" / "grad_cam" / f"{name}.png.png"))
        for name in ("upright", "turned")
    ]
    np.testing.assert_array_equal(*drawn)


def test_a_map_of_nothing_is_called_so(tmp_path):
    square(tmp_path / "a.png", 0)
    flat = Classifier(lambda x: x, lambda f: 0 * f.mean((0, 1)))
    model = colour_model()._replace(classifier=flat)
    pictures.explain_pictures({"m": model}, tmp_path, [GRAD_CAM], tmp_path / "out")
    assert "finds nothing: the same everywhere" in (tmp_path / "out" / "gallery.html").read_text()


def test_find(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "more").mkdir(exist_ok=True)
    square(photos / "more" / "d,e [1].PNG", 0)
    square(photos / "more" / "f.bmp", 0)
    flat, deep = ["a red.png", "b green.jpg", "c blue.webp"], ["d,e [1].PNG", "f.bmp"]

    def names(images):
        return [file.name for file in pictures.find(images)]

    assert names(".") == flat
    assert names("*") == flat
    assert names("*.png, b*") == flat[:2]
    assert names(("b green.jpg", photos, "a*")) == [flat[1], flat[0], flat[2]]
    assert names("more/d,e [1].PNG") == deep[:1]
    assert names(photos / "more") == deep
    assert names("**/*.*") == [*flat, *(f"more/{name}" for name in deep)]
    assert [file.number for file in pictures.find(".")] == [0, 1, 2]
    monkeypatch.setenv("HOME", str(photos))
    assert names("~/more") == deep
    assert names(",".join(["a red.png"] * 999)) == flat[:1]  # no name of a file is so long


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("none.png", "there is no picture or folder none.png"),
        ("*.gif", r"no pictures match \*.gif; their names end in .bmp, .jpeg, .jpg, .png, .webp"),
        ("empty", "the folder empty holds no pictures; their names end in"),
        ("", "images names no pictures"),
        ((), "images names no pictures"),
        (1.5, "images names no pictures"),
        ("notes.png", "notes.png is no PNG, JPEG, WebP or BMP picture"),
        ("cut.png", "cannot read the picture .*cut.png"),
    ],
)
def test_pictures_that_are_none(images, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.png").write_text("no picture")
    square(tmp_path / "whole.png", 0)
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-80])
    with pytest.raises(UserError, match=says):
        pictures.explain_pictures({"m": colour_model()}, images, [GRAD_CAM], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "classes", "says"),
    [
        ({}, [3], r"m has no class 3; its classes are 0 \(red\) to 2 \(blue\)"),
        ({}, [-1], "m has no class -1"),
        ({}, ["pink"], "m has no class 'pink'"),
        ({"mean": np.float32([np.nan] * 3)}, [], "the output for .*a.png is not finite"),
    ],
)
def test_models_and_classes_that_do_not_fit(changes, classes, says, tmp_path):
    square(tmp_path / "a.png", 0)
    model = colour_model()._replace(**changes)
    with pytest.raises(UserError, match=says):
        pictures.explain_pictures({"m": model}, tmp_path, [GRAD_CAM], tmp_path / "out", classes)


def test_grey_models_probabilities_and_bad_names_are_refused(tmp_path):
    square(tmp_path / "a.png", 0)

    def refuse(says, model, name="m"):
        with pytest.raises(UserError, match=says):
            pictures.explain_pictures({name: model}, tmp_path, [GRAD_CAM], tmp_path / "out")

    refuse("m takes images of 1 channel, but pictures are RGB", colour_model(channels=1))
    refuse("m takes images of 4 channels", colour_model(channels=4))
    shares = Classifier(lambda x: x, lambda f: jax.nn.softmax(f.mean((0, 1))))
    refuse("as probabilities are; return logits", colour_model()._replace(classifier=shares))
    refuse("is no name for a model", colour_model(), "../m")


def test_a_head_that_is_another_is_refused(tmp_path):
    square(tmp_path / "a.png", 0)
    model = colour_model()
    classifier = model.classifier._replace(head=jnp.eye(3)[::-1])
    with pytest.raises(UserError, match="head is not what classify applies"):
        pictures.explain_pictures(
            {"m": model._replace(classifier=classifier)}, tmp_path, [Protocol()], tmp_path / "out"
        )


MODEL_FILE = """
import numpy as np
from kdxai import Classifier, External

def model():
    classifier = Classifier(lambda x: x, lambda f: f.mean((0, 1)))
    return External(classifier, np.zeros(3), np.ones(3), ("red", "green", "blue"), (16, 16, 3))

def another():
    return model()._replace(class_names=("green", "blue", "red"))
"""


def test_files_and_several_models_of_one_name(tmp_path):
    (tmp_path / "own.py").write_text(MODEL_FILE)
    own = tmp_path / "own.py"
    found = pictures.by_name(f"a={own}:model,a={own}:another,b={own}:model")
    assert {name: model.class_names[0] for name, model in found.items()} == {
        "a 0": "red",
        "a 1": "green",
        "b": "red",
    }


def test_script(tmp_path, photos):
    """A model directory, a pattern in quotes, a class by number."""
    model = models.create("plain3-w4", num_classes=3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    (tmp_path / "model").mkdir()
    architecture = {"name": "plain3-w4"}
    options = {"architecture": architecture, "class_names": COLOURS, "image_shape": (16, 16, 3)}
    half = np.full(3, 0.5, np.float32)
    trained.save(
        trained.Trained(model=model, variables=variables, mean=half, std=half, facts={}, **options),
        tmp_path / "model",
    )
    common = ["--config", "configs/explain.py", "--workdir", tmp_path / "out"]
    common += [f"--config.models=tiny={tmp_path / 'model'}", f"--config.images={photos}/*"]
    ended = call("explain.py", *common, "--config.methods=cam,edges", "--config.classes=1,red")
    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert [line.partition(": tiny ")[0] for line in lines] == [
        *("a red.png", "b green.jpg", "c blue.webp")
    ]
    assert last == f"{tmp_path / 'out'}: gallery.html, top5.csv and overlays/"
    folders = sorted(path.name for path in (tmp_path / "out" / "overlays" / "tiny").iterdir())
    assert folders == ["cam", "cam-0", "cam-1", "edges", "edges-0", "edges-1"]
    said = refused("explain.py", *common, "--config.classes=3")
    assert said == "error: tiny has no class 3; its classes are 0 (red) to 2 (blue)"
    said = refused("explain.py", *common, f"--config.images={photos}/*.tiff")
    assert said.startswith(f"error: no pictures match {photos}/*.tiff")
    said = refused("explain.py", *common, "--config.methods=mask")
    assert said == "error: the method 'mask' needs a data set with masks, such as shapes"
