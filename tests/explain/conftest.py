"""The small CNN that most tests explain, with weights that no test chooses."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np
import pytest

from kdxai.explain import Classifier, guided_relu

Build = Callable[..., Classifier]
REFERENCES = pathlib.Path(__file__).parents[1] / "references" / "explain_references.npz"


@pytest.fixture(scope="session")
def data() -> dict[str, np.ndarray]:
    """Weights, two images [16, 16, 3] and the maps of other libraries (see the script beside)."""
    with np.load(REFERENCES) as file:
        return dict(file)


@pytest.fixture(scope="session")
def build(data: dict[str, np.ndarray]) -> Build:
    """build(cut, scale=1, bias=True) -> a CNN of three convolutions, pooling and a linear head.

    The cut is "middle" (after the second convolution, so that y_c is not linear in the features)
    or "last". `scale` multiplies the logits, also where it is negative. It has all that a method
    can ask for.
    """

    def convolve(x: jax.Array, kernel: str, stride: int = 1) -> jax.Array:
        padding = ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(
            x[None],
            data[kernel],
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]

    def build(cut: str, scale: float = 1.0, bias: bool = True) -> Classifier:
        def stem(x: jax.Array, relu: Callable) -> jax.Array:
            return relu(convolve(relu(convolve(x, "kernel1")), "kernel2", 2))

        def body(x: jax.Array, relu: Callable) -> jax.Array:
            return relu(convolve(x, "kernel3"))

        def top(x: jax.Array) -> jax.Array:
            return scale * (x.mean((0, 1)) @ data["head"] + bias * data["bias"])

        def guided(x: jax.Array) -> jax.Array:
            return top(body(stem(x, guided_relu), guided_relu))

        relu = jax.nn.relu
        early = Classifier(
            lambda x: relu(convolve(x, "kernel1")),
            lambda a: top(body(relu(convolve(a, "kernel2", 2)), relu)),
        )
        middle = Classifier(
            lambda x: stem(x, relu),
            lambda a: top(body(a, relu)),
            guided=guided,
            background=data["image"][::-1] + 0.5,
            earlier=(early,),
        )
        if cut == "middle":
            return middle
        return middle._replace(
            features=lambda x: body(stem(x, relu), relu),
            classify=top,
            head=scale * data["head"],
            earlier=(middle,),
        )

    return build
