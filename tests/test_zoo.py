"""Weights on disk: they come back as they were, and everything that is not them is refused by name."""

import pickle

import pytest
import torch

import lgmpose
from lgmpose.cli import main
from lgmpose.codecs import make_codec
from lgmpose.errors import UserError
from lgmpose.skeletons import LSP, Skeleton
from lgmpose.weights_io import read_tensors, write_tensors
from lgmpose.zoo import DEFAULT_WEIGHTS, codec_of, create_model, load_weights, save_weights, skeleton_of

CUSTOM = Skeleton("hand-3", ("tip_left", "tip_right", "wrist"), ((0, 2), (1, 2)), ((0, 1),), (0.1, 0.1, 0.2), (0, 1, 2))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = create_model("lgm-pose-lspet-128x128", image_hw=(64, 96)).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net


@pytest.fixture
def saved(net, tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(path, net, LSP, make_codec("udp", (64, 96), 1.5))
    return path


def test_weights_come_back_bit_for_bit_with_codec_and_skeleton(net, saved):
    loaded, card = load_weights(saved)
    assert loaded.config == net.config and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), loaded.state_dict().values(), strict=True))
    codec = codec_of(card, (64, 96))
    assert (codec.name, codec.sigma) == ("udp", 1.5) and skeleton_of(card) is LSP


def test_half_precision_halves_the_file_and_keeps_the_function(net, saved, tmp_path):
    small = tmp_path / "half.safetensors"
    save_weights(small, net, CUSTOM, make_codec("dark", (64, 96)), half=True)
    assert small.stat().st_size < 0.55 * saved.stat().st_size
    loaded, card = load_weights(small)
    x = torch.rand(2, 3, 64, 96)
    expected = net(x).detach()
    torch.testing.assert_close(loaded(x), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    assert skeleton_of(card) == CUSTOM


def test_what_is_not_our_weights_is_refused_by_name(saved, tmp_path):
    whole = saved.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save({"x": torch.zeros(2)}, tmp_path / "pickle.pth")
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"x": 1}))
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    write_tensors(tmp_path / "checkpoint.safetensors", {"x": torch.zeros(2)}, {"kind": "checkpoint"})
    for name, message in (
        ("none.safetensors", "no such weights file"),
        ("cut.safetensors", "not a whole safetensors file"),
        ("empty.safetensors", "not a whole safetensors file"),
        ("pickle.pth", "pickle"),
        ("old.pkl", "pickle"),
        ("other.safetensors", "no model card"),
        ("checkpoint.safetensors", "use the best.safetensors"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{message}"):
            load_weights(tmp_path / name)


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    (tmp_path / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="never loaded"):
        load_weights(tmp_path / "trap.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_k_or_network_are_refused(net, saved, tmp_path):
    with pytest.raises(UserError, match="14 keypoints; 17 are needed"):
        load_weights(saved, num_keypoints=17)
    with pytest.raises(UserError, match="14 keypoints; 17 are needed"):
        create_model("lgm-pose-coco-256x192", pretrained=saved)
    with pytest.raises(UserError, match="another network"):
        create_model("lgm-pose-lspet-128x128", image_hw=(64, 96), fusion="dw2", pretrained=saved)
    tensors, card = read_tensors(saved)
    write_tensors(tmp_path / "a.safetensors", tensors | {"head.weight": torch.zeros(17, 100, 1, 1)}, card)
    with pytest.raises(UserError, match=r"head.weight is \(17, 100, 1, 1\), the network needs \(14, 100, 1, 1\)"):
        load_weights(tmp_path / "a.safetensors")
    del tensors["head.bias"]
    write_tensors(tmp_path / "b.safetensors", tensors, card)
    with pytest.raises(UserError, match=r"lacks head.bias; 1 names differ"):
        load_weights(tmp_path / "b.safetensors")


def test_pretrained_weights_move_to_another_size(saved):
    moved = create_model("lgm-pose-lspet-128x128", image_hw=(96, 64), pretrained=saved)
    assert moved.config.image_hw == (96, 64)
    assert moved(torch.zeros(1, 3, 96, 64)).shape == (1, 14, 24, 16)


def test_shipped_weights_load_and_are_what_their_name_says():
    net, card = load_weights(DEFAULT_WEIGHTS)
    assert net.config == create_model("lgm-pose-lspet-128x128").config
    assert lgmpose.create_model("lgm-pose-lspet-128x128", pretrained=True).config == net.config
    assert card["skeleton"]["name"] == "lsp-14" and card["training"]["persons"] == "lspet-train"
    with pytest.raises(UserError, match="no weights of lgm-pose-coco-256x192 ship"):
        lgmpose.create_model("lgm-pose-coco-256x192", pretrained=True)


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(UserError, match="no model 'resnet'; there are lgm-pose-coco-256x192"):
        create_model("resnet")
    with pytest.raises(UserError, match="no option 'colour'"):
        create_model("lgm-pose-coco-256x192", colour="red")
    assert main(["profile", "--model", "resnet"]) == 2
