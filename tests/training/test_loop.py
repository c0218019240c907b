"""The loss, and what one step of the loop does with the gradients and with several predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lgmpose.data.batches import to_input
from lgmpose.training.checkpoint import Run
from lgmpose.training.loop import heatmap_loss, train_epochs
from lgmpose.zoo.catalogue import create_model


class OneEpoch:
    """Surrounds the loop for some steps on the same batch, without files or evaluation."""

    def __init__(self, steps: int = 1, joints: int = 17):
        self.steps_per_epoch, self.losses, self.epochs = steps, [], 0
        g = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (2, 64, 32, 3), dtype=torch.uint8, generator=g)
        self.batch = images, torch.rand(2, joints, 16, 8, generator=g), torch.ones(2, joints)

    def batches(self):
        return [self.batch] * self.steps_per_epoch

    def after_step(self, loss) -> bool:
        assert not loss.requires_grad
        self.losses.append(loss.item())
        return False

    def after_epoch(self) -> bool:
        self.epochs += 1
        return True


def test_loss_is_half_the_mean_square_and_ignores_unlabelled_joints():
    rng = np.random.default_rng(0)
    predicted, target = (torch.tensor(rng.random((2, 3, 4, 5)), requires_grad=i == 0) for i in range(2))
    weights = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    expected = sum(
        weights[b, k] * (predicted[b, k] - target[b, k]).pow(2).sum() for b in range(2) for k in range(3)
    ) / (2 * 2 * 3 * 4 * 5)
    loss = heatmap_loss(predicted, target, weights)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (predicted.grad[0, 1] == 0).all() and (predicted.grad[1, 1] != 0).all()


@pytest.mark.parametrize("limit", [0.0, 1e-4])
def test_the_gradients_norm_is_clipped_where_that_is_asked_for(config, limit):
    run = Run(replace(config, clip_grad_norm=limit, learning_rate=1e-9), create_model("tiny"), torch.device("cpu"))
    train_epochs(run, run.net, OneEpoch())
    norm = torch.stack([p.grad.norm() for p in run.net.parameters()]).norm().item()
    assert norm == pytest.approx(1e-4, rel=0.01) if limit else norm > 1e-3


def test_a_network_with_several_predictions_learns_from_all_of_them(config):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.Conv2d(3, 17, 4, stride=4) for _ in range(2))
            self.config = None

        def forward(self, images):
            return self.first(images), self.second(images)

    net, session = Two(), OneEpoch()
    images, heatmaps, weights = session.batch
    expected = sum(heatmap_loss(one, heatmaps, weights) for one in net(to_input(images)))
    run = Run(config, net, torch.device("cpu"))
    train_epochs(run, net, session)
    assert session.losses == [expected.item()] and net.first.weight.grad is not None


def test_the_loop_trains_counts_and_stops(config):
    run, session = Run(config, create_model("tiny").eval(), torch.device("cpu")), OneEpoch(steps=8)
    assert train_epochs(run, run.net, session)
    assert (run.step, run.epoch_step, session.epochs) == (8, 8, 1) and run.net.training
    assert session.losses[-1] < session.losses[0]
    run.epoch = config.epochs
    assert not train_epochs(run, run.net, session) and run.step == 8
