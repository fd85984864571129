"""Schedule and optimisers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cytonet_pipeline.learning.training.optimizers import LARS, learning_rate, make_optimizer
from cytonet_pipeline.settings import OptimizerBlock


def test_the_learning_rate_warms_up_and_falls_to_zero_along_a_cosine():
    block = OptimizerBlock(learning_rate=2.0, warmup_steps=10)
    rates = [learning_rate(step, 110, block) for step in range(110)]

    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.001
    assert max(rates) == 2.0


def test_a_warm_up_longer_than_the_training_is_cut():
    block = OptimizerBlock(learning_rate=1.0, warmup_steps=1000)

    assert max(learning_rate(step, 20, block) for step in range(20)) == 1.0


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_biases_and_normalisations_are_not_decayed(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decayed, others = make_optimizer(model, OptimizerBlock(name=name, weight_decay=0.5)).param_groups

    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in others["params"]} == {1}


def test_lars_without_adaptation_is_sgd_with_momentum():
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    a = LARS([{"params": [ours], "adapted": False}], lr=0.1, weight_decay=0.01)
    b = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(5):
        for parameter, optimizer in ((ours, a), (theirs, b)):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()

    torch.testing.assert_close(ours, theirs)


def test_a_lars_step_is_a_share_of_the_weights_whatever_the_gradient():
    for scale in (1e-4, 1.0, 1e4):
        weight = nn.Parameter(torch.full((3, 3), 2.0))
        optimizer = LARS([weight], lr=1.0, trust=0.01)
        (weight.sum() * scale).backward()
        optimizer.step()

        assert math.isclose((weight - 2).norm().item(), 0.01 * 6, rel_tol=1e-4)


def test_lars_is_its_published_formula_for_weights_and_plain_momentum_for_biases_and_normalisations():
    """Written again in NumPy (You, Gitman & Ginsburg 2017, algorithm 1; momentum on the scaled update)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    block = OptimizerBlock(name="lars", learning_rate=0.3, weight_decay=0.02)
    optimizer = make_optimizer(model, block)
    ours = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    momentum = {name: np.zeros_like(value) for name, value in ours.items()}
    for rate in (0.1, 0.3, 0.2):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        model(torch.rand(8, 5).double()).pow(2).sum().backward()
        for name, p in model.named_parameters():
            update = p.grad.numpy().copy()
            if name in ("0.weight", "2.weight"):
                update += 0.02 * ours[name]
                update *= 1e-3 * np.linalg.norm(ours[name]) / np.linalg.norm(update)
            momentum[name] = 0.9 * momentum[name] + update
            ours[name] = ours[name] - rate * momentum[name]
        optimizer.step()

    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), ours[name], rtol=1e-12, atol=1e-15, err_msg=name)
