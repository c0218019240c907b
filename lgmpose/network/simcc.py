"""RTMPose's head: it classifies each joint's x and y instead of drawing a heatmap (SimCC).

Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", 2022; Jiang et al.,
"RTMPose", 2023. The head turns the map of each joint into one token of 256 numbers. One attention layer mixes the
tokens of all joints. For each joint, two linear layers then return one score per half pixel of the crop's width and
height. The codec ``simcc`` (``lgmpose.pose.codecs``) makes its targets and reads its scores.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import BINS_PER_PIXEL, STRIDE

__all__ = ["GatedAttention", "ScaleNorm", "SimCCHead"]

TOKEN_WIDTH = 256
HIDDEN_WIDTH, QUERY_WIDTH = 2 * TOKEN_WIDTH, 128  # of the attention's gate and values, and of its queries and keys


class ScaleNorm(nn.Module):
    """Divide each vector by its root mean square, then multiply by one learned number; (..., d) → same."""

    def __init__(self, width: int):
        super().__init__()
        self.root = math.sqrt(width)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.norm(dim=-1, keepdim=True) / self.root).clamp(min=1e-5) * self.scale


class GatedAttention(nn.Module):
    """Gated attention unit (Hua et al. 2022) among the joints' tokens; (B, K, 256) → same.

    One linear layer makes a gate, values, and a narrow vector of which queries and keys are scaled copies. The
    attention is the square of ReLU instead of a softmax. No linear layer has a bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = ScaleNorm(TOKEN_WIDTH)
        self.expand = nn.Linear(TOKEN_WIDTH, 2 * HIDDEN_WIDTH + QUERY_WIDTH, bias=False)
        self.gamma = nn.Parameter(torch.rand(2, QUERY_WIDTH))
        self.beta = nn.Parameter(torch.rand(2, QUERY_WIDTH))
        self.project = nn.Linear(HIDDEN_WIDTH, TOKEN_WIDTH, bias=False)
        self.residual_scale = nn.Parameter(torch.ones(TOKEN_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        widths = [HIDDEN_WIDTH, HIDDEN_WIDTH, QUERY_WIDTH]
        gate, values, shared = F.silu(self.expand(self.norm(x))).split(widths, dim=-1)
        query, key = (shared * self.gamma[i] + self.beta[i] for i in (0, 1))
        attention = F.relu(query @ key.transpose(1, 2) / math.sqrt(QUERY_WIDTH)).square()  # (B, K, K)
        return self.project(gate * (attention @ values)) + x * self.residual_scale


class SimCCHead(nn.Module):
    """(B, C, h, w) → (B, K, 2W + 2H): scores of the positions along x, then along y, in steps of half a pixel."""

    def __init__(self, channels: int, *, num_keypoints: int, image_hw: tuple[int, int]):
        super().__init__()
        H, W = image_hw
        cells = (H // STRIDE) * (W // STRIDE)
        self.maps = nn.Conv2d(channels, num_keypoints, 7, padding=3)
        self.norm = ScaleNorm(cells)
        self.embed = nn.Linear(cells, TOKEN_WIDTH, bias=False)
        self.attention = GatedAttention()
        self.x_scores = nn.Linear(TOKEN_WIDTH, BINS_PER_PIXEL * W, bias=False)
        self.y_scores = nn.Linear(TOKEN_WIDTH, BINS_PER_PIXEL * H, bias=False)
        nn.init.normal_(self.maps.weight, std=0.001)
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.maps(x).flatten(2)  # (B, K, h·w)
        tokens = self.attention(self.embed(self.norm(tokens)))  # (B, K, 256)
        return torch.cat([self.x_scores(tokens), self.y_scores(tokens)], dim=-1)
