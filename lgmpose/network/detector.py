"""LGM-Det, a detector of people in one file: network, targets, loss.

The encoder of LGM-Pose, or of one of its variants, gives maps at strides 8, 16 and 32. At every point of every map, a
small head predicts two things: how likely the point belongs to a person, and the distances to the four edges of that
person's box.

The points of each person are chosen during training, as in TOOD (Feng et al. 2021). Each person gets the
``POINTS_PER_BOX`` points inside the box whose predictions fit it best. The better a point's box fits, the higher is its
target score. Shapes: B pictures, N points of all maps, M boxes per picture. Boxes are corners (x1, y1, x2, y2) in input
pixels. The outputs are those of RTMDet, so that ``lgmpose.inference.detectors`` opens an exported file.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.layers import ConvNormAct, InvertedResidual
from lgmpose.network.model import LGMPose

__all__ = ["STRIDES", "LGMDet", "assign", "detection_loss", "giou", "grid_points"]

STRIDES = (8, 16, 32)  # of the last three stages of the encoder
POINTS_PER_BOX = 10  # chosen, as in YOLOv8
FIRST_SCORE = 0.01  # of every point before training: nearly all points belong to nobody
BOX_LOSS_WEIGHT = 2.0  # chosen, as in RTMDet


class LGMDet(nn.Module):
    """The detector; (B, 3, H, W) RGB, normalised → for each of ``STRIDES`` a map (B, H/s, W/s, 5).

    The five numbers are a logit, and the distances in pixels from the point to the left, top, right and bottom edge. In
    eval mode the score is the square root of the trained one, which is low even for good boxes: so small persons stay
    above the least score that detectors return, and thresholds that fit other detectors fit this one.

    Args:
        config: of the encoder; its joints and decoder are not used.
        width: channels of the head.
    """

    def __init__(self, config: LGMPoseConfig, width: int = 64):
        super().__init__()
        self.config = config
        trunk = LGMPose(config)
        self.stem, self.stages = trunk.stem, trunk.stages
        act = config.activation
        channels = [stage.channels for stage in config.stages[-len(STRIDES) :]]
        self.laterals = nn.ModuleList(ConvNormAct(c, width, kernel=1, activation=act) for c in channels)
        last = nn.Conv2d(width, 5, 1)
        nn.init.normal_(last.weight, std=0.01)
        last.bias = nn.Parameter(torch.tensor([-math.log(1 / FIRST_SCORE - 1), 0, 0, 0, 0]))
        blocks = (InvertedResidual(width, width, expansion=2, activation=act) for _ in range(2))
        self.heads = nn.ModuleList(_with_own_norms(nn.Sequential(*blocks, last)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x, features = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        maps = [lateral(x) for lateral, x in zip(self.laterals, features[-len(STRIDES) :], strict=True)]
        for i in (1, 0):  # from coarse to fine: what is seen on a coarse map helps the finer one
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=2.0, mode="nearest")
        outputs = []
        for stride, head, x in zip(STRIDES, self.heads, maps, strict=True):
            x = head(x).float().permute(0, 2, 3, 1)  # (B, H/s, W/s, 5)
            distances = stride * torch.exp(x[..., 1:].clamp(max=6.0))  # at most 400 strides
            logit = x[..., :1] if self.training else _logit_of_root(x[..., :1])
            outputs.append(torch.cat([logit, distances], dim=-1))
        return tuple(outputs)


def _logit_of_root(logit: Tensor) -> Tensor:
    """Return the logit of √p for the logit of p."""
    root = logit.sigmoid().sqrt()
    return 0.5 * F.logsigmoid(logit) - F.logsigmoid(-logit) + torch.log1p(root)  # log √p - log(1 - √p)


def _with_own_norms(head: nn.Sequential) -> list[nn.Sequential]:
    """Return a head for each stride. They share their convolutions, but each has its own BatchNorms, as in RTMDet.

    A person twice as large looks the same one map further down, so one set of kernels serves all maps. But the maps'
    statistics differ: averaged together they fit none of them, and the network is much worse in eval mode.
    """
    heads = [head, *(copy.deepcopy(head) for _ in STRIDES[1:])]
    for other in heads[1:]:
        for shared, own in zip(head.modules(), other.modules(), strict=True):
            if isinstance(shared, nn.Conv2d) and isinstance(own, nn.Conv2d):
                own.weight, own.bias = shared.weight, shared.bias
    return heads


def grid_points(maps: tuple[Tensor, ...]) -> Tensor:
    """Return the place (x, y) of every point in input pixels, (N, 2): the upper left corner of its cell."""
    points = []
    for stride, output in zip(STRIDES, maps, strict=True):
        rows, columns = (torch.arange(n, device=output.device) * float(stride) for n in output.shape[1:3])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        points.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
    return torch.cat(points)


def giou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU (Rezatofighi et al. 2019) of boxes (…, 4), broadcast, (…)."""
    inner = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    outer = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    common, hull = inner.clamp(min=0).prod(-1), outer.prod(-1) + 1e-9
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1) - common + 1e-9
    return common / union, common / union - (hull - union) / hull


@torch.no_grad()
def assign(scores: Tensor, corners: Tensor, points: Tensor, boxes: Tensor, kinds: Tensor) -> tuple[Tensor, ...]:
    """Decide which point is trained to detect which person.

    Args:
        scores: (B, N) predicted, 0..1.
        corners: (B, N, 4) predicted.
        points: (N, 2).
        boxes: (B, M, 4) true ones.
        kinds: (B, M) 1 for a person, -1 for a crowd, 0 for padding.

    Returns:
        Target scores (B, N), 0 for points of no person. Index of each point's box (B, N). False for points that the
        loss ignores (B, N): those in a crowd that belong to no person.
    """
    offsets = torch.cat([points[:, None] - boxes[:, None, :, :2], boxes[:, None, :, 2:] - points[:, None]], dim=-1)
    inside = offsets.amin(-1) > 0  # (B, N, M)
    iou, _ = giou(corners[:, :, None], boxes[:, None])
    fit = scores[..., None].sqrt() * iou**6 * (inside & (kinds > 0)[:, None])
    best = fit.topk(min(POINTS_PER_BOX, fit.shape[1]), dim=1).indices
    chosen = torch.zeros_like(fit).scatter_(1, best, 1) * (fit > 0)
    iou = iou * chosen
    owner = iou.argmax(-1)  # a point that several boxes have chosen belongs to the one that it fits best
    chosen = chosen * F.one_hot(owner, boxes.shape[1])
    fit, iou = fit * chosen, iou * chosen
    # The best point of a person learns the IoU of its box, the others less.
    wanted = fit / (fit.amax(1, keepdim=True) + 1e-12) * iou.amax(1, keepdim=True)
    learns = (chosen > 0).any(-1) | ~(inside & (kinds < 0)[:, None]).any(-1)
    return wanted.amax(-1), owner, learns


def detection_loss(maps: tuple[Tensor, ...], boxes: Tensor, kinds: Tensor) -> Tensor:
    """Return cross-entropy of the scores plus (1 - GIoU) of the boxes, per unit of wanted score.

    Args:
        maps: of ``LGMDet``.
        boxes: (B, M, 4); see ``assign``.
        kinds: (B, M); see ``assign``.
    """
    rows, points = torch.cat([output.flatten(1, 2) for output in maps], dim=1), grid_points(maps)
    logits = rows[..., 0]
    corners = torch.cat([points - rows[..., 1:3], points + rows[..., 3:5]], dim=-1)
    wanted, owner, learns = assign(logits.sigmoid(), corners, points, boxes, kinds)
    score_loss = (F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * learns).sum()
    own = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    box_loss = ((1 - giou(corners, own)[1]) * wanted).sum()
    return (score_loss + BOX_LOSS_WEIGHT * box_loss) / wanted.sum().clamp(min=1)
