"""LGM-Det: boxes compared with torchvision, which points learn what, and that every weight learns."""

import pytest
import torch

from lgmpose.network.config import VARIANTS, LGMPoseConfig
from lgmpose.network.detector import STRIDES, LGMDet, assign, detection_loss, giou, grid_points


def maps_of(rows: dict[tuple[int, int, int], tuple[float, ...]], hw=(64, 96)) -> tuple[torch.Tensor, ...]:
    """Return maps that are empty but for (stride, row, column) → (logit, left, top, right, bottom)."""
    maps = {s: torch.tensor([-9.0, 1, 1, 1, 1]).repeat(1, hw[0] // s, hw[1] // s, 1) for s in STRIDES}
    for (stride, row, column), values in rows.items():
        maps[stride][0, row, column] = torch.tensor(values)
    return tuple(maps.values())


def boxes_of(maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, points = torch.cat([m.flatten(1, 2) for m in maps], 1), grid_points(maps)
    return rows[..., 0].sigmoid(), torch.cat([points - rows[..., 1:3], points + rows[..., 3:]], -1)


def test_outputs_are_maps_of_three_strides_with_positive_distances():
    net = LGMDet(LGMPoseConfig((64, 96))).eval()
    maps = net(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 8, 12, 5), (2, 4, 6, 5), (2, 2, 3, 5)]
    assert all((m[..., 1:] > 0).all() for m in maps)
    points = grid_points(maps)
    assert points[1].tolist() == [8, 0] and points[96].tolist() == [0, 0] and points[-1].tolist() == [64, 32]


def test_the_score_in_eval_mode_is_the_square_root():
    net = LGMDet(LGMPoseConfig((64, 96))).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found = net(x)
        for module in net.modules():
            module.training = isinstance(module, LGMDet)  # BatchNorms stay as they are
        trained = net(x)
    for one, other in zip(found, trained, strict=True):
        torch.testing.assert_close(one[..., 0].sigmoid() ** 2, other[..., 0].sigmoid())
        torch.testing.assert_close(one[..., 1:], other[..., 1:])


def test_heads_share_their_kernels_but_not_their_statistics():
    net = LGMDet(LGMPoseConfig((64, 96))).train()
    first, *others = (dict(head.named_parameters()) for head in net.heads)
    for other in others:
        for name, parameter in first.items():
            assert (other[name] is parameter) == (parameter.ndim == 4 or name == "2.bias"), name
    net(torch.randn(4, 3, 64, 96))
    means = [[m.running_mean for m in head.modules() if isinstance(m, torch.nn.BatchNorm2d)] for head in net.heads]
    assert len(means[0]) == 6 and not any(torch.equal(a, b) for a, b in zip(means[0], means[2], strict=True))


def test_at_most_four_megabytes():
    trained = LGMDet(VARIANTS["lgm-pose-next-coco-256x192"].with_(image_hw=(320, 320)))
    assert 2 * sum(p.numel() for p in trained.parameters()) < 4e6


def test_iou_and_giou_are_torchvisions():
    ops = pytest.importorskip("torchvision.ops")
    corner, size = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(0)) * 50
    boxes = torch.cat([corner, corner + size + 1], -1)
    iou, generalised = giou(boxes[:, None], boxes[None])
    torch.testing.assert_close(iou, ops.box_iou(boxes, boxes))
    torch.testing.assert_close(generalised, ops.generalized_box_iou(boxes, boxes))


def test_the_best_point_of_a_box_learns_its_iou_and_points_outside_learn_nothing():
    box = torch.tensor([[[10.0, 10, 50, 50], [0, 0, 0, 0]]])
    # Three points inside: a perfect box, one that is too wide, and a point outside with the perfect box.
    maps = maps_of({
        (8, 3, 3): (0.0, 14, 14, 26, 26), (16, 1, 1): (0.0, 6, 6, 44, 34), (8, 7, 7): (3.0, 46, 46, -6, -6),
    })  # fmt: skip
    scores, corners = boxes_of(maps)
    wanted, owner, learns = assign(scores, corners, grid_points(maps), box, torch.tensor([[1.0, 0.0]]))
    perfect, wide, outside = 3 * 12 + 3, 96 + 6 + 1, 7 * 12 + 7
    assert wanted[0, perfect].item() == pytest.approx(1, abs=1e-5)
    assert wanted[0, wide].item() == pytest.approx((40 / 50) ** 6, rel=1e-4)
    assert wanted[0, outside] == 0 and owner[0, perfect] == 0 and learns.all()


def test_a_point_that_two_boxes_choose_belongs_to_the_one_that_it_fits_best():
    boxes = torch.tensor([[[0.0, 0, 60, 60], [10, 10, 50, 50]]])
    maps = maps_of({(8, 3, 3): (0.0, 14, 14, 26, 26)})
    wanted, owner, _ = assign(*boxes_of(maps), grid_points(maps), boxes, torch.ones(1, 2))
    assert owner[0, 3 * 12 + 3] == 1 and wanted[0, 3 * 12 + 3].item() == pytest.approx(1, abs=1e-5)


def test_points_in_a_crowd_learn_nothing():
    maps = maps_of({(8, 3, 3): (4.0, 14, 14, 26, 26)})
    crowd, nobody = torch.tensor([[[10.0, 10, 50, 50]]]), torch.zeros(1, 1, 4)
    assert detection_loss(maps, nobody, torch.zeros(1, 1)) > 4 > 1 > detection_loss(maps, crowd, -torch.ones(1, 1))


def test_every_weight_learns_and_the_loss_of_one_picture_falls():
    torch.manual_seed(0)
    net = LGMDet(LGMPoseConfig((64, 96))).train()
    x, boxes, kinds = torch.randn(2, 3, 64, 96), torch.tensor([[[8.0, 4, 60, 60]]] * 2), torch.ones(2, 1)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        loss = detection_loss(net(x), boxes, kinds)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
