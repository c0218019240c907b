"""LGM-Pose: a lightweight pose network rebuilt from its paper, with all that is needed to train, measure and use it.

>>> import lgmpose
>>> poses = lgmpose.Predictor()("photo.jpg")

Names are imported when they are first used, so that ``import lgmpose`` and ``lgmpose --help`` need not import torch.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "LGMPose": "lgmpose.network.model",
    "LGMPoseConfig": "lgmpose.network.config",
    "Predictor": "lgmpose.inference.predictor",
    "TrainConfig": "lgmpose.training.recipe",
    "UserError": "lgmpose.errors",
    "create_model": "lgmpose.zoo.catalogue",
    "list_models": "lgmpose.zoo.catalogue",
    "load_weights": "lgmpose.zoo.catalogue",
    "profile": "lgmpose.lab.profiling",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'lgmpose' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return sorted(__all__)
