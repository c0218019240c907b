"""Lesson 10: wrong versions that its proofs and its exercises reject."""

import torch

from lgmpose.training import loop
from lgmpose.training.checkpoint import Run

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'half forgotten': ('return 0.5 * total', 'return total'),
    'weights ignored': ('weights_BK[b, k] * (difference_HW**2)', '(difference_HW**2)'),
    'mean of labelled joints alone': ('(B * K * H * W)', '(weights_BK.sum() * H * W)'),
    'absolute error': ('difference_HW**2', 'difference_HW.abs()'),
    'median': ('0.5 * ((painted - targets) ** 2 *', '0.5 * ((painted - targets).abs() *'),
    'weights forgotten in the fit': ('** 2 * weights[:, None]).mean()', '** 2).mean()'),
    'bias correction of m forgotten': ('m_hat = m / (1 - beta1**t)', 'm_hat = m'),
    'bias correction of v forgotten': ('v_hat = v / (1 - beta2**t)', 'v_hat = v'),
    'slope not squared': ('(1 - beta2) * slope**2', '(1 - beta2) * slope.abs()'),
    'betas swapped': ('beta1 * m + (1 - beta1)', 'beta2 * m + (1 - beta2)'),
    'decay swapped': ('return decay * average + (1 - decay)', 'return (1 - decay) * average + decay'),
    'long memory at first': ('decay = min(decay, (1 + step) / (10 + step))', 'decay = decay'),
    'slopes never forgotten': ('            optimizer.zero_grad()\n', ''),
    'rate a step early': ('learning_rate(config, step, s', 'learning_rate(config, step + 1, s'),
    'every epoch in one order': ('seed=config.seed, epoch=epoch)', 'seed=config.seed, epoch=0)'),
    'no augmentation': ('augmentation=config.augmentation', 'augmentation=None'),
    'weights alone restored': (
        'resumed.restore(folder',
        'resumed.net.load_state_dict(stopped.net.state_dict()) or (folder',
    ),
    'a step lost': ('one_step(stopped, batch)\n', 'stopped.net.train()\n'),
}


def loss_without_weights(patch):
    patch.setattr(loop, "heatmap_loss", lambda predicted, target, weights: (predicted - target).square().mean() / 2)


def average_with_its_decay_swapped(patch):
    @torch.no_grad()
    def swapped(run):
        decay = min(run.config.ema_decay, (1 + run.step) / (10 + run.step))
        for name, value in run.net.state_dict().items():
            if value.is_floating_point():
                run.ema[name].lerp_(value, decay)

    patch.setattr(Run, "update_ema", swapped)


def optimizer_state_lost(patch):
    restore = Run.restore

    def forgetful(run, path):
        restore(run, path)
        run.optimizer.state.clear()

    patch.setattr(Run, "restore", forgetful)


PACKAGE = [loss_without_weights, average_with_its_decay_swapped, optimizer_state_lost]


def gradient(predicted, target, weights):
    return weights[..., None, None] * (predicted - target) / target.numel()


RIGHT = {"10.1": [gradient], "10.2": [(2, 1)]}
WRONG = {
    "10.1": {
        "half forgotten": lambda p, t, w: 2 * gradient(p, t, w),
        "sign flipped": lambda p, t, w: -gradient(p, t, w),
        "weights ignored": lambda p, t, w: (p - t) / t.numel(),
        "mean over one image": lambda p, t, w: gradient(p, t, w) * t.shape[0],
        "one number": lambda p, t, w: gradient(p, t, w).sum(),
    },
    "10.2": {"Adam as SGD": (2, 2), "SGD as Adam": (1, 1), "one number": 2, "three numbers": (1, 2, 3)},
}
