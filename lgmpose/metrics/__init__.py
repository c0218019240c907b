"""How good is a pose? PCK and PCKh (distances), OKS (similarity, NMS, rescoring) and COCO's average precision."""

from lgmpose.metrics.average_precision import AP_NAMES, coco_ap, coco_results
from lgmpose.metrics.joint_accuracy import (
    PCKResult,
    bootstrap_interval,
    head_size_from_joints,
    joint_groups,
    pck,
    pck_joints,
    pckh,
    pckh_joints,
    torso_size,
)
from lgmpose.metrics.mpii import mpii_pckh, one_based
from lgmpose.metrics.similarity import oks, oks_nms, rescore

__all__ = [
    "AP_NAMES",
    "PCKResult",
    "bootstrap_interval",
    "coco_ap",
    "coco_results",
    "head_size_from_joints",
    "joint_groups",
    "mpii_pckh",
    "oks",
    "oks_nms",
    "one_based",
    "pck",
    "pck_joints",
    "pckh",
    "pckh_joints",
    "rescore",
    "torso_size",
]
