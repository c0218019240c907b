"""Moving LARM's weights to another input size.

The MLP Block between patches has weights per patch, so they depend on the grid of patches. They are resampled as
images over that grid. All other weights of LGM-Pose fit every size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmpose.network.modules import LARM, MLPBlock

__all__ = ["grid_resampler", "resample_larm"]


def grid_resampler(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Return the matrix (N_to, N_from) of bilinear, anti-aliased resampling between two grids; each row sums to 1."""
    impulses = torch.eye(from_hw[0] * from_hw[1]).view(-1, 1, *from_hw)
    return F.interpolate(impulses, size=to_hw, mode="bilinear", antialias=True, align_corners=False).flatten(1).T


@torch.no_grad()
def resample_larm(source: LARM, target: LARM) -> None:
    """Give ``target`` weights with which it mixes patches on its grid as ``source`` does on another grid.

    The new weights combine three steps: resample a vector from the new grid to the old one, apply the old weights, and
    resample the result to the new grid. Hidden units belong to no patch, so they are not resampled. A larger grid has
    more of them. The additional ones keep the target's initial incoming weights, and get outgoing weights 0. So they
    change nothing at first, but can be trained. A smaller grid keeps those with the largest weights.
    """
    ours, theirs = source.between_patches, target.between_patches
    if not (isinstance(ours, MLPBlock) and isinstance(theirs, MLPBlock)):
        return  # left out of this LARM
    if source.grid_hw == target.grid_hw:
        theirs.load_state_dict(ours.state_dict())
        return
    up = grid_resampler(source.grid_hw, target.grid_hw).to(ours.norm.weight)
    down = grid_resampler(target.grid_hw, source.grid_hw).to(ours.norm.weight)
    theirs.norm.weight.copy_(up @ ours.norm.weight)
    theirs.norm.bias.copy_(up @ ours.norm.bias)
    importance = ours.expand.weight.norm(dim=1) * ours.project.weight.norm(dim=0)
    kept = importance.topk(min(len(importance), theirs.expand.out_features)).indices.sort().values
    theirs.expand.weight[: len(kept)] = ours.expand.weight[kept] @ down
    theirs.expand.bias[: len(kept)] = ours.expand.bias[kept]
    theirs.project.weight.zero_()
    theirs.project.weight[:, : len(kept)] = up @ ours.project.weight[:, kept]
    theirs.project.bias.copy_(up @ ours.project.bias)
