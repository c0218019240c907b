"""The paper's Tables 1 to 5, exactly as printed. A published figure is typed here and nowhere else.

``TABLES`` holds every row and ``ROWS`` those of LGM-Pose. ``lgmpose.lab.slips`` lists what they contradict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["CONVENTIONS", "NOT_REPRODUCIBLE", "ROWS", "TABLES", "PaperRow", "published"]

# What "FLOPs" means in a row: the counts of ``lgmpose.lab.conventions``, and what they are divided by.
CONVENTIONS = {
    "true_macs": "multiply–accumulates, ÷ 10⁹",
    "hrnet_tool": "the HRNet repository's summary tool: multiply–accumulates, deconvolutions × 4, ÷ 2³⁰",
    "torchstat": "Lite-HRNet's torchstat: multiply–accumulates, BatchNorm and ReLU, each module once, ÷ 2³⁰",
    "torchstat_mebi": "Lite-HRNet's torchstat: the same, ÷ 2²⁰ and then by 1000, since their tables print M",
}

# Systems whose code, or a description sufficient to write it, is not public.
NOT_REPRODUCIBLE = {
    "MSFNet": "not reproducible: HRNet with a multi-resolution attention module whose structure and position are not "
    "public",
    "EDite-HRNet-s": "not reproducible: by its title an enhanced Dite-HRNet; neither code nor description is public",
    "LMFormer-L": "not reproducible: no code; the abstract names its mixer and weighting modules, but no widths",
}


@dataclass(frozen=True)
class PaperRow:
    """One row of one table.

    ``params`` and ``flops`` are strings, because the number of printed digits matters: the paper truncates some figures
    and rounds others. Accuracies are in per cent. Frames per second are with one picture at a time, on one Xeon Silver
    4214 and one Tesla M10. "-" and columns that a table does not have are None.
    """

    table: int
    name: str  # as the table calls the row, without the number of the reference
    image_hw: tuple[int, int]  # the table prints the same order, height × width
    params: str | None = None
    flops: str | None = None
    fusion: str = "sfusion"  # Table 5's fusion, of LGM-Pose
    global_block: str = "mobilevim"  # Table 4's global block, of LGM-Pose
    model: str | None = None  # a name for ``create_model``; None where it has no such network
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    ar: float | None = None
    pckh: float | None = None  # at 0.5 of the head, mean over the joints
    fps_cpu: float | None = None
    fps_gpu: float | None = None
    pretrained: bool | None = None  # column P of Table 1: the backbone started from ImageNet weights
    convention: str | None = None  # how ``flops`` was counted, a key of CONVENTIONS; None: unknown
    flops_hw: tuple[int, int] | None = None  # the input that ``flops`` is for, where that is not ``image_hw``
    note: str = ""  # why a figure of the row cannot be reproduced

    @property
    def accuracy(self) -> str:
        """Return the row's main figure with its name and data set."""
        if self.pckh is not None:
            return f"{self.pckh} PCKh@0.5 on MPII val"
        return f"{self.ap} AP on COCO {'test-dev' if self.table == 2 else 'val'}2017"


# The tables as printed, without the numbers of references.
_TABLE_1 = """
    # model              P input   params flops  AP   AP50  AP75  APM   APL   AR   CPU   GPU
    Hourglass            N 256x192  25.1  14.3  66.9  -     -     -     -     -     -     -
    CPN                  Y 256x192  27.0  6.2   68.6  -     -     -     -     -     -     -
    SimpleBaseline       Y 256x192  34.0  8.9   70.4  88.6  78.3  67.1  77.2  76.3  7.8   26.2
    HRNet                N 256x192  28.5  7.1   73.4  89.5  80.7  70.2  80.1  78.9  6.6   22.1
    TokenPose-B          N 256x192  13.5  5.7   74.7  89.8  81.4  71.3  81.4  80.0  4.5   19.4
    MSFNet               N 256x192  -     7.4   74.8  90.4  82.1  71.5  81.5  80.1  -     -
    MobileNetV2 1        N 256x192  9.6   1.4   64.6  87.4  72.3  61.1  71.2  70.7  24.5  74.0
    ShuffleNetV2 1       N 256x192  7.6   1.2   59.9  85.4  66.3  56.6  66.2  66.4  20.3  71.2
    Small HRNet          N 256x192  1.3   0.55  55.2  83.7  62.4  50.3  61.0  62.1  7.9   28.4
    Lite-HRNet-18        N 256x192  1.1   0.2   64.8  86.7  73.0  62.1  70.5  71.2  7.4   27.2
    Lite-HRNet-30        N 256x192  1.8   0.3   67.2  88.0  75.0  64.3  73.1  73.3  4.3   16.2
    Dite-HRNet-18        N 256x192  1.1   0.2   65.9  87.3  74.0  63.2  71.6  72.1  5.5   9.4
    Dite-HRNet-30        N 256x192  1.8   0.3   68.3  88.2  76.2  65.5  74.1  74.2  3.3   9.4
    EDite-HRNet-s        N 256x192  1.3   0.2   66.1  87.2  73.9  63.4  71.8  72.3  -     -
    LMFormer-L           N 256x192  4.1   1.4   68.9  88.3  76.4  -     -     74.7  -     -
    LGM-Pose             N 256x192  1.1   0.6   68.6  89.5  75.9  65.8  73.3  73.7  33.1  80.1
    MobileNetV2 1        N 384x288  9.6   3.3   67.3  87.9  74.3  62.8  74.7  72.9  21.7  72.4
    ShuffleNetV2 1       N 384x288  7.6   2.8   63.6  86.5  70.5  59.5  70.7  69.7  19.9  70.2
    Small HRNet          N 384x288  1.3   1.2   56.0  83.8  63.0  52.4  62.6  62.6  7.1   28.1
    Lite-HRNet-18        N 384x288  1.1   0.4   67.6  87.8  75.0  64.5  73.7  73.7  6.7   27.2
    Lite-HRNet-30        N 384x288  1.8   0.7   70.4  88.7  77.7  67.5  76.3  76.2  3.9   15.8
    Dite-HRNet-18        N 384x288  1.1   0.4   69.0  88.0  76.0  65.5  75.5  75.0  4.9   16.3
    Dite-HRNet-30        N 384x288  1.8   0.7   71.5  88.9  78.2  68.2  77.7  77.2  2.9   9.6
    EDite-HRNet-s        N 384x288  1.3   0.6   68.6  87.5  75.7  65.2  74.9  74.4  -     -
    LMFormer-L           N 384x288  4.1   3.5   70.5  88.4  77.6  -     -     76.1  -     -
    LGM-Pose             N 384x288  1.2   1.5   71.0  90.5  78.1  68.3  77.4  76.5  24.5  43.2
"""

_TABLE_2 = """
    # model              input   params flops   AP    AP50  AP75  APM   APL   AR
    SimpleBaseline       256x192  34.0  8.9     70.0  90.9  77.9  66.8  75.8  75.6
    CPN                  384x288  -     -       72.1  91.4  80.0  68.7  77.2  78.5
    HRNet                384x288  28.5  16.0    74.9  92.5  82.8  71.3  80.9  80.1
    UDP                  384x288  28.7  16.1    76.1  92.5  83.5  72.8  82.0  81.3
    DARK                 384x288  63.6  32.9    76.2  92.5  83.6  72.5  82.4  81.1
    MobileNetV2 1        384x288  9.8   3.3     66.8  90.0  74.0  62.6  73.3  72.3
    ShuffleNetV2 1       384x288  7.6   2.8     62.9  88.5  69.4  58.9  69.3  68.9
    Small HRNet          384x288  1.3   1.2     55.2  85.8  61.4  51.7  61.2  61.5
    Lite-HRNet-18        384x288  1.1   0.4     66.9  89.4  74.4  64.0  72.2  72.6
    Lite-HRNet-30        384x288  1.8   0.7     69.7  90.7  77.5  66.9  75.0  75.4
    Dite-HRNet-18        384x288  1.1   0.4     68.4  89.9  75.8  65.2  73.8  74.4
    Dite-HRNet-30        384x288  1.8   0.7     70.6  90.8  78.2  67.4  76.1  76.4
    LGM-Pose             384x288  1.2   1.5     70.4  91.2  77.8  67.5  75.4  75.7
"""

_TABLE_3 = """
    # model              input   params flops   PCKh  CPU   GPU
    SimpleBaseline       256x256  34.0  8.9     88.5  7.8   26.2
    HRNet                256x256  28.5  7.1     90.1  6.6   22.1
    TokenPose            256x256  21.4  9.1     90.2  4.5   19.4
    MobileNetV2 1        256x256  9.6   1.97    85.4  24.3  69.7
    ShuffleNetV2 1       256x256  7.6   1.7     82.8  20.3  72.2
    Small HRNet          256x256  1.3   0.72    80.2  7.3   28.3
    Lite-HRNet-18        256x256  1.1   0.27    86.1  6.8   27.1
    Lite-HRNet-30        256x256  1.8   0.42    87.0  4.0   15.3
    Dite-HRNet-18        256x256  1.1   0.27    87.0  5.1   16.0
    Dite-HRNet-30        256x256  1.8   0.44    87.6  3.0   9.2
    EDite-HRNet-s        256x256  1.3   0.3     86.8  -     -
    LMFormer-L           256x256  4.1   1.9     87.6  -     -
    LGM-Pose             256x256  1.1   0.9     88.4  24.4  79.9
"""

_TABLE_4 = """
    # block              params flops  PCKh  CPU    GPU
    MobileViT Block      2.5    1.4    87.9  20.1   69.4
    MobileViM Block      1.1    0.9    88.4  24.4   79.9
"""

_TABLE_5 = """
    # method             params flops  PCKh  CPU    GPU
    None                 0.8    0.7    86.4  26.34  84.30
    Conv 3x3             2.1    1.5    88.6  24.78  80.63
    DW g=1               1.08   0.89   88.2  22.11  73.42
    DW g=2               1.1    0.90   88.3  24.21  79.12
    SFusion              1.1    0.90   88.4  24.46  79.91
"""

_COCO_FIGURES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar")
_COLUMNS = {
    1: ("pretrained", "image_hw", "params", "flops", *_COCO_FIGURES, "fps_cpu", "fps_gpu"),
    2: ("image_hw", "params", "flops", *_COCO_FIGURES),
    3: ("image_hw", "params", "flops", "pckh", "fps_cpu", "fps_gpu"),
    4: ("params", "flops", "pckh", "fps_cpu", "fps_gpu"),
    5: ("params", "flops", "pckh", "fps_cpu", "fps_gpu"),
}

_SMALL, _SQUARE, _LARGE = (256, 192), (256, 256), (384, 288)
_OWN_MODELS = {
    _SMALL: "lgm-pose-coco-256x192", _LARGE: "lgm-pose-coco-384x288", _SQUARE: "lgm-pose-mpii-256x256",
}  # fmt: skip
# LGM-Pose's rows: name → what differs from LGM-Pose.
_OWN_ROWS: dict[str, dict[str, str]] = {
    "LGM-Pose": {}, "MobileViM Block": {}, "SFusion": {}, "MobileViT Block": {"global_block": "mobilevit"},
    "None": {"fusion": "none"}, "Conv 3x3": {"fusion": "conv3x3"}, "DW g=1": {"fusion": "dw1"},
    "DW g=2": {"fusion": "dw2"},
}  # fmt: skip
# The other systems: name → our model, convention of the FLOPs.
_SYSTEMS: dict[str, tuple[str | None, str | None]] = {
    "Hourglass": ("hourglass-8", None),
    "CPN": ("cpn-r50", None),
    "SimpleBaseline": ("simplebaseline-r50", "hrnet_tool"),
    "HRNet": ("hrnet-w32", "hrnet_tool"),
    "TokenPose-B": ("tokenpose-b", "hrnet_tool"),
    "TokenPose": ("tokenpose-l-d6", "hrnet_tool"),
    "UDP": (None, "hrnet_tool"),
    "DARK": (None, "hrnet_tool"),
    "MobileNetV2 1": ("mobilenetv2", "torchstat"),
    "ShuffleNetV2 1": ("shufflenetv2", "torchstat"),
    "Small HRNet": ("small-hrnet", "torchstat"),
    "Lite-HRNet-18": ("lite-hrnet-18", "torchstat_mebi"),
    "Lite-HRNet-30": ("lite-hrnet-30", "torchstat_mebi"),
    "Dite-HRNet-18": ("dite-hrnet-18", "torchstat_mebi"),
    "Dite-HRNet-30": ("dite-hrnet-30", "torchstat_mebi"),
} | dict.fromkeys(NOT_REPRODUCIBLE, (None, None))
# Rows that differ from the other rows of their system: (table, name, input) → fields.
_MORE: dict[tuple[int, str, tuple[int, int]], dict[str, Any]] = {
    (1, "Hourglass", _SMALL): {"note": "its code has 25.6 M and 19.6 Gi; 14.3 is 0.75 × the 19.1 of 256×256"},
    (1, "CPN", _SMALL): {"note": "6.2 G is the figure of CPN's paper; its code has 6.7 to 6.8 Gi"},
    (1, "Small HRNet", _SMALL): {"convention": "torchstat_mebi"},
    (2, "CPN", _LARGE): {"model": None, "note": "CPN on ResNet-Inception, not the network of Table 1"},
    (2, "UDP", _LARGE): {"note": "HRNet-W32 with UDP's data processing and two offset maps per joint"},
    (2, "DARK", _LARGE): {"note": "HRNet-W48 with DARK's heatmap coding"},
    (2, "MobileNetV2 1", _LARGE): {"note": "the same network has 9.6 M in Tables 1 and 3, and in our count"},
    (3, "SimpleBaseline", _SQUARE): {"flops_hw": _SMALL},
    (3, "HRNet", _SQUARE): {"flops_hw": _SMALL},
    (3, "TokenPose", _SQUARE): {"flops_hw": _SMALL, "note": "TokenPose-L/D6, with TokenPose-B's frames per second"},
}


def _read_row(table: int, line: str) -> PaperRow:
    """Return the row that a line of one of the texts above holds."""
    columns = _COLUMNS[table]
    name, *words = line.rsplit(maxsplit=len(columns))
    name, cells = name.strip(), {column: word for column, word in zip(columns, words, strict=True) if word != "-"}
    height, width = map(int, cells.pop("image_hw", "256x256").split("x"))
    fields: dict[str, Any] = {}
    for column, word in cells.items():
        unit = {"params": "M", "flops": "G"}.get(column)
        fields[column] = word == "Y" if column == "pretrained" else f"{word} {unit}" if unit else float(word)
    if name in _OWN_ROWS:
        fields |= {"model": _OWN_MODELS[height, width], "convention": "true_macs", **_OWN_ROWS[name]}
    else:
        fields["model"], fields["convention"] = _SYSTEMS[name]
        fields["note"] = NOT_REPRODUCIBLE.get(name, "")
    return PaperRow(table, name, (height, width), **fields | _MORE.get((table, name, (height, width)), {}))


TABLES = {
    table: tuple(_read_row(table, line) for line in text.strip().splitlines()[1:])
    for table, text in enumerate((_TABLE_1, _TABLE_2, _TABLE_3, _TABLE_4, _TABLE_5), start=1)
}
ROWS = tuple(row for rows in TABLES.values() for row in rows if row.model in _OWN_MODELS.values())  # LGM-Pose's own


def published(
    model_name: str,
    fusion: str = "sfusion",
    global_block: str = "mobilevim",
    image_hw: tuple[int, int] | None = None,
) -> PaperRow | None:
    """Return the paper's row for a named network, the first where several tables hold it; None where no table does.

    Args:
        model_name: one of ``list_models()``.
        fusion: a row of Table 5, for LGM-Pose.
        global_block: a row of Table 4, for LGM-Pose.
        image_hw: the row's input size; None takes the first row there is.
    """
    for row in (row for rows in TABLES.values() for row in rows):
        if (row.model, row.fusion, row.global_block) == (model_name, fusion, global_block):
            if image_hw is None or tuple(image_hw) == row.image_hw:
                return row
    return None
