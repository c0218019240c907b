"""The rows of the ablations, as data, and the recipe that trains all of them. Imports no PyTorch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from lgmpose.data.augment import Augmentation
from lgmpose.errors import UserError
from lgmpose.lab.evidence import Family
from lgmpose.lab.paper import published
from lgmpose.network.config import VARIANTS
from lgmpose.training.recipe import MACHINE_FIELDS, TrainConfig, without_folders

__all__ = [
    "ABLATIONS", "BASELINE", "CHOICES", "FAMILIES", "FURTHER", "NETWORKS", "OTHER_NETWORKS", "RECIPE", "STORED",
    "AblateConfig", "Variant",
]  # fmt: skip

PAPER_MODEL = "lgm-pose-mpii-256x256"  # what Tables 4 and 5 vary
STORED = Path(__file__).parents[3] / "results" / "ablations.json"  # in a clone; an installed package has none


@dataclass(frozen=True)
class Variant:
    """One row: LGM-Pose with one thing changed, or another network.

    Attributes:
        name: name of its run folders and in the results file.
        label: name in tables and figures.
        changes: fields of ``TrainConfig`` that differ from LGM-Pose's; "augmentation.colour" is a field of a field.
    """

    name: str
    label: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def paper_pckh(self) -> float | None:
        """Return PCKh@0.5 on MPII at 256 × 256 from Tables 3 to 5; None if the paper has no such row."""
        if "model" in self.changes:
            row = published(self.changes["model"], image_hw=published(PAPER_MODEL).image_hw)
            return row.pckh if row else None
        if self.changes.keys() - {"fusion", "global_block"}:
            return None
        row = published(PAPER_MODEL, **self.changes)
        return row.pckh if row else None

    @property
    def paper_difference(self) -> float | None:
        """Return that figure minus LGM-Pose's, in points."""
        return None if self.paper_pckh is None else round(self.paper_pckh - published(PAPER_MODEL).pckh, 1)


Row = TypeVar("Row", Variant, Family)


def _by_name(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


BASELINE = "lgm-pose"  # all other rows are compared with it; its fusion is SFusion, its block MobileViM
ABLATIONS = _by_name(
    Variant(BASELINE, "LGM-Pose"),
    Variant("mobilevit", "MobileViT block", {"global_block": "mobilevit"}),  # Table 4
    Variant("fusion-none", "no fusion", {"fusion": "none"}),  # Table 5, and the next three
    Variant("fusion-conv3x3", "fusion: conv 3×3", {"fusion": "conv3x3"}),
    Variant("fusion-dw1", "fusion: DW g=1", {"fusion": "dw1"}),
    Variant("fusion-dw2", "fusion: DW g=2", {"fusion": "dw2"}),
    Variant("larm-within", "LARM without 1st MLP", {"larm": "within_patch"}),  # ours, and the next three
    Variant("larm-between", "LARM without 2nd MLP", {"larm": "between_patches"}),
    Variant("larm-identity", "no LARM (identity)", {"larm": "identity"}),
    Variant("larm-no-residual", "LARM without residual", {"larm_residual": False}),
)

# Other networks, trained from scratch by the same recipe on the same images.
OTHER_NETWORKS = _by_name(
    Variant("lgm-pose-fast", "LGM-Pose fast", {"model": "lgm-pose-fast-coco-256x192"}),  # ours
    Variant("mobilenetv2", "MobileNetV2", {"model": "mobilenetv2"}),  # Table 3, and the next three
    Variant("shufflenetv2", "ShuffleNetV2", {"model": "shufflenetv2"}),
    Variant("small-hrnet", "Small HRNet", {"model": "small-hrnet"}),
    Variant("lite-hrnet-18", "Lite-HRNet-18", {"model": "lite-hrnet-18"}),
)
# LGM-Pose with one thing of the recipe changed, or another activation. Own parts go here too: these rows are trained
# only if --variants names them, and they are neither timed nor printed with costs (`lgmpose profile` does both). The
# stored results have no runs of no-colour, sigma-1 and standard.
CHOICES = _by_name(
    Variant("rate-1e-3", "learning rate 1e-3", {"learning_rate": 1e-3}),  # the paper's
    Variant("rate-4e-3", "learning rate 4e-3", {"learning_rate": 4e-3}),
    Variant("constant-rate", "constant rate", {"schedule": "steps"}),  # its first step comes after epoch 200
    Variant("no-ema", "no average of weights", {"ema_decay": 0.0}),
    Variant("batch-16", "batch 16", {"batch_size": 16}),
    Variant("rotation-20", "rotation σ 20°", {"augmentation.rotation_deg": 20.0}),
    Variant("rotation-90", "rotation σ 90°", {"augmentation.rotation_deg": 90.0}),
    Variant("scale-0.35", "scale ± 35 %", {"augmentation.scale_factor": 0.35}),
    Variant("no-colour", "no change of colour", {"augmentation.colour": 0.0}),
    Variant("occlusion", "occlusion, every second", {"augmentation.occlusion_prob": 0.5}),
    Variant("sigma-1", "heatmap σ 1", {"sigma": 1.0}),
    Variant("sigma-2", "heatmap σ 2", {"sigma": 2.0}),
    Variant("standard", "centres rounded, quarter offset", {"codec": "standard"}),  # SimpleBaseline's
    Variant("limb-weights", "limbs' ends weigh more", {"joint_weights": "hrnet"}),
    Variant("silu", "SiLU", {"activation": "silu"}),
    Variant("mobilevit-relu6", "MobileViT block, but ReLU6", {"global_block": "mobilevit_relu6"}),  # it has SiLU
)
# Rows of later families, trained only if --variants names them.
FURTHER = _by_name(
    # other networks with all printed costs, from `lgmpose lab search`
    Variant("t3", "other widths, t = 3", {"model": "lgm-pose-t3-mpii-256x256"}),
    Variant("three-blocks", "three MobileViM blocks", {"model": "lgm-pose-three-blocks-mpii-256x256"}),
    # both blocks with the initial weights of the other
    Variant("larm-small-init", "LARM, small initial weights", {"linear_init": "small"}),
    Variant("mobilevit-default-init", "MobileViT block, PyTorch's initial weights",
            {"global_block": "mobilevit", "linear_init": "default"}),
    # networks for speed
    Variant("next", "LGM-Pose-next", {"model": "lgm-pose-next-coco-256x192"}),
    Variant("rtmpose-t", "RTMPose-t", {"model": "rtmpose-t", "codec": "simcc", "sigma": None}),
)  # fmt: skip
NETWORKS = ABLATIONS | OTHER_NETWORKS | CHOICES | FURTHER

# What is judged together. The names are written out: a row that is added above joins no family by itself, so that it
# changes no verdict. Put later rows into a new family. These families were written down after the stored runs of seeds
# 0 and 1, and before any run of other seeds.
FAMILIES = _by_name(
    Family("parts", "LGM-Pose with one thing changed", BASELINE, (
        "mobilevit", "fusion-none", "fusion-conv3x3", "fusion-dw1", "fusion-dw2", "larm-within", "larm-between",
        "larm-identity", "larm-no-residual",
    )),
    Family("peers", "Other networks, the same recipe", BASELINE, (
        "lgm-pose-fast", "mobilenetv2", "shufflenetv2", "small-hrnet", "lite-hrnet-18",
    )),
    Family("recipes", "LGM-Pose, other recipes and activations", BASELINE, (
        "rate-1e-3", "rate-4e-3", "constant-rate", "no-ema", "batch-16", "rotation-20", "rotation-90", "scale-0.35",
        "no-colour", "occlusion", "sigma-1", "sigma-2", "standard", "limb-weights", "silu", "mobilevit-relu6",
    ), exploratory=True),
    Family("survivors", "Other networks with all printed costs", BASELINE, ("t3", "three-blocks")),
    Family("initial-weights", "Initial weights of LARM and of the MobileViT block", BASELINE, (
        "larm-small-init", "mobilevit-default-init",
    )),
    Family("fast", "Networks for speed, the same recipe", BASELINE, ("next", "rtmpose-t")),
)  # fmt: skip

# For runs of a few epochs: the recipe of the shipped weights, with a running average of shorter memory.
RECIPE = TrainConfig(
    model="lgm-pose-lspet-128x128",
    image_hw=(96, 96),
    epochs=3,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup_steps=100,
    ema_decay=0.99,
    codec="dark",
    sigma=1.5,
    precision="fp32",
    augmentation=Augmentation(half_body_prob=0, scale_factor=0.25, rotation_deg=45, rotation_prob=0.7, colour=0.2),
)
# What the recipe of a set may not change: the seeds, the rows of ABLATIONS and run_config set it.
VARIED = ("seed", "fusion", "global_block", "larm_residual", "larm", "linear_init", "eval_every")


def installed() -> tuple[str, ...]:
    """Return the ablations and the peers whose packages (torchvision) are installed."""
    missing = () if importlib.util.find_spec("torchvision") else ("mobilenetv2", "shufflenetv2")
    return tuple(name for name in (*ABLATIONS, *OTHER_NETWORKS) if name not in missing)


@dataclass(frozen=True)
class AblateConfig:
    """A set of ablations: every variant with every seed, all by one recipe.

    Raises:
        UserError: an unknown, missing or repeated variant, bad seeds, or a recipe that sets what the variants set.
    """

    recipe: TrainConfig = RECIPE  # settings of every run
    variants: tuple[str, ...] = field(default_factory=installed)  # rows to train; lgm-pose must be among them
    seeds: tuple[int, ...] = (0, 1, 2)  # all variants are trained with the first seed, then all with the second …
    baseline_seeds: tuple[int, ...] = ()  # further seeds of lgm-pose alone: all others are compared with it
    out: Path = Path("runs/ablations")  # folder of the runs
    json: Path | None = None  # results file, with table and figures beside it; default: ablations.json in --out
    fps_rounds: int = 100  # rounds in which all networks are timed; 0: do not measure speed

    def __post_init__(self):
        unknown = [name for name in self.variants if name not in NETWORKS]
        if unknown or BASELINE not in self.variants:
            raise UserError(f"variants {' '.join(self.variants)}: name {BASELINE} and others of {', '.join(NETWORKS)}")
        if len(set(self.variants)) < len(self.variants):  # a run that counts twice would make intervals too narrow
            raise UserError(f"variants {' '.join(self.variants)}: name each of them once")
        seeds = (*self.seeds, *self.baseline_seeds)
        if not self.seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise UserError(f"seeds {' '.join(map(str, seeds))}: give different whole numbers of 0 or more")
        if self.fps_rounds < 0:
            raise UserError(f"fps_rounds {self.fps_rounds}: at least 0")
        if self.recipe.model not in VARIANTS:
            raise UserError(f"model {self.recipe.model!r}: choose an LGM-Pose network: {', '.join(VARIANTS)}")
        for name in VARIED:
            if getattr(self.recipe, name) != getattr(TrainConfig(), name):
                raise UserError(f"{name}: cannot be set here; --variants and --seeds decide it")

    @property
    def json_file(self) -> Path:
        return self.json or self.out / "ablations.json"

    def runs(self) -> list[tuple[str, int]]:
        """Return the runs of the set, (variant, seed), in their order."""
        shared = [(variant, seed) for seed in self.seeds for variant in self.variants]
        return shared + [(BASELINE, seed) for seed in self.baseline_seeds]

    def run_config(self, variant: str, seed: int) -> TrainConfig:
        """Return the configuration of one run. It is evaluated once, at its end, so that no lucky epoch is picked."""
        changes = {name: v for name, v in NETWORKS[variant].changes.items() if "." not in name}
        inner = {name.partition(".")[2]: v for name, v in NETWORKS[variant].changes.items() if "." in name}
        recipe = replace(self.recipe, augmentation=replace(self.recipe.augmentation, **inner))
        return replace(recipe, seed=seed, eval_every=recipe.epochs, **changes)

    def recipe_dict(self) -> dict[str, Any]:
        """Return the recipe for the results file: without the settings that rows change, and without folder names."""
        settings = without_folders(self.recipe.as_dict())
        return {name: value for name, value in settings.items() if name not in (*VARIED, *MACHINE_FIELDS)}
