"""The paper's tables as data: the one place where a published figure is typed in.

So far LGM-Pose's own rows of Tables 1 to 5, exactly as printed. "-" and columns a table does not have are None.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "PaperRow", "published"]


@dataclass(frozen=True)
class PaperRow:
    """One row of one table.

    ``params`` and ``flops`` are strings, since the number of printed digits tells how far a figure can be trusted: the
    paper truncates some and rounds others. What it calls FLOPs are multiply–accumulates for this network. Accuracies
    are in percent; frames per second are with one picture at a time on one Xeon Silver 4214 and one Tesla M10.
    """

    table: int
    name: str  # as the table calls the row
    image_hw: tuple[int, int]  # the table prints the same order, height × width
    params: str
    flops: str
    fusion: str = "sfusion"  # LGMPoseConfig.fusion of the row
    global_block: str = "mobilevim"  # LGMPoseConfig.global_block of the row
    model: str | None = None  # a name of ``list_models()``
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    ar: float | None = None
    pckh: float | None = None  # at 0.5 of the head, mean over the joints
    fps_cpu: float | None = None
    fps_gpu: float | None = None

    @property
    def accuracy(self) -> str:
        """The row's main figure with its name and data set."""
        if self.pckh is not None:
            return f"{self.pckh} PCKh@0.5 on MPII val"
        return f"{self.ap} AP on COCO {'test-dev' if self.table == 2 else 'val'}2017"


_COCO_SMALL = {"image_hw": (256, 192), "model": "lgm-pose-coco-256x192"}
_COCO_LARGE = {"image_hw": (384, 288), "model": "lgm-pose-coco-384x288"}
_MPII = {"image_hw": (256, 256), "model": "lgm-pose-mpii-256x256"}

# fmt: off
ROWS = (
    PaperRow(1, "LGM-Pose", params="1.1 M", flops="0.6 G", ap=68.6, ap50=89.5, ap75=75.9, ap_medium=65.8,
             ap_large=73.3, ar=73.7, fps_cpu=33.1, fps_gpu=80.1, **_COCO_SMALL),
    PaperRow(1, "LGM-Pose", params="1.2 M", flops="1.5 G", ap=71.0, ap50=90.5, ap75=78.1, ap_medium=68.3,
             ap_large=77.4, ar=76.5, fps_cpu=24.5, fps_gpu=43.2, **_COCO_LARGE),
    PaperRow(2, "LGM-Pose", params="1.2 M", flops="1.5 G", ap=70.4, ap50=91.2, ap75=77.8, ap_medium=67.5,
             ap_large=75.4, ar=75.7, **_COCO_LARGE),
    PaperRow(3, "LGM-Pose", params="1.1 M", flops="0.9 G", pckh=88.4, fps_cpu=24.4, fps_gpu=79.9, **_MPII),
    PaperRow(4, "MobileViT Block", params="2.5 M", flops="1.4 G", global_block="mobilevit", pckh=87.9, fps_cpu=20.1,
             fps_gpu=69.4, **_MPII),
    PaperRow(4, "MobileViM Block", params="1.1 M", flops="0.9 G", pckh=88.4, fps_cpu=24.4, fps_gpu=79.9, **_MPII),
    PaperRow(5, "None", params="0.8 M", flops="0.7 G", fusion="none", pckh=86.4, fps_cpu=26.34, fps_gpu=84.30, **_MPII),
    PaperRow(5, "Conv 3x3", params="2.1 M", flops="1.5 G", fusion="conv3x3", pckh=88.6, fps_cpu=24.78, fps_gpu=80.63,
             **_MPII),
    PaperRow(5, "DW g=1", params="1.08 M", flops="0.89 G", fusion="dw1", pckh=88.2, fps_cpu=22.11, fps_gpu=73.42,
             **_MPII),
    PaperRow(5, "DW g=2", params="1.1 M", flops="0.90 G", fusion="dw2", pckh=88.3, fps_cpu=24.21, fps_gpu=79.12,
             **_MPII),
    PaperRow(5, "SFusion", params="1.1 M", flops="0.90 G", pckh=88.4, fps_cpu=24.46, fps_gpu=79.91, **_MPII),
)
# fmt: on


def published(model_name: str, fusion: str = "sfusion", global_block: str = "mobilevim") -> PaperRow | None:
    """The paper's row for a named network, the first where several tables hold it; None where no table does.

    Args:
        model_name: one of ``list_models()``.
        fusion: one of ``lgmpose.config.FUSIONS``.
        global_block: one of ``lgmpose.config.GLOBAL_BLOCKS``.
    """
    for row in ROWS:
        if (row.model, row.fusion, row.global_block) == (model_name, fusion, global_block):
            return row
    return None
