"""The losses against definitions written out loop by loop in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cytonet_pipeline.learning.losses import contrastive_nll
from cytonet_pipeline.learning.losses.contrastive import DistanceWeightedContrastiveLoss, SupervisedContrastiveLoss


def as_printed(
    z,
    positions,
    brains,
    *,
    temperature,
    transfer,
    length_mm,
    anchor="k",
    self_term=False,
    min_mass=0.1,
    distance="euclidean",
    same_brain_weight=1.0,
    drop_same_brain_mm=0.0,
):
    """The formula of the module's docstring, one loop per sum, in Python floats."""
    z, positions = z.astype(np.float64), positions.astype(np.float64)
    n = len(z)
    g = {
        "gaussian": lambda d: math.exp(-(d**2) / (2 * length_mm**2)),
        "exponential": lambda d: math.exp(-d / length_mm),
        "inverse": lambda d: 1 / (1 + d / length_mm),
        "threshold": lambda d: float(d <= length_mm),
    }[transfer]

    def d(i, j):
        a, b = positions[i].copy(), positions[j].copy()
        if distance == "mirrored":
            a[0], b[0] = abs(a[0]), abs(b[0])
        return math.sqrt(sum((a - b) ** 2))

    def partners(i):
        return [j for j in range(n) if j != i and not (brains[i] == brains[j] and d(i, j) < drop_same_brain_mm)]

    def weight(i, j):
        return g(d(i, j)) * (same_brain_weight if brains[i] == brains[j] else 1.0)

    def log_p(i, k):
        softmax_over = k if anchor == "k" else i
        terms = [float(z[j] @ z[softmax_over]) / temperature for j in partners(softmax_over)]
        top = max(terms)
        return float(z[i] @ z[k]) / temperature - top - math.log(sum(math.exp(t - top) for t in terms))

    losses = []
    for i in range(n):
        mass = sum(weight(i, j) for j in partners(i))
        normaliser = mass + (g(0.0) if self_term else 0.0)
        if mass < min_mass or normaliser == 0:
            continue
        losses.append(sum(weight(i, k) * log_p(i, k) for k in partners(i)) / normaliser)
    return -sum(losses) / len(losses) if losses else 0.0


def batch_of(n=24, dim=8, extent_mm=30.0, seed=0):
    rng = np.random.default_rng(seed)
    z = functional.normalize(torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)), dim=1)
    positions = torch.from_numpy(rng.uniform(-extent_mm, extent_mm, size=(n, 3)).astype(np.float32))
    return z, positions, torch.from_numpy(rng.integers(0, 3, size=n))


OPTIONS = [
    {"transfer": transfer, "anchor": anchor, "self_term": self_term}
    for transfer, anchor, self_term in itertools.product(
        ("gaussian", "exponential", "inverse", "threshold"), ("k", "i"), (False, True)
    )
] + [
    {"transfer": "gaussian", "min_mass": 0.0},
    {"transfer": "gaussian", "min_mass": 1.5},
    {"transfer": "gaussian", "distance": "mirrored"},
    {"transfer": "gaussian", "same_brain_weight": 0.25},
    {"transfer": "gaussian", "same_brain_weight": 0.0, "anchor": "i"},
    {"transfer": "exponential", "drop_same_brain_mm": 15.0},
    {"transfer": "exponential", "drop_same_brain_mm": 1000.0, "anchor": "i"},
    {
        "transfer": "inverse",
        "drop_same_brain_mm": 20.0,
        "same_brain_weight": 0.5,
        "distance": "mirrored",
        "self_term": True,
    },
]


every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(f"{k}={v}" for k, v in o.items()))


@pytest.fixture(params=[1 << 22, 24 * 4 * 7], ids=["one block", "blocks of 7"])
def blocks(request, monkeypatch):
    """Large batches are processed in blocks of rows: here with a last one that is not full."""
    monkeypatch.setitem(contrastive_nll._BLOCK_BYTES, "cpu", request.param)


@pytest.mark.usefixtures("blocks")
@every_option
def test_the_loss_is_the_printed_formula(options):
    z, positions, brains = batch_of()
    options = {"temperature": 0.1, "length_mm": 12.0, **options}

    loss = DistanceWeightedContrastiveLoss(**options)(z, positions, brains)

    assert float(loss) == pytest.approx(as_printed(z.numpy(), positions.numpy(), brains.numpy(), **options), rel=1e-5)


@pytest.mark.usefixtures("blocks")
@every_option
def test_gradients_follow_finite_differences(options):
    """The backward pass is written by hand."""
    z, positions, brains = batch_of(9, 4, 15.0)
    loss = DistanceWeightedContrastiveLoss(**{"temperature": 0.2, "length_mm": 12.0, **options})

    assert torch.autograd.gradcheck(
        lambda x: loss(x, positions.double(), brains), z.double().requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize("anchor", ["k", "i"])
@pytest.mark.parametrize("places", ["two", "far", "one place"])
def test_odd_batches_follow_the_formula(places, anchor):
    """τ = 0.01: exp(1/0.01) is 2.7e43, beyond float32."""
    z, positions, brains = batch_of(2 if places == "two" else 12)
    if places == "two":
        positions = positions * 0.1
    elif places == "far":
        positions[1::2] *= 100  # every second sample has no neighbour
    else:
        positions[:] = positions[0]
    options = {"temperature": 0.01, "transfer": "gaussian", "length_mm": 12.0, "anchor": anchor}
    z = z.requires_grad_()

    loss = DistanceWeightedContrastiveLoss(**options)(z, positions)
    loss.backward()

    expected = as_printed(z.detach().numpy(), positions.numpy(), brains.numpy(), **options)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_the_formula_without_blocks(dtype):
    """A batch as large as in training, against autograd in float64."""
    z, positions, _ = batch_of(300, 32, 40.0)
    mine, theirs = (z.detach().clone().to(kind).requires_grad_() for kind in (dtype, torch.float64))
    g = torch.exp(-(torch.cdist(positions.double(), positions.double()) ** 2) / (2 * 12.0**2)).fill_diagonal_(0)
    similarity = (theirs @ theirs.T / 0.1).masked_fill(torch.eye(300, dtype=torch.bool), -torch.inf)
    log_p = torch.log_softmax(similarity, 0).masked_fill(torch.eye(300, dtype=torch.bool), 0)
    stays = g.sum(1) >= 0.1

    loss = DistanceWeightedContrastiveLoss(0.1, length_mm=12.0)(mine, positions.to(dtype))
    (3 * loss).backward()
    expected = -((g * log_p).sum(1) / g.sum(1))[stays].mean()
    (3 * expected).backward()

    assert stays.sum() > 0
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-5, atol=1e-5 * theirs.grad.abs().max().item())


def test_a_loss_without_gradient_is_the_same():
    z, positions, _ = batch_of()
    loss = DistanceWeightedContrastiveLoss()

    with torch.no_grad():
        assert torch.equal(loss(z, positions), loss(z.clone().requires_grad_(), positions).detach())


def test_near_neighbours_far_from_the_origin_keep_their_distance():
    """|a|² + |b|² - 2ab in float32 loses a distance of 0.1 mm at 100 mm from the origin."""
    z, _, _ = batch_of(2)
    positions = torch.tensor([[100.0, -90.0, 80.0], [100.1, -90.0, 80.0]])
    loss = DistanceWeightedContrastiveLoss(transfer="exponential", length_mm=0.1)

    loss(z, positions)

    assert loss.statistics()["positive_mass"] == pytest.approx(math.exp(-1), rel=1e-3)


@pytest.mark.parametrize("anchor", ["k", "i"])
def test_a_batch_without_neighbours_has_no_loss_and_no_gradient(anchor):
    z, _, _ = batch_of(5)
    positions = torch.arange(15.0).view(5, 3) * 1000
    z.requires_grad_()
    loss = DistanceWeightedContrastiveLoss(0.01, anchor=anchor)

    value = loss(z, positions)
    value.backward()

    assert value.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))
    assert loss.statistics()["dropped_anchors"] == 1


def test_an_isolated_patch_does_not_get_a_full_weight_positive():
    """Ten millimetres from its nearest neighbour it would otherwise be pulled there as strongly as any other."""
    z, _, _ = batch_of(3)
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [60, 0, 0]])
    kept, dropped = DistanceWeightedContrastiveLoss(min_mass=0), DistanceWeightedContrastiveLoss(min_mass=0.1)

    kept(z, positions)
    dropped(z, positions)

    assert dropped.statistics()["dropped_anchors"] == pytest.approx(1 / 3)
    assert float(dropped.logged) != pytest.approx(float(kept.logged))


@pytest.mark.parametrize("anchor", ["k", "i"])
def test_pairs_that_are_all_dropped_leave_finite_gradients(anchor):
    z, positions, _ = batch_of(6)
    z.requires_grad_()
    loss = DistanceWeightedContrastiveLoss(0.01, anchor=anchor, drop_same_brain_mm=1e6)

    loss(z, positions, torch.tensor([0, 0, 0, 0, 0, 1])).backward()

    assert torch.isfinite(z.grad).all()


def test_options_about_brains_require_the_brains():
    z, positions, _ = batch_of(4)

    with pytest.raises(ValueError, match="brains"):
        DistanceWeightedContrastiveLoss(same_brain_weight=0.5)(z, positions)


def test_statistics_count_positives_by_hand():
    z, _, _ = batch_of(4)
    positions = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [500, 0, 0]])
    loss = DistanceWeightedContrastiveLoss(transfer="threshold", length_mm=1.0)

    loss(z, positions, torch.tensor([0, 0, 1, 1]))

    assert loss.statistics() == {
        "effective_positives": 2.0,
        "positive_mass": 2.0,
        "cross_brain_share": pytest.approx(4 / 6),
        "dropped_anchors": 0.25,
    }


def supcon_by_its_authors(features, labels, temperature):
    """SupCon as in the code of Khosla et al. 2020, one view per sample; samples without positives are left out."""
    logits = features @ features.T / temperature
    logits = logits - logits.max(1, keepdim=True).values.detach()
    others = ~torch.eye(len(labels), dtype=torch.bool)
    positives = (labels[:, None] == labels[None]) & others & (labels > 0)[:, None]
    log_prob = logits - torch.log((torch.exp(logits) * others).sum(1, keepdim=True))
    has_any = positives.sum(1) > 0
    return -((positives * log_prob).sum(1)[has_any] / positives.sum(1)[has_any]).mean()


def test_supcon_is_the_published_loss():
    z, _, _ = batch_of(40)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 6, size=40))
    mine, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()

    loss = SupervisedContrastiveLoss(0.1)(mine, labels)
    published = supcon_by_its_authors(theirs, labels, 0.1)
    loss.backward()
    published.backward()

    assert loss.item() == pytest.approx(published.item(), rel=1e-5)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_distances_of_zero_and_infinity_are_supcon():
    """One code path: labels are places that are either here or nowhere near."""
    z, _, _ = batch_of(30)
    labels = torch.arange(30) % 5 + 1
    places = torch.stack([labels * 1e4, labels * 0.0, labels * 0.0], 1)

    by_distance = DistanceWeightedContrastiveLoss(0.1, "threshold", 1.0, anchor="i")(z, places)

    assert float(by_distance) == pytest.approx(float(SupervisedContrastiveLoss(0.1)(z, labels)), rel=1e-6)


def test_samples_without_label_are_positives_of_nothing():
    z, _, _ = batch_of(6)
    loss = SupervisedContrastiveLoss()

    loss(z, torch.tensor([0, 0, 0, 1, 1, 2]))

    assert loss.statistics()["dropped_anchors"] == pytest.approx(4 / 6)
