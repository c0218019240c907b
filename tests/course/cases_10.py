"""Lesson 10: wrong versions that its proofs and its tasks reject."""

import torch

from lgmpose.training import loop
from lgmpose.training.checkpoint import Run

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "half forgotten": ("return 0.5 * total", "return total"),
    "weights ignored": ("weights_BK[b, k] * (difference_HW**2)", "(difference_HW**2)"),
    "mean of labelled joints alone": ("(B * K * H * W)", "(weights_BK.sum() * H * W)"),
    "absolute error": ("difference_HW**2", "difference_HW.abs()"),
    "median": ("0.5 * ((painted - targets) ** 2 *", "0.5 * ((painted - targets).abs() *"),
    "weights forgotten in the fit": ("** 2 * weights[:, None]).mean()", "** 2).mean()"),
    "bias correction of m forgotten": ("m_hat = m / (1 - beta1**t)", "m_hat = m"),
    "bias correction of v forgotten": ("v_hat = v / (1 - beta2**t)", "v_hat = v"),
    "gradient not squared": ("(1 - beta2) * grad**2", "(1 - beta2) * grad.abs()"),
    "betas swapped": ("beta1 * m + (1 - beta1)", "beta2 * m + (1 - beta2)"),
    "decay swapped": ("return decay * average + (1 - decay)", "return (1 - decay) * average + decay"),
    "long memory at first": ("decay = min(decay, (1 + step) / (10 + step))", "decay = decay"),
    "gradients never forgotten": ("        optimizer.zero_grad()  #", "        #"),
    "rate a step early": ("learning_rate(config, step, p", "learning_rate(config, step + 1, p"),
    "every epoch in one order": ('"epoch": epoch}', '"epoch": 0}'),
    "no augmentation": ('"augmentation": config.augmentation', '"augmentation": None'),
    "weights alone restored": (
        "resumed.restore(folder",
        "resumed.net.load_state_dict(stopped.net.state_dict()) or (folder",
    ),
    "a step lost": ("one_step(stopped, batch)\n", "stopped.net.train()\n"),
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


def loss(predicted, target, weights):
    return 0.5 * ((predicted - target) ** 2 * weights[:, :, None, None]).mean()


def by_loops(predicted, target, weights):
    total = 0.0
    for b in range(len(target)):
        total = total + loss(predicted[b : b + 1], target[b : b + 1], weights[b : b + 1])
    return total / len(target)


def gradient(predicted, target, weights):
    return weights[..., None, None] * (predicted - target) / target.numel()


def by_backward(predicted, target, weights):
    leaf = predicted.clone().requires_grad_()
    loss(leaf, target, weights).backward()
    return leaf.grad


def fit_line(x, y, steps, rate, first=1, correct=True, half=True, swap=False):
    line, m, v = torch.zeros(2, dtype=x.dtype), 0, 0
    for t in range(first, steps + first):
        difference = line[0] * x + line[1] - y
        grad = torch.stack([(difference * x).mean(), difference.mean()]) * (1 if half else 2)
        grad = grad.flip(0) if swap else grad
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        m_hat, v_hat = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if correct else (m, v)
        line = line - rate * m_hat / (v_hat**0.5 + 1e-8)
    return line[0], line[1]


def sgd_line(x, y, steps, rate):
    slope = offset = 0.0
    for _ in range(steps):
        difference = slope * x + offset - y
        slope, offset = slope - rate * (difference * x).mean(), offset - rate * difference.mean()
    return slope, offset


RIGHT = {
    "10.1": [20.5],
    "10.2": [loss, lambda p, t, w: loss(p, t, w)],
    "10.3": [gradient],
    "10.4": [(0.75, 0.25)],
    "10.5": [0.053, 1 / 19],
    "10.6": [7],
    "10.7": [-0.6],
    "10.8": [lambda target, weights: loss(torch.zeros_like(target), target, weights)],
    "10.9": [fit_line, lambda *args: tuple(map(float, fit_line(*args)))],
    "10.10": [(2, 1)],
}
BLANK = {"10.9": [lambda *args: (..., ...)]}
WRONG = {
    "10.1": {"one joint's pixels": 41, "half forgotten": 41.0, "not squared": 2.5, "as before": 0.25, "the sum": 492},
    "10.2": {
        "half forgotten": lambda p, t, w: 2 * loss(p, t, w),
        "weights ignored": lambda p, t, w: 0.5 * ((p - t) ** 2).mean(),
        "labelled pixels alone": lambda p, t, w: 0.5 * ((p - t) ** 2)[w > 0].mean(),
        "weights squared": lambda p, t, w: loss(p, t, w**2),
        "the package's": lambda p, t, w: loop.heatmap_loss(p, t, w),
        "loops": by_loops,
        "loops in another function": lambda p, t, w: by_loops(p, t, w),
        "loops in a generator": lambda p, t, w: sum(loss(p[[b]], t[[b]], w[[b]]) for b in range(len(t))) / len(t),
        "axes not added (crashes)": lambda p, t, w: 0.5 * ((p - t) ** 2 * w).mean(),
    },
    "10.3": {
        "half forgotten": lambda p, t, w: 2 * gradient(p, t, w),
        "sign flipped": lambda p, t, w: -gradient(p, t, w),
        "weights ignored": lambda p, t, w: (p - t) / t.numel(),
        "weights squared": lambda p, t, w: gradient(p, t, w**2),
        "labelled or not": lambda p, t, w: gradient(p, t, (w > 0).float()),
        "mean over one image": lambda p, t, w: gradient(p, t, w) * t.shape[0],
        "one number": lambda p, t, w: gradient(p, t, w).sum(),
        "by backward": by_backward,
    },
    "10.4": {"the more frequent one": (1, 0), "both": (1, 1), "exchanged": (0.25, 0.75), "counts": (3, 1)},
    "10.5": {"the rate": 1, "not corrected": 0.316, "stands still": 0, "m not corrected": 0.01, "SGD": 4},
    "10.6": {"half of ten": 5, "six": 6, "ten": 10, "one": 1},
    "10.7": {"with zero_grad": -0.3, "uphill": 0.6, "the last gradient three times": -0.9, "the last": -0.1},
    "10.8": {
        "half forgotten": lambda t, w: (t**2 * w[:, :, None, None]).mean(),
        "weights ignored": lambda t, w: 0.5 * (t**2).mean(),
        "not squared": lambda t, w: 0.5 * (t.abs() * w[:, :, None, None]).mean(),
        "nothing at all": lambda t, w: 0.0,
    },
    "10.9": {
        "not corrected": lambda *args: fit_line(*args, correct=False),
        "counted from 2": lambda *args: fit_line(*args, first=2),
        "gradients exchanged": lambda *args: fit_line(*args, swap=True),
        "gradients doubled": lambda *args: fit_line(*args, half=False),
        "plain descent": sgd_line,
        "offset first": lambda *args: fit_line(*args)[::-1],
        "counted from 0 (crashes)": lambda x, y, steps, rate: 0.9**steps / (1 - 0.9**0),
    },
    "10.10": {"Adam as SGD": (2, 2), "SGD as Adam": (1, 1), "one number": 2, "three numbers": (1, 2, 3)},
}
