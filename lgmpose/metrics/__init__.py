"""Metrics of poses: PCK and PCKh (distances), OKS (similarity) and COCO's average precision.

OKS-NMS and COCO's rescoring, which a prediction needs as well, are in ``lgmpose.pose.persons``.
"""

from lgmpose.metrics.average_precision import (
    AP_NAMES,
    ap_figures,
    ap_interval,
    coco_ap,
    coco_results,
    compare_persons,
)
from lgmpose.metrics.error_kinds import ERROR_KINDS, error_kinds
from lgmpose.metrics.oks import oks
from lgmpose.metrics.pck import (
    PCKResult,
    bootstrap_interval,
    head_size_from_joints,
    pck,
    pck_joints,
    pckh,
    pckh_joints,
    torso_size,
)
from lgmpose.pose.persons import JOINT_SCORE_THRESHOLD, oks_nms, rescore

__all__ = [
    "AP_NAMES", "ERROR_KINDS", "JOINT_SCORE_THRESHOLD", "PCKResult", "ap_figures", "ap_interval", "bootstrap_interval",
    "coco_ap", "coco_results", "compare_persons", "error_kinds", "head_size_from_joints", "oks", "oks_nms", "pck",
    "pck_joints", "pckh", "pckh_joints", "rescore", "torso_size",
]  # fmt: skip
