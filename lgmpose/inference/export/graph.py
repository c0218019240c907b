"""A network as an ONNX graph: ``images`` (B, 3, H, W), normalised → ``heatmaps`` (B, K, h, w), any B."""

from __future__ import annotations

import ast
import logging
from collections import Counter
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.fast import fast_form
from lgmpose.peers.ditehrnet import DynamicConv

if TYPE_CHECKING:
    import onnx

__all__ = ["StackedDynamicConv", "export_graph"]

_SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the modules that a node came from


def export_graph(net: nn.Module, image_hw: tuple[int, int]) -> onnx.ModelProto:
    """The ONNX graph of a network's fast form; nodes are named by the module they came from.

    Args:
        net: in eval mode, on the CPU; not changed.
        image_hw: the input size; it is fixed, the number of pictures is not.
    """
    example = torch.rand(2, 3, *image_hw, generator=torch.Generator().manual_seed(0))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports each step
    net = fast_form(net, example)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DynamicConv):
                setattr(parent, name, StackedDynamicConv(child))
    program = torch.onnx.export(
        net, (example,), dynamo=True, input_names=["images"], output_names=["heatmaps"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    model = program.model_proto
    _name_nodes(model.graph)
    _strip(model)
    return model


class StackedDynamicConv(nn.Module):
    """Dite-HRNet's dynamic convolution: convolved by every kernel first, summed by the picture's weights afterwards.

    ``DynamicConv`` makes the pictures of a batch groups of one convolution, whose number ONNX wants to know beforehand.
    """

    def __init__(self, dynamic: DynamicConv):
        super().__init__()
        n, C_out, C_group, k, _ = dynamic.kernels.shape
        self.attention, self.stride, self.groups = dynamic.attention, dynamic.stride, dynamic.groups
        kernels = dynamic.kernels.detach().reshape(n, self.groups, C_out // self.groups, C_group, k, k)
        self.weight = nn.Parameter(kernels.transpose(0, 1).reshape(n * C_out, C_group, k, k))  # group by group
        self.num_kernels = n

    def forward(self, x: Tensor) -> Tensor:
        n, k = self.num_kernels, self.weight.shape[-1]
        weights = self.attention(x).view(-1, 1, n, 1, 1, 1)
        x = F.conv2d(x, self.weight, stride=self.stride, padding=k // 2, groups=self.groups)
        H, W = x.shape[-2:]
        x = x.view(-1, self.groups, n, self.weight.shape[0] // (self.groups * n), H, W)
        return (x * weights).sum(dim=2).flatten(1, 2)  # (B, C_out, H, W)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """``stages.1.0.layers.1.0`` instead of ``node_conv2d_3``; a module's second node gets a number."""
    taken: Counter[str] = Counter()
    for node in graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        path = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]  # the last one is the operator's own
        name = f"{path[-1] if path else 'net'}/{node.op_type}"
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"


def _strip(model: onnx.ModelProto) -> None:
    """Leaves out the exporter's notes: they hold paths of this machine, and are longer than a small network."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
