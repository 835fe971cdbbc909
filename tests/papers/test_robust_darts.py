"""The curvature that RobustDARTS stops by, against the whole Hessian.

Zela, Elsken, Saikia, Marrakchi, Brox and Hutter, ICLR 2020 (arXiv 1909.09656).
"""

import pytest
import torch

import nasframe
from nasframe.core import Batch, Task, largest_eigenvalue, rise, upper_curvature
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.spaces.darts import Darts

OPERATIONS = ("none", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")
SPACE = Darts(Task((1, 8, 8), 3), channels=2, cells=3, nodes=1, operations=OPERATIONS)
BATCH = Batch(
    torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64),
    torch.tensor([0, 1, 2, 2, 1, 0]),
)
NUM_ALPHAS = 2 * 2 * len(OPERATIONS)  # two kinds of cell with two edges each


def _supernet(**how):
    torch.manual_seed(3)
    model = nasframe.supernet(SPACE, **how).double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape))
    return model


@pytest.fixture(scope="module")
def hessian():
    """All of ∇²_a L by PyTorch, through mixtures that are computed one after the other."""
    model = _supernet(fused=False).train()
    alphas = list(model.parameters_at("upper"))

    def loss(alpha_P):
        pieces = torch.split(alpha_P, [len(alpha) for alpha in alphas])
        shares = {
            name: torch.softmax(piece, 0)
            for name, piece in zip(model.mixed_ops._modules, pieces, strict=True)
        }
        with model.mixed_by(shares):
            return torch.nn.functional.cross_entropy(model(BATCH.inputs), BATCH.targets)

    return torch.autograd.functional.hessian(loss, torch.cat([alpha.detach() for alpha in alphas]))


def _curvature(model, num_products=NUM_ALPHAS):
    return upper_curvature(model, CrossEntropy(), BATCH, num_products=num_products, seed=1)


@pytest.mark.parametrize("how", [{"fused": True}, {"fused": False}, {"fused": True, "recomputed": True}])
def test_the_curvature_is_the_largest_eigenvalue_of_the_whole_hessian(hessian, how):
    assert hessian.shape == (NUM_ALPHAS, NUM_ALPHAS)
    expected = float(torch.linalg.eigvalsh(hessian)[-1])
    assert expected > 1e-6
    assert _curvature(_supernet(**how)) == pytest.approx(expected, rel=1e-7)


def test_few_products_come_close_from_below(hessian):
    exact = float(torch.linalg.eigvalsh(hessian)[-1])
    found = [_curvature(_supernet(), num_products) for num_products in (2, 6, 10)]
    assert found == sorted(found)
    assert found[-1] <= exact * (1 + 1e-9)
    assert found[-1] == pytest.approx(exact, rel=0.05)


def test_measuring_leaves_no_trace():
    model = _supernet().eval()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    _curvature(model, 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_largest_eigenvalue_is_found_beside_a_negative_one_of_larger_magnitude():
    # a power iteration would find -10
    matrix = torch.diag(torch.tensor([-10.0, 1.0, 3.0, 0.5], dtype=torch.float64))
    assert largest_eigenvalue(matrix.mv, torch.ones(4, dtype=torch.float64), 4) == pytest.approx(3)
    assert largest_eigenvalue(matrix.mv, torch.ones(4, dtype=torch.float64), 100) == pytest.approx(3)


def test_a_start_within_an_eigenspace_ends_there():
    matrix = 2 * torch.eye(3, dtype=torch.float64)
    assert largest_eigenvalue(matrix.mv, torch.ones(3, dtype=torch.float64), 3) == pytest.approx(2)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 1, 1, 1], None),
        ([1, 1, 1, 1.7], (1, 1.35)),  # 1 / 1.35 = 0.74
        ([1, 1, 1, 1.6], None),  # 1 / 1.3 = 0.77
        ([9, 1, 1, 2, 2], (1, 2)),  # the oldest does not count
        ([1, 2, 2], None),  # too few
        ([-1, -1, 1, 1], None),  # of a curvature that was no positive one there is no ratio
    ],
)
def test_the_rule_compares_the_average_with_that_of_k_before(values, found):
    rose = rise(values, 2, 0.75)
    assert rose == (found if found is None else pytest.approx(found))
