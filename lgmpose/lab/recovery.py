"""Search for networks that have all costs that the paper prints: ``lgmpose lab search``.

The paper's text does not give the widths. Many networks have the printed costs. So the search shows which of our values
the paper forces (``recovered``), and which it leaves open (``chosen``). A random search cannot prove that a network
does not exist: ``recovered`` means that no search found one without the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from lgmpose.errors import UserError
from lgmpose.files import open_atomically
from lgmpose.lab.closed_form import Candidates, decoder_costs, encoder_costs, has_block
from lgmpose.lab.paper import ROWS
from lgmpose.network.config import LGMPoseConfig

__all__ = [
    "OURS", "SPACE", "Constraint", "SearchConfig", "anneal", "constraints", "distance", "draw_space", "page",
    "search_networks", "tags", "tags_table", "values_of",
]  # fmt: skip

Space = Mapping[str, tuple[float, ...]]
# The values that a candidate may have. Patches tile the maps of all three input sizes. The expansion of stage 1 is 1,
# as in MobileNetV2.
WIDEST = (64, 96, 128, 256, 384)  # of the five stages
SPACE: Space = {
    "stem_channels": (8, 16, 24, 32),
    "expansion": (1, 2, 3, 4, 5, 6),
    **{f"channels_{stage}": tuple(range(8, most + 1, 8)) for stage, most in enumerate(WIDEST, start=1)},
    "repeats_1": (1, 2),
    **{f"repeats_{stage}": (1, 2, 3, 4) for stage in (2, 3, 4, 5)},
    "global_blocks": (34, 45, 345),  # stages with a MobileViM block
    "token_ratio": (1.5, 2, 2.5, 3, 4),  # d / C; the paper: "a higher-dimensional space"
    "mlp_ratio": (2, 3, 4),
    "patch_pixels_3": (1, 2, 4, 8, 16, 32, 64),
    "patch_pixels_4": (1, 2, 4, 8, 16),
    "patch_pixels_5": (1, 2, 4),
    "fuse_kernel": (1, 3),  # of the last convolution in MobileViM
    "deconv_kernel": (2, 3, 4),
    "decoder_1": tuple(range(16, 385, 4)),
    "decoder_2": tuple(range(16, 257, 4)),
    "decoder_3": tuple(range(16, 129, 4)),
    "pointwise": (0, 1),  # whether SFusion ends with a 1×1 convolution
    "grouping": (1, 2),  # the paper's k = 2 as two groups (1), or as two channels per group (2; or any more)
}
# Stage widths do not shrink towards the deepest stage, and decoder widths do not grow: (narrower or equal, wider).
ORDER = (*((f"channels_{i}", f"channels_{i + 1}") for i in range(1, 5)), ("decoder_2", "decoder_1"),
         ("decoder_3", "decoder_2"))  # fmt: skip


class Constraint(NamedTuple):
    """What the paper prints for one network: parameters and MACs lie in ``low`` ≤ cost < ``high``."""

    image_hw: tuple[int, int]
    num_keypoints: int
    fusion: str
    global_block: str
    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True)
class SearchConfig:
    """How long to search.

    Raises:
        UserError: a number below 1.
    """

    chains: int = 1000  # independent searches (simulated annealing) per round
    steps: int = 4000  # changes that each search tries
    rounds: int = 6
    seed: int = 0

    def __post_init__(self):
        if min(self.chains, self.steps, self.rounds) < 1:
            raise UserError(f"chains {self.chains}, steps {self.steps} and rounds {self.rounds} must be at least 1")


def constraints() -> list[Constraint]:
    """Return the printed costs, one entry per network. A figure may be rounded or truncated: the paper does both."""
    found: dict[tuple, list[tuple[float, float]]] = {}
    for row in ROWS:
        key = row.image_hw, 16 if row.image_hw == (256, 256) else 17, row.fusion, row.global_block
        printed = [_interval(str(text)) for text in (row.params, row.flops)]
        both = zip(found.get(key, printed), printed, strict=True)
        found[key] = [(max(a[0], b[0]), min(a[1], b[1])) for a, b in both]
    return [Constraint(*key, *zip(*intervals, strict=True)) for key, intervals in found.items()]


def _interval(printed: str) -> tuple[float, float]:
    """Return the costs that round or truncate to a printed figure such as "1.08 M"."""
    digits, unit = printed.split()
    decimals, scale = len(digits.partition(".")[2]), {"M": 6, "G": 9}[unit]
    last = 10 ** (scale - decimals)  # one unit of the last printed digit
    value = int(digits.replace(".", "")) * last
    return value - last / 2, value + last


def distance(c: Candidates, wanted: list[Constraint]) -> np.ndarray:
    """Return how far candidates are from the printed costs (n,): relative distances, summed; 0 means that all match."""
    encoders = {key: encoder_costs(c, *key) for key in {(row.image_hw, row.global_block) for row in wanted}}
    total = sum(np.maximum(c[narrow] - c[wide], 0) / 100 for narrow, wide in ORDER)
    for row in wanted:
        decoder = decoder_costs(c, row.image_hw, row.num_keypoints, row.fusion)
        costs = encoders[row.image_hw, row.global_block] + decoder
        low, high = (np.array(limit)[:, None] for limit in (row.low, row.high))
        outside = np.maximum(low - costs, 0) / low + np.maximum(costs - (high - 1), 0) / high  # costs are whole numbers
        total = total + outside.sum(axis=0)
    return total


def anneal(space: Space, *, chains: int, steps: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Run independent searches by simulated annealing; return the networks found with all printed costs.

    A chain starts at random and changes one or two values per step. It stops when all costs match. Networks that
    several chains find are returned once.
    """
    wanted, names, every = constraints(), list(space), np.arange(chains)
    options = [np.array(values, float) for values in space.values()]
    most = np.array([len(values) - 1 for values in options])

    def candidates(index: np.ndarray) -> dict[str, np.ndarray]:
        return {name: options[i][index[i]] for i, name in enumerate(names)}

    index = rng.integers(0, most[:, None] + 1, (len(names), chains))
    far = distance(candidates(index), wanted)
    for step in range(steps):
        changed = index.copy()
        for _ in range(1 + (step % 3 == 0)):
            which = rng.integers(0, len(names), chains)
            near = changed[which, every] + rng.choice([-2, -1, 1, 2], chains)
            anywhere = rng.integers(0, most[which] + 1)
            changed[which, every] = np.clip(np.where(rng.random(chains) < 0.7, near, anywhere), 0, most[which])
        new = distance(candidates(changed), wanted)
        temperature = 0.05 * (1 - step / steps) ** 2 + 1e-4
        accepted = (far > 0) & (new - far <= temperature * rng.exponential(size=chains))
        index[:, accepted], far[accepted] = changed[:, accepted], new[accepted]
    return _deduplicated(candidates(index[:, far == 0]))


def _deduplicated(c: Candidates) -> list[dict[str, float]]:
    """Return networks once each. The patch of a stage without a block has no effect, and becomes 0."""
    c = {**c, **{f"patch_pixels_{stage}": c[f"patch_pixels_{stage}"] * has_block(c, stage) for stage in (3, 4, 5)}}
    rows = np.unique(np.stack(list(c.values()), axis=1), axis=0)
    return [dict(zip(c, (int(v) if v == int(v) else v for v in row.tolist()), strict=True)) for row in rows]


def values_of(config: LGMPoseConfig) -> dict[str, float]:
    """Return a network of ``network/config.py`` by the names of the space. It must have the form of a candidate."""
    blocks = [number for number, stage in enumerate(config.stages, start=1) if stage.token_width]
    token = config.stages[blocks[0] - 1]
    return {
        "stem_channels": config.stem_channels,
        "expansion": config.stages[1].expansion,
        **{f"channels_{i}": stage.channels for i, stage in enumerate(config.stages, start=1)},
        **{f"repeats_{i}": stage.repeats for i, stage in enumerate(config.stages, start=1)},
        "global_blocks": int("".join(map(str, blocks))),
        "token_ratio": token.token_width / token.channels,
        "mlp_ratio": config.mlp_ratio,
        **{f"patch_pixels_{i}": config.stages[i - 1].patch_hw[0] * config.stages[i - 1].patch_hw[1] for i in (3, 4, 5)},
        "fuse_kernel": 1,
        "deconv_kernel": 2,
        **{f"decoder_{i}": width for i, width in enumerate(config.decoder_channels, start=1)},
        "pointwise": 1,
        "grouping": 2,
    }


OURS = values_of(LGMPoseConfig())


def search_networks(config: SearchConfig, space: Space = SPACE) -> dict[str, Any]:
    """Search, then search again without each value that all found networks share.

    Returns:
        The space, the printed costs, how many networks the ``main`` search found, the searches ``without`` a value, and
        all networks found (``survivors``).
    """
    rng = np.random.default_rng(config.seed)

    def search(within: Space) -> list[dict[str, float]]:
        found: dict[tuple, dict[str, float]] = {}
        for _ in range(config.rounds):
            networks = anneal(within, chains=config.chains, steps=config.steps, rng=rng)
            found |= {tuple(network.values()): network for network in networks}
        return list(found.values())

    survivors, without = search(space), {}
    main = len(survivors)
    for name, values in space.items():
        shared = {network[name] for network in survivors}
        if len(shared) == 1 and len(values) > 1:
            (value,) = shared
            others = search({**space, name: tuple(v for v in values if v != value)})
            without[name] = {"value": value, "networks": len(others)}
            survivors += others
    return {
        "chains": config.chains * config.rounds, "steps": config.steps, "seed": config.seed,
        "space": {name: list(values) for name, values in space.items()},
        "printed": [row._asdict() for row in constraints()],
        "main": main, "without": without, "survivors": survivors,
    }  # fmt: skip


def tags(result: Mapping[str, Any]) -> dict[str, str]:
    """Return name → ``recovered`` if no network was found without our value, else ``chosen``."""
    return {  # where nothing was found, nothing is recovered
        name: "recovered" if {network[name] for network in result["survivors"]} == {ours} else "chosen"
        for name, ours in OURS.items()
    }


def tags_table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table: each value of our network, the values of all found networks, and the tag."""
    rows = []
    for name, tag in tags(result).items():
        values = sorted({network[name] for network in result["survivors"]})
        found = ", ".join(f"{v:g}" for v in values) if len(values) <= 8 else f"{values[0]:g} to {values[-1]:g}"
        options = result["space"][name]
        tried = ", ".join(f"{v:g}" for v in options) if len(options) <= 8 else f"{options[0]} to {options[-1]}"
        rows.append([f"`{name}`", f"{OURS[name]:g}", tried, found, f"`{tag}`"])
    return tabulate(rows, ["value", "ours", "tried", "in the networks found", "tag"], "pipe", disable_numparse=True)


def page(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown: the tags, the searches without a value, and every network found."""
    networks = result["survivors"]
    without = [
        f"* Without `{name}` = {other['value']:g}: {other['networks']} networks in another {result['chains']:,} chains."
        for name, other in result["without"].items()
    ]
    parts = [
        "# Networks with the costs that the paper prints",
        f"{result['chains']:,} chains of {result['steps']:,} steps searched the space below. They found "
        f"{result['main']} networks. Stage widths do not shrink towards the deepest stage, and decoder widths do not "
        "grow. Patch pixels are 0 where a stage has no MobileViM block. A chain rarely ends in one particular network: "
        "our own network has all printed costs, too, and "
        + ("was found." if OURS in networks else "was not among those found."),
        tags_table(result),
        "\n".join(without),
        "## The networks",
        tabulate([list(network.values()) for network in networks], list(OURS), "pipe"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def draw_space(result: Mapping[str, Any], path: Path) -> None:
    """Draw how often the found networks have each value, a small plot per value; our own network is marked.

    Args:
        result: of ``search_networks``.
        path: a PNG.
    """
    from matplotlib.figure import Figure  # optional: only the picture needs it

    survivors = result["survivors"]
    figure = Figure(figsize=(8, 10.5), layout="constrained", dpi=130)
    for axes, (name, options) in zip(figure.subplots(5, 5).flat, result["space"].items(), strict=False):
        values = [*options] if len(options) <= 8 else sorted({network[name] for network in survivors} | {OURS[name]})
        if name.startswith("patch"):
            values = [0, *options]
        counts = [sum(network[name] == value for network in survivors) for value in values]
        axes.bar(range(len(values)), counts, color=["#d55e00" if v == OURS[name] else "#9ecae1" for v in values])
        shown = range(0, len(values), -(-len(values) // 4))
        axes.set_xticks(shown, [f"{values[i]:g}" for i in shown], fontsize=9)
        ours = values.index(OURS[name])
        axes.annotate("▼", (ours, counts[ours]), ha="center", va="bottom", color="#d55e00")
        axes.set_title(f"{name}\n{tags(result)[name]}", fontsize=10)
        axes.set_ylim(0, max(counts) * 1.2 or 1)
    for axes in figure.axes[len(result["space"]) :]:
        axes.axis("off")
    figure.suptitle(f"{len(survivors)} networks with all printed costs; orange and ▼: the values of this project")
    with open_atomically(path) as file:
        figure.savefig(file, format="png")
