"""Lesson 05: wrong versions that its proofs and its tasks reject."""

import torch

from lgmpose.network.modules import npt_op1, npt_op2, npt_op3
from lgmpose.network.variants import TransformerLayer

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "scores not divided": ("scores_NN = x_Nd @ x_Nd.T / math.sqrt(d)", "scores_NN = x_Nd @ x_Nd.T"),
    "softmax along the columns": ("torch.softmax(scores_NN, dim=1)\ny_Nd", "torch.softmax(scores_NN, dim=0)\ny_Nd"),
    "mean with the wrong weights": ("y_Nd = weights_NN @ x_Nd", "y_Nd = weights_NN.T @ x_Nd"),
    "queries and keys swapped": ("q_Nd, k_Nd, v_Nd = layer", "k_Nd, q_Nd, v_Nd = layer"),
    "keys and values swapped": ("q_Nd, k_Nd, v_Nd = layer", "q_Nd, v_Nd, k_Nd = layer"),
    "divided by the whole length": ("math.sqrt(size)", "math.sqrt(x_Nd.shape[1])"),
    "one head for all": ("size = x_Nd.shape[1] // layer.heads", "size = x_Nd.shape[1]"),
    "weights along the columns": ("torch.softmax(scores_NN, dim=1) @ v", "torch.softmax(scores_NN, dim=0) @ v"),
    "output left out": ("return layer.out(torch.cat(mixed, dim=1))", "return torch.cat(mixed, dim=1)"),
    "first LayerNorm left out": ("attention(layer.norm1(x_Nd), layer)", "attention(x_Nd, layer)"),
    "first residual left out": ("x_Nd = x_Nd + attention(", "x_Nd = attention("),
    "second residual left out": ("return x_Nd + layer.project(hidden)", "return layer.project(hidden)"),
    "ReLU for SiLU": ("nn.functional.silu(", "nn.functional.relu("),
    "cost: output forgotten": ("matrices, products = 4 *", "matrices, products = 3 *"),
    "cost: one product": (", 2 * many**2 * width", ", many**2 * width"),
    "shuffle undone on one side only": (
        "= transformer_layer(many_Nd, layer)[order]",
        "= transformer_layer(many_Nd, layer)",
    ),
}


def attention_without_scale(patch):
    def wrong(self, x):
        return right(self, x * 2)

    right = TransformerLayer.attention
    patch.setattr(TransformerLayer, "attention", wrong)


def post_norm(patch):
    def wrong(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.project(self.activation(self.expand(x))))

    patch.setattr(TransformerLayer, "forward", wrong)


PACKAGE = [attention_without_scale, post_norm]


def softmax(scores, dim=1):
    exponentials = torch.exp(scores)
    return exponentials / exponentials.sum(dim, keepdim=True)


def attend(x, *, scale=0.5, dim=1, transposed=False):
    weights = torch.softmax(x @ x.T / x.shape[1] ** scale, dim=dim)
    return (weights.T if transposed else weights) @ x


def attend_qkv(x, query, key, value, *, dim=1):
    return torch.softmax((x @ query) @ (x @ key).T / x.shape[1] ** 0.5, dim=dim) @ (x @ value)


def split_heads(x, heads):
    return torch.stack([x[:, i * x.shape[1] // heads : (i + 1) * x.shape[1] // heads] for i in range(heads)])


def layer_macs(N, d, ratio, *, matrices=4, products=2, forward=2):
    return matrices * N * d * d + products * N * N * d + forward * N * ratio * d * d


def mobilevit_global(x, layers, patch_hw):
    tokens = layers(npt_op1(x, patch_hw).transpose(2, 3)).transpose(2, 3)
    return npt_op3(npt_op2(tokens), patch_hw, x.shape[2:])


def within_patches(x, layers, patch_hw):
    tokens = layers(npt_op2(npt_op1(x, patch_hw)).transpose(2, 3)).transpose(2, 3)
    return npt_op3(tokens, patch_hw, x.shape[2:])


def over_all_pixels(x, layers, patch_hw):
    B, d, H, W = x.shape
    return layers(x.flatten(2).transpose(1, 2)[:, None])[:, 0].transpose(1, 2).reshape(B, d, H, W)


RIGHT_SHUFFLE = {"attention": "same", "fixed mixture": "other", "convolution": "other"}
RIGHT = {
    "05.1": [(4, 0, 2), (4.0, 0.0, 2.0)],
    "05.2": [softmax],
    "05.3": [(0, 1), (0.0, 0.999)],
    "05.4": [attend],
    "05.5": [attend_qkv],
    "05.6": [split_heads, lambda x, heads: x.reshape(len(x), heads, -1).transpose(0, 1)],
    "05.7": [(4, 2)],
    "05.8": [RIGHT_SHUFFLE],
    "05.9": [layer_macs],
    "05.10": [mobilevit_global],
}
WRONG = {
    "05.1": {"sums": (4, 4, 2), "not squared": (2, 0, 1), "a wheel like a knee": (4, 4, 1)},
    "05.2": {
        "along the columns": lambda scores: softmax(scores, dim=0),
        "over the whole table": lambda scores: torch.exp(scores) / torch.exp(scores).sum(),
        "no exponential": lambda scores: scores / scores.sum(1, keepdim=True),
        "the ready function": lambda scores: torch.softmax(scores, dim=1),
        "its logarithm": lambda scores: torch.exp(torch.log_softmax(scores, dim=1)),
        "no keepdim": lambda scores: torch.exp(scores) / torch.exp(scores).sum(1),
    },
    "05.3": {"scores for weights": (100, 1), "unchanged": (0, 0.62), "ten times": (0, 6.2), "changes": (0.38, 1)},
    "05.4": {
        "not divided": lambda x: attend(x, scale=0),
        "divided by d": lambda x: attend(x, scale=1),
        "along the columns": lambda x: attend(x, dim=0),
        "weights transposed": lambda x: attend(x, transposed=True),
        "weights alone": lambda x: torch.softmax(x @ x.T / x.shape[1] ** 0.5, dim=1),
        "the ready function": lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x),
    },
    "05.5": {
        "queries and keys swapped": lambda x, q, k, v: attend_qkv(x, k, q, v),
        "keys and values swapped": lambda x, q, k, v: attend_qkv(x, q, v, k),
        "matrices transposed": lambda x, q, k, v: attend_qkv(x, q.T, k.T, v.T),
        "tokens as values": lambda x, q, k, v: attend_qkv(x, q, k, torch.eye(len(v))),
        "along the columns": lambda x, q, k, v: attend_qkv(x, q, k, v, dim=0),
    },
    "05.6": {
        "reshape alone": lambda x, heads: x.reshape(heads, len(x), -1),
        "every heads-th number": lambda x, heads: x.reshape(len(x), -1, heads).permute(2, 0, 1),
        "heads second": lambda x, heads: x.reshape(len(x), heads, -1),
    },
    "05.7": {"both linear": (2, 2), "both squared": (4, 4), "swapped": (2, 4)},
    "05.8": {
        "all notice": RIGHT_SHUFFLE | {"attention": "other"},
        "mixture of all": RIGHT_SHUFFLE | {"fixed mixture": "same"},
        "convolution": RIGHT_SHUFFLE | {"convolution": "same"},
    },
    "05.9": {
        "no output": lambda *sizes: layer_macs(*sizes, matrices=3),
        "one product": lambda *sizes: layer_macs(*sizes, products=1),
        "no products": lambda *sizes: layer_macs(*sizes, products=0),
        "feed-forward once": lambda *sizes: layer_macs(*sizes, forward=1),
        "ratio forgotten": lambda N, d, ratio: layer_macs(N, d, 2),
    },
    "05.10": {
        "within the patches": within_patches,
        "over all pixels": over_all_pixels,
        "nothing mixed": lambda x, layers, patch_hw: x,
        "axes not exchanged": lambda x, layers, patch_hw: npt_op3(
            npt_op2(layers(npt_op1(x, patch_hw))), patch_hw, x.shape[2:]
        ),
    },
}
