"""Muon, an optimizer for dense kernels and linear layers (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

Adam scales every weight on its own. Muon takes the gradient of a layer as one matrix and makes all its singular values
about 1. So the step is not only along the few directions in which the gradient is large. PyTorch's own Muon accepts
only matrices, not the kernels of convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "is_dense", "orthogonalised"]

LEAST_CHANNELS = 8  # a layer with fewer input or output channels, a depthwise one for example, has Adam's step
MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a x + b x³ + c x⁵: steep at 0, so small singular values grow quickly
ADAM_SIZE = 0.2  # root mean square of Adam's steps in practice, so that Adam's learning rates fit (Liu et al. 2025)


def is_dense(parameter: Tensor) -> bool:
    """Whether a parameter (out, in, ...) is a matrix or a dense kernel, to which Muon's step applies."""
    return parameter.ndim >= 2 and min(parameter.shape[:2]) >= LEAST_CHANNELS


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return a matrix (m, n) with the same singular vectors, and singular values near 1 (0.7 to 1.2 unless tiny).

    Newton-Schulz iteration: it needs products of matrices only, no singular value decomposition. A step is
    x ← (a + b s + c s²) x with s = x xᵀ. All its factors are polynomials of the first s, so they commute, and the steps
    need only square matrices of the shorter side. That is faster for long matrices.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp(min=1e-12)
    square = x @ x.T
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(steps):
        factor = torch.addmm(square, square, square, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        square = factor @ square @ factor
    x = product @ x
    return x if wide is matrix else x.T


class Muon(torch.optim.AdamW):
    """Muon for the parameters that ``is_dense`` names, AdamW for the others; both with the same learning rate.

    The arguments are those of AdamW.
    """

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Change all parameters that have a gradient."""
        (group,) = self.param_groups
        dense = [(p, p.grad) for p in group["params"] if p.grad is not None and is_dense(p)]
        for parameter, _ in dense:
            parameter.grad = None  # AdamW then leaves it as it is
        result = super().step(closure)
        for parameter, gradient in dense:
            parameter.grad = gradient
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)  # AdamW expects one when it reads a state
                state["momentum"] = torch.zeros_like(parameter)
            state["step"] += 1
            state["momentum"].lerp_(gradient, 1 - MOMENTUM)
            ahead = gradient.lerp(state["momentum"], MOMENTUM).flatten(1)  # Nesterov's momentum
            size = ADAM_SIZE * math.sqrt(max(ahead.shape))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(orthogonalised(ahead).view(gradient.shape), alpha=group["lr"] * size)
        return result
