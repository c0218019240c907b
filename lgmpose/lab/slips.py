"""Statements of the paper that its own tables, its sources or our counts contradict: ``lgmpose lab paper``.

Published figures come from ``lgmpose.lab.paper``, and the arithmetic is done here.
"""

from __future__ import annotations

from typing import NamedTuple

from lgmpose.lab.paper import TABLES, PaperRow
from lgmpose.network.config import STAGES

__all__ = ["SLIPS", "Slip", "slips_table"]

PROFILE = "lgmpose profile --no-fps --model"
SMALL, LARGE = ({row.name: row for row in TABLES[1] if row.image_hw == hw} for hw in ((256, 192), (384, 288)))
TEST_DEV, MPII, FUSIONS = ({row.name: row for row in TABLES[table]} for table in (2, 3, 5))
LGM, LGM_LARGE, LGM_MPII = SMALL["LGM-Pose"], LARGE["LGM-Pose"], MPII["LGM-Pose"]
LITE_18, DITE_18, LITE_30, DITE_30 = (f"{family}-HRNet-{size}" for size in (18, 30) for family in ("Lite", "Dite"))


class Slip(NamedTuple):
    """A statement of the paper that does not hold."""

    says: str  # words in double quotes are the paper's own
    finds: str  # what its tables, its sources or our counts say
    why: str  # the probable cause
    command: str = ""  # shows it on this machine; "" where reading is enough


def over(a: PaperRow, b: PaperRow, figure: str) -> str:
    """Return a ratio of two rows' figures, ``33.1/7.4 = 4.5×``; below 1 it has two decimals."""
    x, y = (str(getattr(row, figure)).split()[0] for row in (a, b))  # "1.1 M" without its unit
    ratio = float(x) / float(y)
    return f"{x}/{y} = {ratio:.{1 if ratio > 1 else 2}f}×"


def cpu(a: PaperRow, b: PaperRow) -> str:
    """Return the ratio of two rows' frames per second on the CPU."""
    return over(a, b, "fps_cpu")


def gpu(a: PaperRow, b: PaperRow) -> str:
    """Return the ratio of two rows' frames per second on the GPU."""
    return over(a, b, "fps_gpu")


def added_params(fusion: str) -> str:
    """Return how many parameters a row of Table 5 adds to the network without fusion, ``1.1 - 0.8 = 0.3 M``."""
    a, b = (str(FUSIONS[name].params).split()[0] for name in (fusion, "None"))
    return f"{a} - {b} = {float(a) - float(b):.1f} M"


def mlp_share(stage: int) -> float:
    """Return the parameters of LARM's MLP Blocks over those of a transformer layer's norm and feed-forward part.

    The input is 256×256 and the widths are those of ``lgmpose.network.config``: MLPs 4 times as wide as their axis, a
    feed-forward part 2 d wide.
    """
    d, (h, w) = STAGES[stage - 1].token_width, STAGES[stage - 1].patch_hw
    pixels, patches = h * w, (256 // 2**stage) ** 2 // (h * w)
    blocks = sum(8 * n**2 + 7 * n for n in (patches, pixels))  # LayerNorm 2 n, then n → 4 n → n with biases
    return blocks / (4 * d**2 + 5 * d)  # LayerNorm 2 d, then d → 2 d → d with biases


SPEED = (
    Slip('FPS on CPU "by 6x and 8x" over Lite-HRNet-18 and Dite-HRNet-18 (256×192)',
         f"{cpu(LGM, SMALL[LITE_18])}, {cpu(LGM, SMALL[DITE_18])}",
         f"perhaps the -30 networks at 384×288: {cpu(LGM_LARGE, LARGE[LITE_30])}, {cpu(LGM_LARGE, LARGE[DITE_30])}"),
    Slip('FPS "on GPU by 4x and 3x" over the same two networks',
         f"{gpu(LGM, SMALL[LITE_18])}, {gpu(LGM, SMALL[DITE_18])}",
         "perhaps the same -30 networks in the wrong order: "
         f"{gpu(LGM_LARGE, LARGE[LITE_30])}, {gpu(LGM_LARGE, LARGE[DITE_30])}"),
    Slip('"LGM-Pose achieves 3 times the FPS of Dite-HRNet-18"',
         f"CPU {cpu(LGM, SMALL[DITE_18])}, GPU {gpu(LGM, SMALL[DITE_18])}",
         f"perhaps the GPU at 384×288: {gpu(LGM_LARGE, LARGE[DITE_18])}"),
    Slip(f"Table 1: Dite-HRNet-18 runs at {SMALL[DITE_18].fps_gpu} FPS on the GPU at 256×192",
         f"lower than its own {LARGE[DITE_18].fps_gpu} at 384×288 and {MPII[DITE_18].fps_gpu} at 256×256",
         f"perhaps copied from Dite-HRNet-30, which has {SMALL[DITE_30].fps_gpu}"),
    Slip(f"LGM-Pose runs at {LGM.fps_cpu}, {LGM_MPII.fps_cpu} and {LGM_LARGE.fps_cpu} FPS on the CPU at 256×192, "
         "256×256 and 384×288 (Tables 1 and 3)",
         "384×288 has 1.7 times the pixels of 256×256 and takes no more time",
         f"unknown; Tables 4 and 5 repeat the {LGM_MPII.fps_cpu}", "lgmpose profile --model lgm-pose-mpii-256x256"),
    Slip('on the CPU "with minimal impact from input image size"',
         f"384×288 over 256×192: {cpu(LGM_LARGE, LGM)}; MobileNetV2 "
         f"{cpu(LARGE['MobileNetV2 1'], SMALL['MobileNetV2 1'])}",
         "contradicts Table 1"),
    Slip('against Lite-HRNet and Dite-HRNet, "the FPS reduction of LGM-Pose with changes in image resolution is much '
         'less pronounced"',
         f"384×288 over 256×192, CPU: LGM-Pose {cpu(LGM_LARGE, LGM)}, Lite-HRNet-18 "
         f"{cpu(LARGE[LITE_18], SMALL[LITE_18])}; GPU: {gpu(LGM_LARGE, LGM)} and "
         f"{gpu(LARGE[LITE_18], SMALL[LITE_18])}",
         "contradicts Table 1"),
    Slip("Table 3: SimpleBaseline, HRNet and TokenPose have the FPS at 256×256 that Table 1 has at 256×192",
         f"{MPII['SimpleBaseline'].fps_cpu}, {MPII['HRNet'].fps_cpu} and {MPII['TokenPose'].fps_cpu} on the CPU",
         "probably copied"),
    Slip('FPS on CPU "increasing by 8 times" over Lite-HRNet-30 (256×256)',
         f"{cpu(LGM_MPII, MPII[LITE_30])}; 5 times on the GPU holds: {gpu(LGM_MPII, MPII[LITE_30])}",
         f"8 times is the ratio to Dite-HRNet-30: {cpu(LGM_MPII, MPII[DITE_30])}"),
)  # fmt: skip
COST = (
    Slip('"outperforms current lightweight models with the fewest model parameters"',
         f"at 384×288 LGM-Pose has {LGM_LARGE.params}, Lite-HRNet-18 and Dite-HRNet-18 have {LARGE[LITE_18].params}; "
         f"Dite-HRNet-30 has {LARGE[DITE_30].ap} AP and LGM-Pose {LGM_LARGE.ap}",
         "at 256×192 the parameters are equal: LARM's grow with the input",
         "lgmpose profile --no-fps --model lgm-pose-coco-384x288"),
    Slip("one column of FLOPs",
         f"the column mixes three ways of counting: SimpleBaseline's {SMALL['SimpleBaseline'].flops} is 5.43 G "
         "multiply–accumulates",
         "copied from papers that counted with different tools; SimpleBaseline's counts a deconvolution four times",
         f"{PROFILE} simplebaseline-r50"),
    Slip(f"Table 3: SimpleBaseline takes {MPII['SimpleBaseline'].flops} and HRNet {MPII['HRNet'].flops} at 256×256",
         "the same as at 256×192; the tool that gives these figures gives 12.0 and 9.5 at 256×256",
         "probably copied", f"{PROFILE} hrnet-w32 --image-hw 256 256"),
    Slip(f"Table 3: TokenPose has {MPII['TokenPose'].params} parameters and takes {MPII['TokenPose'].flops}",
         "TokenPose-L/D6, with its FLOPs for 256×192 and TokenPose-B's FPS",
         "Table 1 has another network, TokenPose-B",
         f"{PROFILE} tokenpose-l-d6 --num-keypoints 16 --image-hw 256 256"),
    Slip(f"Table 2: MobileNetV2 has {TEST_DEV['MobileNetV2 1'].params} parameters",
         f"{SMALL['MobileNetV2 1'].params} in Tables 1 and 3, and in our count", "unknown", f"{PROFILE} mobilenetv2"),
    Slip(f"Table 1: Small HRNet takes {SMALL['Small HRNet'].flops} at 256×192",
         "0.54 in its source",
         "the same count, 553 · 2²⁰. Divided by 2³⁰ it is 0.54, divided by 2²⁰ and 1000 it is 0.55"),
    Slip('against Dite-HRNet-30 at 384×288 "a substantial reduction in computational load"',
         f"{over(LGM_LARGE, LARGE[DITE_30], 'flops')} its FLOPs",
         f"perhaps speed is meant: {cpu(LGM_LARGE, LARGE[DITE_30])} its FPS on the CPU"),
    Slip('against regular convolution, SFusion has "only half the computational cost"',
         f"FLOPs {over(FUSIONS['SFusion'], FUSIONS['Conv 3x3'], 'flops')}",
         f"parameters are halved: {over(FUSIONS['SFusion'], FUSIONS['Conv 3x3'], 'params')}",
         f"{PROFILE} lgm-pose-mpii-256x256 --fusion conv3x3"),
    Slip("Table 5: the plain 3×3 convolution has more FLOPs than SFusion",
         f"but also more FPS: {FUSIONS['Conv 3x3'].fps_cpu} against {FUSIONS['SFusion'].fps_cpu} on the CPU, "
         f"{FUSIONS['Conv 3x3'].fps_gpu} against {FUSIONS['SFusion'].fps_gpu} on the GPU",
         "unknown", f"{PROFILE.replace(' --no-fps', '')} lgm-pose-mpii-256x256 --fusion conv3x3"),
    Slip('SFusion: "increasing the number of groups would lead to higher computational complexity", groups "simply set '
         'to 2"',
         "more groups cost less. Two groups would add half of the plain 3×3 convolution's parameters, which are "
         f"{added_params('Conv 3x3')}. SFusion adds {added_params('SFusion')}",
         "k is probably the number of channels per group", f"{PROFILE} lgm-pose-mpii-256x256 --fusion conv3x3"),
    Slip('"parameters of the MLP Block are comparable to those of the PerNorm and Feedforward components"',
         f"both MLP Blocks have {mlp_share(3):.2f} times as many at stage 3 and {mlp_share(4):.2f} times as many at "
         "stage 4 (256×256, widths as built here)",
         "holds at stage 3 only: the MLP Blocks' parameters depend on the number of patches, not on the channels"),
)  # fmt: skip
PROTOCOL = (
    Slip('"higher model accuracy than SimpleBaseline with only 3% of the parameter count"',
         f"{TEST_DEV['LGM-Pose'].ap} AP at 384×288 is compared with {TEST_DEV['SimpleBaseline'].ap} at 256×192; at "
         f"256×192 Table 1 has {LGM.ap} and {SMALL['SimpleBaseline'].ap}",
         "two input sizes are compared"),
    Slip("Table 1, column P: MobileNetV2, ShuffleNetV2 and TokenPose-B start from scratch (N)",
         "the published figures start from ImageNet weights", "perhaps not checked against their sources"),
    Slip('train2017 contains "27K" images', "118,287", "unknown", "lgmpose data coco"),
    Slip('ablations: "training was performed on the MPII validation set"',
         "that is the set they are measured on", "the training set is meant, as in Table 3"),
    Slip('the metrics are "AP", AP50, AP70 …', "the tables print AP75", "a typing error"),
)  # fmt: skip
WORDS = (
    Slip("patches are h × w with h ≤ n and w ≤ n",
         "n is not defined; in MobileViT, which has the same sentence, it is the side of the local convolution, here 3",
         "probably copied; it would forbid 4×4 patches, with which stage 3 meets the printed costs"),
    Slip("equation 1 gives x_G", "the text calls its result X_F", "a typing error"),
    Slip('"PerNorm"', "there is no such layer", "pre-norm is meant"),
    Slip('reference [29] is "DSPNet" in the text and "MSFNet" in Table 1',
         "its title is that of a multi-scale feature refined network, MSFRNet", "DSPNet is another network"),
    Slip('"UDP[35], and DARK[36]" in the text', "[38] and [39] in Table 2; 35 is MLP-Mixer and 36 is Adam",
         "the references were renumbered"),
)  # fmt: skip
SLIPS = (*SPEED, *COST, *PROTOCOL, *WORDS)


def slips_table() -> str:
    """Return ``SLIPS`` as a Markdown table."""
    lines = ["| the paper says | we find | why | shown by |", "| --- | --- | --- | --- |"]
    for slip in SLIPS:
        command = f"`{slip.command}`" if slip.command else "reading"
        lines.append(f"| {slip.says} | {slip.finds} | {slip.why} | {command} |")
    return "\n".join(lines)
