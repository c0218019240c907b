"""How good is a pose? PCK and PCKh (distances), OKS (similarity, NMS, rescoring) and COCO's average precision."""

from lgmpose.metrics.average_precision import AP_ENGINES, AP_NAMES, ap_engine, coco_ap, coco_results, results_json
from lgmpose.metrics.diagnosis import ERROR_KINDS, error_kinds
from lgmpose.metrics.joint_accuracy import (
    PCKResult,
    bootstrap_interval,
    head_size_from_joints,
    pck,
    pck_joints,
    pckh,
    pckh_joints,
    torso_size,
)
from lgmpose.metrics.mpii import mpii_pckh, one_based
from lgmpose.metrics.similarity import JOINT_SCORE_THRESHOLD, oks, oks_nms, rescore
from lgmpose.metrics.top_down import coco_persons

__all__ = [
    "AP_ENGINES",
    "AP_NAMES",
    "ERROR_KINDS",
    "JOINT_SCORE_THRESHOLD",
    "PCKResult",
    "ap_engine",
    "bootstrap_interval",
    "coco_ap",
    "coco_persons",
    "coco_results",
    "error_kinds",
    "head_size_from_joints",
    "mpii_pckh",
    "oks",
    "oks_nms",
    "one_based",
    "pck",
    "pck_joints",
    "pckh",
    "pckh_joints",
    "rescore",
    "results_json",
    "torso_size",
]
