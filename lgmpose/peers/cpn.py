"""CPN: Chen et al., "Cascaded Pyramid Network for Multi-Person Pose Estimation", CVPR 2018, with ResNet-50.

GlobalNet, a feature pyramid, predicts heatmaps from each of four scales; RefineNet brings the four scales together,
the coarser the deeper, and predicts once more. The plain joints are settled by the first, the hard ones by the second:
by the authors' loss, which asks the second for the eight worst joints alone and the first for wider spots.
``lgmpose train`` does not have it; here all five predictions learn the same heatmaps.

There are two CPNs. The authors' TensorFlow code takes a residual's input as it is where its width fits; the PyTorch
port that most people use always projects it: six 1×1 convolutions and 0.40 M parameters more. ``shortcuts`` chooses.

* ``"projection"``, the default: 27,406,826 parameters for 17 joints. All else here follows the port, too (BatchNorm
  after each upsampling's 1×1 and on the heatmaps themselves), so this is a network that somebody has trained and
  published results of.
* ``"identity"``: 27,010,538, the 27.0 M that papers print.

The published 6.2 GFLOPs are those of neither, which have 6.81 and 6.73 × 2³⁰ MACs at 256 × 192. The backbone is
torchvision's, without weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct
from lgmpose.peers.deconv import check_multiple_of_32, require_torchvision_models

__all__ = ["CPN", "SHORTCUTS", "Bottleneck", "GlobalNet", "RefineNet", "cpn_r50"]

SHORTCUTS = ("projection", "identity")
SCALES = (256, 512, 1024, 2048)  # ResNet-50's C2 … C5, strides 4 … 32


class Bottleneck(nn.Module):
    """ResNet's residual, 128 channels wide inside; (B, C_in, H, W) → (B, 256, H, W)."""

    def __init__(self, in_channels: int, *, project: bool, hidden: int = 128):
        super().__init__()
        out_channels = 2 * hidden
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, hidden, kernel=1, activation="relu"),
            ConvNormAct(hidden, hidden, activation="relu"),
            ConvNormAct(hidden, out_channels, kernel=1, activation=None),
        )
        project = project or in_channels != out_channels
        self.skip = ConvNormAct(in_channels, out_channels, kernel=1, activation=None) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.skip(x) + self.layers(x))


class GlobalNet(nn.Module):
    """Feature pyramid with a prediction per scale; C2 … C5 → (four maps of 256 channels, four heatmaps).

    Maps keep their strides, 4 … 32; all heatmaps are (B, K, H/4, W/4).
    """

    def __init__(self, *, num_keypoints: int, width: int = 256):
        super().__init__()
        self.laterals = nn.ModuleList(ConvNormAct(C, width, kernel=1, activation="relu") for C in SCALES)
        self.tops = nn.ModuleList(ConvNormAct(width, width, kernel=1, activation=None) for _ in SCALES[1:])
        self.features = nn.ModuleList(ConvNormAct(width, width, kernel=1, activation="relu") for _ in SCALES)
        self.heads = nn.ModuleList(nn.Conv2d(width, num_keypoints, 3, padding=1, bias=False) for _ in SCALES)
        self.norms = nn.ModuleList(nn.BatchNorm2d(num_keypoints) for _ in SCALES)

    def forward(self, scales: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        heatmap_hw = scales[0].shape[-2:]
        maps, heatmaps = [], []
        for i in reversed(range(len(scales))):  # from stride 32 up
            x = self.laterals[i](scales[i])
            if maps:
                x = x + self.tops[i](_resize(maps[0], x.shape[-2:]))
            maps.insert(0, x)
            y = self.heads[i](self.features[i](x))
            heatmaps.insert(0, self.norms[i](_resize(y, heatmap_hw)))  # BatchNorm last: after the resize
        return maps, heatmaps


class RefineNet(nn.Module):
    """Four maps of 256 channels, strides 4 … 32 → (B, K, H/4, W/4), through 0, 1, 2, 3 bottlenecks."""

    def __init__(self, *, num_keypoints: int, project: bool, width: int = 256):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width, project=project) for _ in range(i))) for i in range(len(SCALES))
        )
        self.mix = Bottleneck(len(SCALES) * width, project=True)
        self.head = nn.Conv2d(width, num_keypoints, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(num_keypoints)

    def forward(self, maps: list[Tensor]) -> Tensor:
        heatmap_hw = maps[0].shape[-2:]
        maps = [_resize(branch(x), heatmap_hw) for branch, x in zip(self.branches, maps, strict=True)]
        x = self.mix(torch.cat(maps, dim=1))  #    (B, 1024, H/4, W/4) → (B, 256, H/4, W/4)
        return self.norm(self.head(x))


class CPN(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4).

    In training mode it returns five heatmaps: GlobalNet's, finest scale first, and RefineNet's, the answer, last. No
    weight depends on the input's size; ``image_hw`` is checked and no more.

    Args:
        num_keypoints: K.
        image_hw: the input's height and width.
        shortcuts: of RefineNet's residuals, see above.

    Raises:
        ValueError: a size (also in ``forward``) that is not a multiple of 32, or unknown shortcuts.
        UserError: torchvision is not installed.
    """

    def __init__(self, *, num_keypoints: int, image_hw: tuple[int, int], shortcuts: str = "projection"):
        super().__init__()
        check_multiple_of_32(image_hw)
        if shortcuts not in SHORTCUTS:
            raise ValueError(f"no shortcuts {shortcuts!r}; there are {', '.join(SHORTCUTS)}")
        resnet = require_torchvision_models().resnet50(weights=None)
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        self.global_net = GlobalNet(num_keypoints=num_keypoints)
        self.refine_net = RefineNet(num_keypoints=num_keypoints, project=shortcuts == "projection")
        self.global_net.apply(_init_weights)  # the port leaves the other to PyTorch

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        check_multiple_of_32(x.shape[-2:])
        x = self.stem(x)  #                               (B, 64, H/4, W/4)
        scales = []
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
        maps, heatmaps = self.global_net(scales)
        answer = self.refine_net(maps)
        return (*heatmaps, answer) if self.training else answer


def _resize(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Bilinear, corner pixels upon corner pixels, as the port does it."""
    return F.interpolate(x, size=hw, mode="bilinear", align_corners=True)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def cpn_r50(num_keypoints: int, image_hw: tuple[int, int]) -> CPN:
    """CPN with ResNet-50, as its PyTorch port has it."""
    return CPN(num_keypoints=num_keypoints, image_hw=image_hw)
