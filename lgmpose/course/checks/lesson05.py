"""Tasks of lesson 05: attention step by step, what it costs, and the middle of a MobileViT block."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.course.checks import Task, compare, compare_prediction, randomised
from lgmpose.network.modules import npt_op1, npt_op2, npt_op3
from lgmpose.network.variants import TransformerLayer

KNEES = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])  # the lesson's five tokens


def attend(q_Nd: Tensor, k_Nd: Tensor, v_Nd: Tensor) -> Tensor:
    """Return attention of one head: (N, d)."""
    return torch.softmax(q_Nd @ k_Nd.T / q_Nd.shape[1] ** 0.5, dim=1) @ v_Nd


def random_tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_dot_products(prediction) -> str:
    products_NN = KNEES @ KNEES.T
    return compare_prediction(prediction, tuple(float(products_NN[pair]) for pair in ((0, 0), (0, 1), (3, 3))))


def check_softmax(attempt) -> None:
    for seed, shape in enumerate(((3, 3), (5, 5), (4, 7))):
        scores = random_tokens(seed, *shape)
        compare(attempt(scores), torch.softmax(scores, dim=1), f"called with a table of {shape}")


def check_sharpness(prediction) -> str:
    row = (KNEES @ KNEES.T / 2**0.5)[0]
    before, shifted, scaled = (float(scores.softmax(0).max()) for scores in (row, row + 100, 10 * row))
    return compare_prediction(prediction, (round(shifted - before, 4), scaled), atol=0.01)


def check_attend(attempt) -> None:
    for seed, shape in enumerate(((5, 2), (3, 3), (4, 9))):
        x_Nd = random_tokens(seed, *shape)
        compare(attempt(x_Nd), attend(x_Nd, x_Nd, x_Nd), f"called with {shape[0]} tokens of {shape[1]} numbers")


def check_attend_qkv(attempt) -> None:
    for seed, (N, d) in enumerate(((5, 2), (3, 3), (4, 9))):
        x_Nd, *matrices = random_tokens(seed, N + 3 * d, d).split([N, d, d, d])
        expected = attend(*(x_Nd @ matrix for matrix in matrices))
        compare(attempt(x_Nd, *matrices), expected, f"called with {N} tokens of {d} numbers")


def check_split_heads(attempt) -> None:
    for seed, (N, d, heads) in enumerate(((5, 2, 2), (3, 12, 4), (4, 6, 3), (2, 5, 1))):
        x_Nd = random_tokens(seed, N, d)
        expected = torch.stack(x_Nd.chunk(heads, dim=1))
        compare(attempt(x_Nd, heads), expected, f"called with {N} tokens of {d} numbers and {heads} heads")


def check_twice_the_patches(prediction) -> str:
    layer = TransformerLayer(96)
    weights = sum(parameter.numel() for parameter in layer.parameters() if parameter.ndim == 2)

    def cost(N: int) -> tuple[int, int]:
        return _count(layer, N, 96) - N * weights, N * weights

    small, large = cost(48), cost(96)
    return compare_prediction(prediction, (large[0] / small[0], large[1] / small[1]), atol=0.1)


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
    return compare_prediction(prediction, {name: "same" if same else "other" for name, same in equal.items()})


def check_layer_macs(attempt) -> None:
    for N, d, ratio in ((5, 8, 2), (48, 96, 2), (192, 32, 4)):
        expected = _count(TransformerLayer(d, ffn_ratio=ratio), N, d)
        compare(attempt(N, d, ratio), expected, f"called with N={N}, d={d}, ratio={ratio}", atol=1e-9)


def check_mobilevit_global(attempt) -> None:
    for seed, (map_hw, patch_hw, d) in enumerate((((4, 6), (2, 3), 4), ((8, 4), (2, 2), 8), ((6, 4), (3, 1), 12))):
        layers = nn.Sequential(*(randomised(TransformerLayer(d), seed + i) for i in range(2)))
        x = random_tokens(seed, 2, d, *map_hw)
        with torch.no_grad():
            tokens = layers(npt_op1(x, patch_hw).transpose(2, 3)).transpose(2, 3)
            expected = npt_op3(npt_op2(tokens), patch_hw, map_hw)
            got = attempt(x, layers, patch_hw)
        compare(got, expected, f"called with a map of {map_hw} and patches of {patch_hw}")


def _count(layer: nn.Module, N: int, d: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, 1, N, d))
    return counter.get_total_flops() // 2


TASKS = {
    "05.1": Task(
        check_dot_products,
        "easy",
        (
            "Multiply the first numbers of both tokens, multiply the second numbers, and add the two products.",
            "A patch with itself: square both numbers and add.",
            "The knee has 0 where the wheel has 2, and the other way round. So both products are 0.",
        ),
        way="Multiply the first numbers of both tokens, multiply the second numbers, and add the two products",
    ),
    "05.2": Task(
        check_softmax,
        "easy",
        (
            "Two lines: take the exponential of the whole table, then divide by sums.",
            "Each row needs its own sum. Which axis runs along a row: `dim=0` or `dim=1`?",
            "If the sums have the shape (N,), they are divided into the columns. `keepdim=True` keeps the "
            "shape (N, 1).",
        ),
        forbidden=("softmax",),
    ),
    "05.3": Task(
        check_sharpness,
        "medium",
        (
            "Write the weight as a fraction. What happens to each exponential if 100 is added to every score?",
            "The exponential of s + 100 is the exponential of s times that of 100. This factor stands above and below.",
            "For (b), look at the difference between the best and the second best score. It becomes ten times "
            "as large. What is its exponential?",
        ),
        way="Softmax sees only differences of scores. A factor of 10 makes them ten times as large",
    ),
    "05.4": Task(
        check_attend,
        "medium",
        (
            "The three steps of sections 2, 3 and 4 are three lines.",
            "d is the length of a token, `x_Nd.shape[1]`. Softmax runs along the rows, `dim=1`.",
            "If the values are wrong but the shape is right: do the weights stand on the left, `weights_NN @ x_Nd`?",
        ),
        forbidden=("scaled_dot_product_attention",),
    ),
    "05.5": Task(
        check_attend_qkv,
        "medium",
        (
            "First make three tables of shape (N, d): queries, keys and values.",
            "Scores compare queries with keys. Row i belongs to the query of patch i.",
            "Values play no part in the weights. They are used only in the last step, in the place of the tokens.",
        ),
        forbidden=("scaled_dot_product_attention",),
    ),
    "05.6": Task(
        check_split_heads,
        "hard",
        (
            "Each token is a row of d numbers. Cut every row into `heads` pieces.",
            "`reshape(N, heads, d // heads)` cuts the rows. The axes are then in another order than asked.",
            "Exchange the first two axes with `transpose(0, 1)`. A direct `reshape(heads, N, …)` mixes up tokens.",
        ),
    ),
    "05.7": Task(
        check_twice_the_patches,
        "easy",
        (
            "Look at the table above. Which formulas contain N, and which N²?",
            "Put 2N in the place of N. What is (2N)²?",
            "The matrices are applied once to each patch. Scores are computed once for each pair of patches.",
        ),
        way="Put 2N in the place of N: in 2 · N² · d, and in 4 · N · d²",
    ),
    "05.8": Task(
        check_shuffle,
        "medium",
        (
            "For each kind, ask: does a weight depend on the number of the place, or on the content?",
            "Attention compares tokens. If two tokens change places, their scores move with them.",
            "In a fixed mixture, the first place has its own weight, whatever stands there. A convolution "
            "looks at neighbours, and a shuffle changes who they are.",
        ),
        way="Ask whether a weight belongs to a place or to a content",
    ),
    "05.9": Task(
        check_layer_macs,
        "medium",
        (
            "Add up the four rows of the table in section 8. Only the last row changes with `ratio`.",
            "The feed-forward part has two matrices, d × (ratio · d) and (ratio · d) × d.",
            "If you are too low: are there four matrices (with the output), and two products of N² d?",
        ),
    ),
    "05.10": Task(
        check_mobilevit_global,
        "hard",
        (
            "Write the shape behind every line: (B, d, H, W), (B, P, d, N), (B, P, N, d), and back.",
            "`transpose(2, 3)` exchanges d and N. It is its own inverse.",
            "`npt_op3` wants (B, N, d, P). `npt_op2` exchanges the second and the last axis.",
        ),
        forbidden=("MobileViTBlock",),
    ),
}
