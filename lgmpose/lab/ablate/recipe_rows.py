"""Which networks the ablations train, and the one dataclass that says how. Imports no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lgmpose.data.augment import Augmentation
from lgmpose.errors import UserError
from lgmpose.lab.paper import published
from lgmpose.network.config import VARIANTS
from lgmpose.training.recipe import MACHINE_FIELDS, TrainConfig

__all__ = [
    "ABLATIONS", "BASELINE", "CHOICES", "NETWORKS", "PEERS", "RECIPE", "STORED", "AblateConfig", "Variant",
]  # fmt: skip

PAPER_MODEL = "lgm-pose-mpii-256x256"  # what Tables 4 and 5 vary
STORED = Path(__file__).parents[3] / "results" / "ablations.json"  # the set that comes with the package, if it does


@dataclass(frozen=True)
class Variant:
    """One network of the set: LGM-Pose with one thing changed, or another network altogether.

    Attributes:
        name: of its runs' folders and in the results.
        label: in tables and figures.
        changes: fields of ``TrainConfig`` that differ from LGM-Pose's; "augmentation.colour" is the field of a field.
    """

    name: str
    label: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def paper_pckh(self) -> float | None:
        """PCKh@0.5 on MPII at 256 × 256 in Tables 3 to 5; None where the paper has no such row."""
        if "model" in self.changes:
            row = published(self.changes["model"], image_hw=published(PAPER_MODEL).image_hw)
            return row.pckh if row else None
        if self.changes.keys() - {"fusion", "global_block"}:
            return None
        row = published(PAPER_MODEL, **self.changes)
        return row.pckh if row else None

    @property
    def paper_difference(self) -> float | None:
        """That figure minus LGM-Pose's, in points."""
        return None if self.paper_pckh is None else round(self.paper_pckh - published(PAPER_MODEL).pckh, 1)


BASELINE = "lgm-pose"  # everything is compared with it; its fusion is SFusion, its block MobileViM
ABLATIONS = {
    variant.name: variant
    for variant in (
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
}

# Other networks, by the same recipe on the same pictures: accuracy against speed, all from scratch.
PEERS = {
    variant.name: variant
    for variant in (
        Variant("lgm-pose-fast", "LGM-Pose fast", {"model": "lgm-pose-fast-coco-256x192"}),  # ours
        Variant("mobilenetv2", "MobileNetV2", {"model": "mobilenetv2"}),  # Table 3, and the next three
        Variant("shufflenetv2", "ShuffleNetV2", {"model": "shufflenetv2"}),
        Variant("small-hrnet", "Small HRNet", {"model": "small-hrnet"}),
        Variant("lite-hrnet-18", "Lite-HRNet-18", {"model": "lite-hrnet-18"}),
    )
}
# LGM-Pose by another recipe, or with another activation. Few epochs favour what learns quickly: mind augmentations.
CHOICES = {
    variant.name: variant
    for variant in (
        Variant("rate-1e-3", "learning rate 1e-3", {"learning_rate": 1e-3}),  # the paper's
        Variant("rate-4e-3", "learning rate 4e-3", {"learning_rate": 4e-3}),
        Variant("constant-rate", "constant rate", {"schedule": "steps"}),
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
}
NETWORKS = ABLATIONS | PEERS | CHOICES  # all that can be trained together

# Ours, for runs of a few epochs: the recipe of the shipped weights, with a running average of shorter memory.
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
    augmentation=Augmentation(half_body_prob=0, scale_factor=0.25, rotation_deg=45, rotation_prob=0.7, colour=0.2),
)

# Fields of a recipe that the set decides itself.
VARIED = ("seed", "fusion", "global_block", "larm_residual", "larm", "eval_every")


def installed() -> tuple[str, ...]:
    """LGM-Pose with one thing changed, and those of its peers whose backbones are installed (torchvision's)."""
    missing = () if importlib.util.find_spec("torchvision") else ("mobilenetv2", "shufflenetv2")
    return tuple(name for name in (*ABLATIONS, *PEERS) if name not in missing)


@dataclass(frozen=True)
class AblateConfig:
    """A whole set of networks: every variant with every seed, all by one recipe.

    Raises:
        UserError: an unknown or missing variant, no seed, or a recipe that sets what the variants set.
    """

    recipe: TrainConfig = RECIPE  # for every run; the seed and what the variants change are not its own to set
    variants: tuple[str, ...] = field(default_factory=installed)  # lgm-pose, the one compared with, must be there
    seeds: tuple[int, ...] = (0, 1)  # all variants with the first seed come first, then all with the second …
    out: Path = Path("runs/ablations")  # one folder per run below it
    json: Path | None = None  # results; the table and the figure stand beside it. None: ablations.json below out
    fps_rounds: int = 15  # of timing all networks in turn; 0 leaves speed out
    again_fps: bool = False  # time them anew, though the results hold speeds already

    def __post_init__(self):
        for name in self.variants:
            if name not in NETWORKS:
                raise UserError(f"variants {name!r}: choose from {', '.join(NETWORKS)}")
        if BASELINE not in self.variants:
            raise UserError(f"variants: {BASELINE} is missing, and all others are compared with it")
        if not self.seeds:
            raise UserError("seeds: give one at least; two are needed to tell anything")
        if min(self.seeds) < 0:
            raise UserError(f"seeds {' '.join(map(str, self.seeds))}: none below 0")
        for what, values in (("variants", self.variants), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise UserError(f"{what} {' '.join(map(str, values))}: one of them stands there twice")
        if self.fps_rounds < 0:
            raise UserError(f"fps_rounds {self.fps_rounds}: not below 0")
        if self.recipe.model not in VARIANTS:
            raise UserError(f"model {self.recipe.model!r}: the ablations are LGM-Pose's; choose {', '.join(VARIANTS)}")
        for name in VARIED:
            if getattr(self.recipe, name) != getattr(TrainConfig(), name):
                raise UserError(f"{name}: not to be set here, the set of ablations decides it (--variants, --seeds)")

    @property
    def json_file(self) -> Path:
        return self.json or self.out / "ablations.json"

    def run_config(self, variant: str, seed: int) -> TrainConfig:
        """The recipe of one run. It is evaluated once, at its end, so that no lucky epoch is picked."""
        changes = {name: v for name, v in NETWORKS[variant].changes.items() if "." not in name}
        inner = {name.partition(".")[2]: v for name, v in NETWORKS[variant].changes.items() if "." in name}
        recipe = replace(self.recipe, augmentation=replace(self.recipe.augmentation, **inner))
        return replace(recipe, seed=seed, eval_every=recipe.epochs, **changes)

    def recipe_dict(self) -> dict[str, Any]:
        """The recipe as the results hold it: without what varies, nor where files lie on this machine."""
        recipe = self.recipe.as_dict()
        for name in (*VARIED, *MACHINE_FIELDS):
            del recipe[name]
        kind, _, path = recipe["data"].partition(":")
        recipe["data"] = f"{kind}:{Path(path).name}" if path else kind
        for name in ("annotations", "val_annotations", "init_weights"):
            recipe[name] = recipe[name] and Path(recipe[name]).name
        return recipe

    def command(self) -> str:
        """What to type to get the same set; paths are cut to PATH/NAME."""
        words = ["lgmpose ablate"]
        ours, theirs = self.recipe_dict(), AblateConfig().recipe_dict()
        augmentation, other = ours.pop("augmentation"), theirs.pop("augmentation")
        ours, theirs = ours | augmentation, theirs | other
        if ":" in ours["data"]:
            ours["data"] = ours["data"].replace(":", ":PATH/")
        for name, value in (ours | {"variants": list(self.variants), "seeds": list(self.seeds)}).items():
            if value == (theirs | {"variants": list(installed()), "seeds": None})[name]:
                continue
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words.append(f"--{flag} {' '.join(map(str, value)) if isinstance(value, list) else value}")
        return " ".join(words)


assert set(VARIED) <= {field.name for field in fields(TrainConfig)}
