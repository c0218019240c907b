"""Networks from outside the package by name, for counting, timing and exporting: timm's, torchvision's, or your own.

Three kinds of names are taken besides those of the catalogue: ``timm:NAME``, ``torchvision:NAME`` and
``package.module:function``. Nothing is downloaded: timm's and torchvision's networks get random weights.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lgmpose.errors import UserError, first_line, require
from lgmpose.zoo import catalogue
from lgmpose.zoo.catalogue import Config, config_of

__all__ = ["is_outside", "open_network", "own_config"]


def is_outside(name: str) -> bool:
    """Return whether a name is one of this module's, not of the catalogue."""
    return ":" in name


def own_config(net: nn.Module) -> Config | None:
    """Return the config of a network of the catalogue; None for a network from outside."""
    config = getattr(net, "config", None)
    return config if isinstance(config, Config) else None


def open_network(
    name: str, *, image_hw: tuple[int, int] | None = None, **changes: Any
) -> tuple[nn.Module, tuple[int, int]]:
    """Build a network of the catalogue or from outside, in eval mode, and return it with its input size.

    A network from outside is run once on a black picture, so that what is wrong shows before long work.

    Args:
        name: of ``catalogue.list_models``, or ``timm:NAME``, ``torchvision:NAME``, ``package.module:function``. The
            function is called without arguments and returns an ``nn.Module``. Its module may be in the current folder.
        image_hw: height and width of the input; by default the network's own, if it states one.
        **changes: see ``catalogue.create_model``; a network from outside has none.

    Raises:
        UserError: an unknown name, a package that is not installed, a function that needs arguments or fails, no known
            input size, or a network that does not turn one picture (1, 3, H, W) into one tensor.
    """
    if not is_outside(name):
        net = catalogue.create_model(name, **(changes if image_hw is None else changes | {"image_hw": image_hw})).eval()
        return net, config_of(net).image_hw
    if changes:
        raise UserError(f"model {name} has no option {min(changes)!r}; only the package's own networks have")
    source, _, rest = name.partition(":")
    net = {"timm": _timm, "torchvision": _torchvision}.get(source, lambda _: _from_function(name))(rest).eval()
    size = image_hw or _stated_size(net)
    if size is None:
        raise UserError(f"model {name}: does not state its input size; give --image-hw HEIGHT WIDTH")
    H, W = size
    if min(H, W) < 1:
        raise UserError(f"image_hw {(H, W)}: give two whole numbers above 0, height and width")
    try:
        with torch.no_grad():
            output = net(torch.zeros(1, 3, H, W))
    except Exception as error:  # any code can be behind the name
        raise UserError(
            f"model {name}: fails on a picture of {H} × {W}, (1, 3, {H}, {W}), float32 ({first_line(error)}); another "
            "--image-hw may fit"
        ) from error
    if not isinstance(output, Tensor):
        raise UserError(
            f"model {name}: returns a {type(output).__name__}, not one tensor; name a function of your own, "
            "package.module:function, whose network returns the tensor that is to be counted and timed"
        )
    return net, (H, W)


def _stated_size(net: nn.Module) -> tuple[int, int] | None:
    """Return the input size that a timm network states, (H, W)."""
    stated = getattr(net, "pretrained_cfg", None) or {}
    size = stated.get("input_size") if isinstance(stated, dict) else None
    return (size[1], size[2]) if size else None


def _timm(name: str) -> nn.Module:
    require("timm", "timm", f"model timm:{name}")
    import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    return _call(lambda: timm.create_model(name, pretrained=False), f"timm:{name}")


def _torchvision(name: str) -> nn.Module:
    require("torchvision", "peers", f"model torchvision:{name}")
    from torchvision import models

    if name not in models.list_models():
        raise _unknown("torchvision", name, models.list_models())
    builder = models.get_model_builder(name)
    # Detectors and segmentation networks would otherwise download the weights of their backbone.
    options = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    return _call(lambda: builder(**options), f"torchvision:{name}")


def _from_function(name: str) -> nn.Module:
    """Return the network that ``package.module:function`` makes; both may be in the current folder."""
    module_name, _, function_name = name.rpartition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # the command `lgmpose`, unlike `python -m`, does not look there
    try:
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # the module's own code runs here
            raise UserError(
                f"model {name}: cannot import {module_name!r} ({first_line(error)}); write timm:NAME, torchvision:NAME "
                "or package.module:function"
            ) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            raise _unknown(module_name, function_name, [key for key in vars(module) if callable(getattr(module, key))])
        if isinstance(function, nn.Module):
            return function
        return _call(function, name)
    finally:
        with contextlib.suppress(ValueError):  # the module has changed the path itself
            sys.path.remove(here)


def _call(function: Callable[[], Any], name: str) -> nn.Module:
    try:
        net = function()
    except Exception as error:  # any code can be behind the name
        raise UserError(f"model {name}: building it fails ({first_line(error)})") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"model {name}: returns a {type(net).__name__}, not a torch.nn.Module")
    return net


def _unknown(source: str, name: str, names: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(name, list(names))
    return UserError(f"{source} has no network {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
