"""Tasks of lesson 05: attention step by step, what it costs, and the middle of a MobileViT block."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.course.checks import compare, compare_prediction, random_tensor, randomised, task
from lgmpose.network.modules import npt_op1, npt_op2, npt_op3
from lgmpose.network.variants import TransformerLayer

KNEES = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])  # the lesson's five tokens


def attend(q_Nd: Tensor, k_Nd: Tensor, v_Nd: Tensor) -> Tensor:
    """Return attention of one head: (N, d)."""
    return torch.softmax(q_Nd @ k_Nd.T / q_Nd.shape[1] ** 0.5, dim=1) @ v_Nd


@task(
    "05.1",
    "easy",
    way="Multiply the first numbers of both tokens, multiply the second numbers, and add the two products",
)
def check_dot_products(prediction) -> str:
    products_NN = KNEES @ KNEES.T
    return compare_prediction(prediction, tuple(float(products_NN[pair]) for pair in ((0, 0), (0, 1), (3, 3))))


@task("05.2", "easy", forbidden=("softmax", "log_softmax"))
def check_softmax(attempt) -> None:
    for seed, shape in enumerate(((3, 3), (5, 5), (4, 7))):
        scores = random_tensor(seed, *shape)
        compare(attempt(scores), torch.softmax(scores, dim=1), f"called with a table of {shape}")


@task("05.3", "medium", way="Softmax sees only differences of scores. A factor of 10 makes them ten times as large")
def check_sharpness(prediction) -> str:
    row = (KNEES @ KNEES.T / 2**0.5)[0]
    before, shifted, scaled = (float(scores.softmax(0).max()) for scores in (row, row + 100, 10 * row))
    return compare_prediction(prediction, (round(shifted - before, 4), scaled), atol=0.01)


@task("05.4", "medium", forbidden=("scaled_dot_product_attention",))
def check_attend(attempt) -> None:
    for seed, shape in enumerate(((5, 2), (3, 3), (4, 9))):
        x_Nd = random_tensor(seed, *shape)
        compare(attempt(x_Nd), attend(x_Nd, x_Nd, x_Nd), f"called with {shape[0]} tokens of {shape[1]} numbers")


@task("05.5", "medium", forbidden=("scaled_dot_product_attention",))
def check_attend_qkv(attempt) -> None:
    for seed, (N, d) in enumerate(((5, 2), (3, 3), (4, 9))):
        x_Nd, *matrices = random_tensor(seed, N + 3 * d, d).split([N, d, d, d])
        expected = attend(*(x_Nd @ matrix for matrix in matrices))
        compare(attempt(x_Nd, *matrices), expected, f"called with {N} tokens of {d} numbers")


@task("05.6", "hard")
def check_split_heads(attempt) -> None:
    for seed, (N, d, heads) in enumerate(((5, 2, 2), (3, 12, 4), (4, 6, 3), (2, 5, 1))):
        x_Nd = random_tensor(seed, N, d)
        expected = torch.stack(x_Nd.chunk(heads, dim=1))
        compare(attempt(x_Nd, heads), expected, f"called with {N} tokens of {d} numbers and {heads} heads")


@task("05.7", "easy", way="Put 2N in the place of N: in 2 · N² · d, and in 4 · N · d²")
def check_twice_the_patches(prediction) -> str:
    layer = TransformerLayer(96)
    weights = sum(parameter.numel() for parameter in layer.parameters() if parameter.ndim == 2)

    def cost(N: int) -> tuple[int, int]:
        return _count(layer, N, 96) - N * weights, N * weights

    small, large = cost(48), cost(96)
    return compare_prediction(prediction, (large[0] / small[0], large[1] / small[1]), atol=0.1)


@task("05.8", "medium", way="Ask whether a weight belongs to a place or to a content")
def check_shuffle(prediction) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fixed, convolution = nn.Linear(5, 5), nn.Conv1d(2, 2, 3, padding=1)
    mixtures = {
        "attention": lambda x: attend(x, x, x),
        "fixed mixture": lambda x: fixed(x.T).T,
        "convolution": lambda x: convolution(x.T[None])[0].T,
    }
    order = torch.tensor([3, 0, 4, 2, 1])
    equal = {name: torch.allclose(mix(KNEES[order]), mix(KNEES)[order], atol=1e-5) for name, mix in mixtures.items()}
    measured = {name: "same" if same else "other" for name, same in equal.items()}
    return compare_prediction(prediction, measured, choices=("same", "other"))


@task("05.9", "medium")
def check_layer_macs(attempt) -> None:
    for N, d, ratio in ((5, 8, 2), (48, 96, 2), (192, 32, 4)):
        expected = _count(TransformerLayer(d, ffn_ratio=ratio), N, d)
        compare(attempt(N, d, ratio), expected, f"called with N={N}, d={d}, ratio={ratio}", atol=1e-9)


@task("05.10", "hard", forbidden=("MobileViTBlock",))
def check_mobilevit_global(attempt) -> None:
    for seed, (map_hw, patch_hw, d) in enumerate((((4, 6), (2, 3), 4), ((8, 4), (2, 2), 8), ((6, 4), (3, 1), 12))):
        layers = nn.Sequential(*(randomised(TransformerLayer(d), seed + i) for i in range(2)))
        x = random_tensor(seed, 2, d, *map_hw)
        with torch.no_grad():
            tokens = layers(npt_op1(x, patch_hw).transpose(2, 3)).transpose(2, 3)
            expected = npt_op3(npt_op2(tokens), patch_hw, map_hw)
            got = attempt(x, layers, patch_hw)
        compare(got, expected, f"called with a map of {map_hw} and patches of {patch_hw}")


def _count(layer: nn.Module, N: int, d: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, 1, N, d))
    return counter.get_total_flops() // 2
