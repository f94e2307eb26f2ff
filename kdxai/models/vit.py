"""Vision transformers for small images (Dosovitskiy et al. 2021)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Features, Layers, Network, Tokens, require_patches

POOLS = ("mean", "token")
MLP = 4  # times as wide as the tokens


class Stem(nn.Module):
    """Patches as tokens, a learned position added to each; with `token`, the class token too."""

    width: int
    patch: int
    token: bool
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        del train
        require_patches(x.shape, self.patch)
        window = (self.patch, self.patch)
        init = nn.initializers.lecun_normal()
        conv = self.layers.conv(
            self.width, window, self.patch, padding=0, use_bias=True, kernel_init=init
        )
        x = conv(x)
        positions = self.positions(self.token + x.shape[1] * x.shape[2]).astype(x.dtype)
        grid = x + positions[int(self.token) :].reshape(x.shape[1:])
        if not self.token:
            return grid
        token = self.param("token", nn.initializers.normal(1e-6), (self.width,))
        token = token.astype(x.dtype) + positions[0]
        return Tokens(grid, jnp.broadcast_to(token, (len(x), self.width)))

    def positions(self, tokens: int) -> jax.Array:
        """[tokens, c]."""
        if self.has_variable("params", "positions"):
            known = len(self.get_variable("params", "positions"))
            if known != tokens:
                raise UserError(
                    f"the model has positions of {known} tokens and the images make {tokens} of "
                    f"{self.patch}x{self.patch} pixels; give images of the size that it was "
                    "trained on"
                )
        return self.param("positions", nn.initializers.normal(0.02), (tokens, self.width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); every token attends to every token."""

    width: int
    heads: int
    layers: Layers

    def setup(self):
        layers = self.layers
        self.norm1, self.norm2 = layers.layer_norm(), layers.layer_norm()
        self.qkv, self.proj = layers.dense(3 * self.width), layers.dense(self.width)
        self.fc1, self.fc2 = layers.dense(MLP * self.width), layers.dense(self.width)

    def __call__(self, x, train, attention=None):
        """`attention`, [N, heads, T, T], is taken in place of the block's own."""
        del train
        tokens = sequence(x)
        queries, keys, values = self.projected(tokens)
        if attention is None:
            attention = attention_weights(queries, keys)
        mixed = jnp.einsum("nhij,njhd->nihd", attention.astype(values.dtype), values)
        tokens = tokens + self.proj(mixed.reshape(tokens.shape))
        inner = self.layers.activation(self.fc1(self.norm2(tokens)))
        return like(x, tokens + self.fc2(inner))

    def attention(self, x: Features) -> jax.Array:
        """[N, heads, T, T] float32 of what comes into the block; rows sum to 1."""
        queries, keys, _ = self.projected(sequence(x))
        return attention_weights(queries, keys)

    def projected(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[N, T, heads, d] queries, keys and values."""
        qkv = self.qkv(self.norm1(tokens)).reshape(*tokens.shape[:2], 3, self.heads, -1)
        return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


class FinalNorm(nn.Module):
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        del train
        return like(x, self.layers.layer_norm()(sequence(x)))


class ClassToken(nn.Module):
    """The pooling of a model with a class token: that token."""

    def __call__(self, x):
        return x.token


def attention_weights(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """[N, heads, T, T] softmax(q . k / sqrt(d)) in float32."""
    scores = jnp.einsum("nihd,njhd->nhij", queries, keys).astype(jnp.float32)
    return jax.nn.softmax(scores * queries.shape[-1] ** -0.5)


def sequence(x: Features) -> jax.Array:
    """[N, T, c] tokens, the class token first."""
    if isinstance(x, Tokens):
        return jnp.concatenate([x.token[:, None], sequence(x.grid)], 1)
    return x.reshape(len(x), -1, x.shape[-1])


def like(x: Features, tokens: jax.Array) -> Features:
    """What `sequence` has made of `x`, with other values."""
    if isinstance(x, Tokens):
        return Tokens(tokens[:, 1:].reshape(x.grid.shape), tokens[:, 0])
    return tokens.reshape(x.shape)


def vit(
    depth: int,
    width: int,
    heads: int,
    num_classes: int,
    layers: Layers,
    *,
    patch: int = 4,
    pool: str = "mean",
) -> Network:
    """ViT of `depth` blocks of `heads` heads on tokens of `width` channels, an MLP of 4 x `width`.

    The last feature map, behind the last norm, is 8 x 8 for 32 x 32 images. Positions are learned,
    so that a model takes images of one size.

    Args:
      patch: pixels a side of those that make a token.
      pool: the head is on the `mean` of the tokens, as CAM asks, and there is no class token (Beyer
        et al. 2022, "Better plain ViT baselines"); or on a class `token` (Dosovitskiy et al.).

    Raises:
      UserError: another pooling, no blocks or patches, or heads that do not divide the width.
    """
    if pool not in POOLS:
        raise UserError(f"there is no pool '{pool}' of a ViT; known: {', '.join(POOLS)}")
    if min(depth, heads, patch) < 1 or width < heads or width % heads:
        raise UserError(
            f"there is no model 'vit-{depth}-{width}-{heads}' with patches of {patch}: each is at "
            "least 1, and the heads, which come last, divide the width"
        )
    token = pool == "token"
    units: dict[str, nn.Module] = {"stem": Stem(width, patch, token, layers)}
    units |= {f"block{i}": Block(width, heads, layers) for i in range(depth)}
    units["final"] = FinalNorm(layers)
    return Network(FrozenDict(units), num_classes, ClassToken() if token else None)
