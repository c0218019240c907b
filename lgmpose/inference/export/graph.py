"""Export a network as an ONNX graph: ``images`` (B, 3, H, W), normalised → ``heatmaps`` (B, K, h, w), for any B."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.fast import fast_form
from lgmpose.peers.ditehrnet import DynamicConv

if TYPE_CHECKING:
    import onnx

__all__ = ["StackedDynamicConv", "export_graph", "halve_weights", "trace_graph"]

LEAST_HALVED = 256  # elements; smaller tensors are not worth a conversion


def export_graph(
    net: nn.Module, image_hw: tuple[int, int], *, fast: bool = True, outputs: Sequence[str] = ("heatmaps",)
) -> onnx.ModelProto:
    """Return the ONNX graph of a network, normally of its fast form.

    Args:
        net: in eval mode, on the CPU; not changed.
        image_hw: the input size, which is fixed in the graph.
        fast: False for a network from outside the package: the fast form relies on the order in which modules are
            defined.
        outputs: names of what the network returns.
    """
    example = torch.rand(2, 3, *image_hw, generator=torch.Generator().manual_seed(0))
    net = fast_form(net) if fast else net
    for module in list(net.modules()) if fast else []:
        if isinstance(module, nn.Sequential) and len(module) and isinstance(module[0], nn.ConvTranspose2d):
            if module[0].kernel_size == module[0].stride:
                _use_pixel_shuffle(module)
        for name, child in list(module.named_children()):
            if isinstance(child, DynamicConv):
                setattr(module, name, StackedDynamicConv(child))
    return trace_graph(net, {"images": example}, outputs)


def trace_graph(net: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the ONNX graph of a module as it is.

    Args:
        net: in eval mode, on the CPU.
        inputs: name and example of each input. Only ``images`` has a batch axis, the first, which stays free.
        outputs: names of what the module returns.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports each step
    free = tuple({0: torch.export.Dim("batch")} if name == "images" else None for name in inputs)
    program = torch.onnx.export(
        net, tuple(inputs.values()), dynamo=True, input_names=[*inputs], output_names=[*outputs],
        dynamic_shapes=free, verbose=False,
    )  # fmt: skip
    assert program is not None
    return _without_notes(program.model_proto)


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights of a graph in 16 bits, and return it. Runtimes convert them to 32 bits when they open it."""
    import onnx
    from onnx import helper, numpy_helper

    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= LEAST_HALVED:
            halved = numpy_helper.to_array(tensor).astype(np.float16)
            casts.append(helper.make_node("Cast", [f"{tensor.name}_16"], [tensor.name], to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(halved, f"{tensor.name}_16"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _use_pixel_shuffle(block: Any) -> None:
    """Write an s×s deconvolution of stride s as a 1×1 convolution and a pixel shuffle after the activation.

    The function is the same. ONNX Runtime has no deconvolution in 8 bits.
    """
    weight, bias = block[0].weight.detach(), block[0].bias.detach()  # (C_in, C_out, s, s), (C_out,)
    C_in, C_out, s, _ = weight.shape
    block[0] = nn.Conv2d(C_in, s * s * C_out, 1)
    block[0].weight = nn.Parameter(weight.permute(1, 2, 3, 0).reshape(-1, C_in, 1, 1))
    block[0].bias = nn.Parameter(bias.repeat_interleave(s * s))
    block.append(nn.PixelShuffle(s))


class StackedDynamicConv(nn.Module):
    """Dite-HRNet's dynamic convolution: convolve by every kernel, then sum the results with the picture's weights.

    ``DynamicConv`` makes the pictures of a batch groups of one convolution. ONNX needs the number of groups in advance.
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


def _without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes: they hold paths of this machine, and are longer than a small network."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    return model
