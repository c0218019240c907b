"""The training loop: forward, loss, backward, step.

``trainer.py`` gives it batches, and logs, evaluates and saves. ``recipe.py`` has the settings and the learning rate.
``checkpoint.py`` makes the optimizer and the average of the weights, and holds the state of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.data.batches import to_input
from lgmpose.pose.codecs import SIMCC_FACTOR
from lgmpose.training.checkpoint import Run
from lgmpose.training.recipe import learning_rate

if TYPE_CHECKING:
    from lgmpose.training.trainer import Session

__all__ = ["heatmap_loss", "simcc_loss", "supervised_loss", "train_epochs"]

Loss = Callable[[Any, Tensor, Tensor], Tensor]  # of what the network predicts, the targets and their weights


def supervised_loss(predicted: Tensor | tuple[Tensor, ...], heatmaps: Tensor, weights: Tensor) -> Tensor:
    """Return ``heatmap_loss``, summed over the predictions of a network with intermediate supervision."""
    predictions = predicted if isinstance(predicted, tuple) else (predicted,)
    return torch.stack([heatmap_loss(prediction.float(), heatmaps, weights) for prediction in predictions]).sum()


def train_epochs(run: Run, net: nn.Module, session: Session, loss_of: Loss = supervised_loss) -> bool:
    """Train until the last epoch, until the time is over, or until a stop is requested.

    Nothing here waits for a GPU: a loss stays a tensor on the device until the session reads several of them at once.

    Args:
        run: the state, which every step changes.
        net: ``run.net``, or what wraps it (torch.compile, DistributedDataParallel).
        session: ``batches()`` gives what is left of the epoch; ``after_step`` and ``after_epoch`` log, evaluate and
            save, and return True to stop.
        loss_of: what is minimised.

    Returns:
        Whether a stop was requested.
    """
    config, optimizer = run.config, run.optimizer
    while run.epoch < config.epochs and not (run.out_of_time and run.epoch_step == 0):
        net.train()
        run.freeze_trunk()  # after net.train(): in the first epochs it may put the trunk back into eval mode
        for images, targets, weights in session.batches():
            optimizer.param_groups[0]["lr"] = learning_rate(config, run.step, session.steps_per_epoch, run.seconds)
            with torch.autocast(run.device.type, torch.bfloat16) if run.bf16 else nullcontext():
                predicted = net(to_input(images))
            loss = loss_of(predicted, targets, weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_grad_norm:
                nn.utils.clip_grad_norm_(net.parameters(), config.clip_grad_norm)
            optimizer.step()
            run.step, run.epoch_step = run.step + 1, run.epoch_step + 1
            run.update_ema()
            if session.after_step(loss.detach()):
                return True
        if session.after_epoch():
            return True
    return False


def heatmap_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return half the squared error, averaged over batch, joints and pixels.

    Joints of weight 0 contribute nothing, but count in the average.

    Args:
        predicted: (B, K, h, w).
        target: (B, K, h, w).
        weights: (B, K).
    """
    return 0.5 * ((predicted - target).square() * weights[..., None, None]).mean()


def simcc_loss(predicted: Tensor, target: Tensor, weights: Tensor, *, x_bins: int) -> Tensor:
    """Return the Kullback-Leibler divergence of softmax(10 · predicted) from softmax(10 · target), as in RTMPose.

    It is summed over the two axes and averaged over batch and joints, as in ``heatmap_loss``. Its unit is the nat.

    Args:
        predicted: (B, K, x bins + y bins).
        target: the same, from ``SimCCCodec.encode``.
        weights: (B, K).
        x_bins: how many of the bins are along x.
    """
    divergence = torch.zeros_like(weights)
    for axis in (slice(0, x_bins), slice(x_bins, None)):
        found, wanted = (SIMCC_FACTOR * scores[..., axis] for scores in (predicted.to(target.dtype), target))
        found, wanted = found.log_softmax(dim=-1), wanted.log_softmax(dim=-1)
        divergence = divergence + F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=-1)
    return (divergence * weights).mean()
