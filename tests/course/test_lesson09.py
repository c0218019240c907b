"""Lesson 09: its proofs hold, and neither they nor its exercises let named mistakes pass."""

import pytest
import torch
from notebook_tools import run_core, verdict

from lgmpose.training import loop as training
from lgmpose.training.checkpoint import Run


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are faster so, and the losses are compared bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_proofs_hold():
    names = run_core("09")
    assert len(names["ours"]) == 4 and names["peaks"] == [4, 2]


@pytest.mark.parametrize(
    "mistake",
    [
        # the loss
        pytest.param(("return 0.5 * total", "return total"), id="half forgotten"),
        pytest.param(("weights_BK[b, k] * (difference_HW**2)", "(difference_HW**2)"), id="weights ignored"),
        pytest.param(("(B * K * H * W)", "(weights_BK.sum() * H * W)"), id="mean of labelled joints alone"),
        pytest.param(("difference_HW**2", "difference_HW.abs()"), id="absolute error"),
        # the best answer to contradictory targets
        pytest.param(("0.5 * ((painted - targets) ** 2 *", "0.5 * ((painted - targets).abs() *"), id="median"),
        pytest.param(("** 2 * weights[:, None]).mean()", "** 2).mean()"), id="weights forgotten in the fit"),
        # Adam
        pytest.param(("m_hat = m / (1 - beta1**t)", "m_hat = m"), id="bias correction of m forgotten"),
        pytest.param(("v_hat = v / (1 - beta2**t)", "v_hat = v"), id="bias correction of v forgotten"),
        pytest.param(("(1 - beta2) * slope**2", "(1 - beta2) * slope.abs()"), id="slope not squared"),
        pytest.param(("beta1 * m + (1 - beta1)", "beta2 * m + (1 - beta2)"), id="betas swapped"),
        # the running average
        pytest.param(
            ("return decay * average + (1 - decay)", "return (1 - decay) * average + decay"), id="decay swapped"
        ),
        pytest.param(("decay = min(decay, (1 + step) / (10 + step))", "decay = decay"), id="long memory at first"),
        # the loop
        pytest.param(("            optimizer.zero_grad()\n", ""), id="slopes never forgotten"),
        pytest.param(("learning_rate(config, step, s", "learning_rate(config, step + 1, s"), id="rate a step early"),
        pytest.param(("seed=config.seed, epoch=epoch)", "seed=config.seed, epoch=0)"), id="every epoch in one order"),
        pytest.param(("augmentation=config.augmentation", "augmentation=None"), id="no augmentation"),
        # resuming
        pytest.param(
            ("resumed.restore(folder", "resumed.net.load_state_dict(stopped.net.state_dict()) or (folder"),
            id="weights alone restored",
        ),
        pytest.param(("one_step(stopped, batch)\n", "stopped.net.train()\n"), id="a step lost"),
    ],
)
def test_the_proofs_reject(mistake):
    with pytest.raises(AssertionError):
        run_core("09", mistake)


def test_a_package_whose_loss_forgets_the_weights_turns_the_lesson_red(monkeypatch):
    def careless(predicted, target, weights):
        return (predicted - target).square().mean() / 2

    monkeypatch.setattr(training, "heatmap_loss", careless)
    with pytest.raises(AssertionError):
        run_core("09")


def test_a_package_whose_average_has_its_decay_swapped_turns_the_lesson_red(monkeypatch):
    @torch.no_grad()
    def swapped(run):
        decay = min(run.config.ema_decay, (1 + run.step) / (10 + run.step))
        for name, value in run.net.state_dict().items():
            if value.is_floating_point():
                run.ema[name].lerp_(value, decay)

    monkeypatch.setattr(Run, "update_ema", swapped)
    with pytest.raises(AssertionError):
        run_core("09")


def test_a_package_that_loses_adams_memory_turns_the_lesson_red(monkeypatch):
    restore = Run.restore

    def forgetful(run, path):
        restore(run, path)
        run.optimizer.state.clear()

    monkeypatch.setattr(Run, "restore", forgetful)
    with pytest.raises(AssertionError):
        run_core("09")


def right_slope(predicted, target, weights):
    return weights[..., None, None] * (predicted - target) / target.numel()


def test_the_right_slope_and_blanks():
    assert verdict("09.1", right_slope) == "correct"
    for blank in (None, ..., lambda predicted, target, weights: ...):
        assert verdict("09.1", blank) == "not attempted yet"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda p, t, w: 2 * right_slope(p, t, w), id="half forgotten"),
        pytest.param(lambda p, t, w: -right_slope(p, t, w), id="downhill"),
        pytest.param(lambda p, t, w: (p - t) / t.numel(), id="weights ignored"),
        pytest.param(lambda p, t, w: right_slope(p, t, w) * t.shape[0], id="mean over one picture"),
    ],
)
def test_wrong_slopes(wrong):
    assert "is right" in verdict("09.1", wrong)


def test_a_slope_of_one_number_is_another_shape():
    assert "shape" in verdict("09.1", lambda p, t, w: right_slope(p, t, w).sum())


def test_first_steps_are_measured():
    assert verdict("09.2", (2, 1)) == "correct"
    for blank in (None, ..., (..., ...), (2, None)):
        assert verdict("09.2", blank) == "not attempted yet"
    assert "with Adam you said 2" in verdict("09.2", (2, 2))
    assert "with SGD you said 1" in verdict("09.2", (1, 1))
    assert "two numbers" in verdict("09.2", 2) and "two numbers" in verdict("09.2", (1, 2, 3))
