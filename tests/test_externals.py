"""A classifier of one's own, named by its file and function."""

import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.externals import is_external, load_external

GOOD = """
import jax
import jax.numpy as jnp
import kdxai
from beside import WEIGHTS

def features(image):
    return image[::2, ::2] + 1

def classify(grid):
    return grid.mean((0, 1)) @ WEIGHTS

def mine():
    classifier = kdxai.Classifier(features, classify)
    return kdxai.External(classifier, [0.5] * 3, [0.25] * 3, ["cat", "dog"], [8, 8, 3])

def changed(**parts):
    return mine()._replace(**parts)

def no_grid():
    return changed(classifier=kdxai.Classifier(lambda image: image.ravel(), lambda flat: flat[:2]))

def not_external():
    return mine().classifier

def other_classes():
    return changed(class_names=["cat", "dog", "cow"])

def bytes_mean():
    return changed(mean=[127.5])

def word_mean():
    return changed(mean="half")

def two_stds():
    return changed(std=[0.25, 0.25])

def flat():
    return changed(image_shape=(8, 8))

def no_shape():
    return changed(image_shape=None)

def counted():
    return changed(class_names=2)

def no_facts():
    return changed(facts=None)

def ended():
    raise SystemExit(3)

def broken():
    return jnp.zeros(3) @ jnp.zeros(4)

def per_cent():
    return changed(facts={"test_accuracy": 93.5})

number = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("import numpy\nWEIGHTS = numpy.eye(3)[:, :2]\n")
    (tmp_path / "own.py").write_text(GOOD)
    (tmp_path / "torn.py").write_text("x = 1\ndef mine(:\n")
    return tmp_path / "own.py"


def test_what_the_function_returns(file):
    external = load_external(f"{file}:mine")
    image = np.random.default_rng(0).random((8, 8, 3), np.float32)
    expected = (image[::2, ::2] + 1).mean((0, 1))[:2]
    np.testing.assert_allclose(external.classifier(image), expected, rtol=1e-6)
    assert external.class_names == ("cat", "dog")
    assert external.image_shape == (8, 8, 3)
    assert (external.mean.dtype, external.std.tolist()) == (np.float32, [0.25] * 3)
    assert dict(external.facts) == {}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.py:mine", "there is no file .*nowhere.py$"),
        ("own.py", "name the function of .*own.py that returns the classifier"),
        ("own.py:nothing", "own.py:nothing: the file has no such function$"),
        ("own.py:number", "own.py:number: the file has no such function$"),
        ("own.py:not_external", "a model is kdxai.External.*of type Classifier$"),
        ("own.py:no_grid", r"no_grid: features\(image\) must be \[h, w, c\]"),
        ("own.py:other_classes", r"its logits are \[2\] for 3 class names$"),
        ("own.py:bytes_mean", r"mean must be of images in \[0, 1\], .* \[127.5\]; divide"),
        ("own.py:word_mean", "word_mean: mean must be numbers, one for each channel, not 'half'"),
        ("own.py:two_stds", "std must be one number for each of the 3 channels, but has 2"),
        ("own.py:flat", r"image_shape must be \(height, width, channels\), not \(8, 8\)$"),
        ("own.py:no_shape", r"image_shape must be \(height, width, channels\), not None$"),
        ("own.py:counted", "class_names must be a list of names, not 2$"),
        ("own.py:no_facts", "facts must be a dictionary, not None$"),
        ("own.py:per_cent", "test_accuracy must be a share, from 0 to 1, not 93.5$"),
        ("own.py:ended", r"own.py:ended failed in line 51: SystemExit\(3\)"),
        ("own.py:broken", r"own.py:broken failed in line 54: TypeError"),
        ("torn.py:mine", "torn.py:mine failed in line 2: SyntaxError"),
    ],
)
def test_what_is_none_is_one_line(file, place, message):
    with pytest.raises(UserError, match=message) as told:
        load_external(str(file.with_name(place)))
    assert "\n" not in str(told.value)


def test_a_directory_is_none():
    assert is_external("a/model.py:make") and is_external("model.py")
    assert not is_external("runs/teacher") and not is_external("runs/a:b")
