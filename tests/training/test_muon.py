"""Muon: its step against the singular value decomposition, and which parameters it leaves to AdamW."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lgmpose.training.muon import Muon, is_dense, orthogonalised
from lgmpose.zoo.catalogue import create_model


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_come_close_to_one_and_the_vectors_stay(shape):
    matrix = torch.randn(shape)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix) @ v.T
    large = values > 0.1 * values[0]
    assert (found - torch.diag(found.diag())).abs().max() < 1e-3
    assert found.diag()[large].min() > 0.6 and found.diag().max() < 1.3
    assert torch.equal(orthogonalised(torch.zeros(shape)), torch.zeros(shape))


def test_a_step_of_a_dense_kernel_is_the_orthogonal_factor_of_its_gradient():
    """Its size is 0.2 times the root of the longer side, after the weight decay."""
    kernel = nn.Parameter(torch.randn(8, 16, 3, 3).to(memory_format=torch.channels_last))
    before, gradient = kernel.detach().clone(), torch.randn(8, 16, 3, 3)
    optimizer = Muon([kernel], lr=0.5, weight_decay=0.1)
    kernel.grad = gradient.clone(memory_format=torch.channels_last)
    optimizer.step()
    step = (before * (1 - 0.5 * 0.1) - kernel.detach()).reshape(8, -1) / (0.5 * 0.2 * 144**0.5)
    torch.testing.assert_close(step, orthogonalised(gradient.reshape(8, -1)), rtol=1e-3, atol=1e-4)
    assert torch.equal(kernel.grad, gradient)  # the step leaves the gradient as it was


def test_the_momentum_is_nesterovs():
    torch.manual_seed(1)
    weight = nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=1.0, weight_decay=0.0)
    first, second = torch.randn(8, 8), torch.randn(8, 8)
    for gradient in (first, second):
        before, weight.grad = weight.detach().clone(), gradient
        optimizer.step()
    momentum = 0.95 * (0.05 * first) + 0.05 * second
    expected = orthogonalised(0.05 * second + 0.95 * momentum) * 0.2 * 8**0.5
    torch.testing.assert_close(before - weight.detach(), expected, rtol=1e-3, atol=2e-4)


def test_all_other_parameters_take_adamws_step():
    net, twin = create_model("tiny"), create_model("tiny")
    twin.load_state_dict(net.state_dict())
    other = [name for name, parameter in net.named_parameters() if not is_dense(parameter)]
    dense = [name for name, parameter in net.named_parameters() if is_dense(parameter)]
    assert len(other) > len(dense) > 5
    options = {"lr": 0.01, "weight_decay": 0.1}
    pairs = ((net, Muon(net.parameters(), **options)), (twin, torch.optim.AdamW(twin.parameters(), **options)))
    for _ in range(3):
        gradients = [torch.randn_like(parameter) for parameter in net.parameters()]
        for one, optimizer in pairs:
            for parameter, gradient in zip(one.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    ours, theirs = dict(net.named_parameters()), dict(twin.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in other)
    assert not any(torch.equal(ours[name], theirs[name]) for name in dense)


def test_dense_are_linear_layers_and_kernels_of_enough_channels():
    assert is_dense(nn.Linear(8, 8).weight) and is_dense(nn.Conv2d(8, 9, 3).weight)
    assert is_dense(nn.ConvTranspose2d(8, 9, 4).weight)
    depthwise, stem, small_head = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(3, 16, 3), nn.Conv2d(16, 3, 1)
    assert not any(is_dense(layer.weight) for layer in (depthwise, stem, small_head))
    assert not is_dense(nn.Linear(8, 8).bias)


def test_parameters_without_a_gradient_stay(config):
    net = create_model(config.model)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    Muon(net.parameters(), lr=0.1, weight_decay=0.1).step()
    assert all(torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True))


def test_a_damaged_momentum_is_refused(config, tmp_path):
    from test_checkpoint import started

    from lgmpose.errors import UserError

    config = replace(config, optimizer="muon")
    started(config).save(tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    number, tensors = next((k, v) for k, v in state["optimizer"].items() if "momentum" in v)
    for wrong in (tensors | {"momentum": tensors["momentum"][:1]}, {}, {"exp_avg": tensors["momentum"]}):
        state["optimizer"][number] = wrong
        torch.save(state, tmp_path / "last.pt")
        with pytest.raises(UserError, match=f"optimiser's state of parameter {number}"):
            started(config).restore(tmp_path / "last.pt")
