"""Weights on disk: they come back as they were, and everything that is not them is refused by name."""

import pickle
from pathlib import Path

import pytest
import torch

import lgmpose
from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import LSP, Skeleton
from lgmpose.zoo.cards import find_weights
from lgmpose.zoo.catalogue import (
    DEFAULT_WEIGHTS,
    codec_of,
    create_model,
    list_models,
    load_weights,
    save_weights,
    skeleton_of,
)
from lgmpose.zoo.tensor_files import read_tensors, write_tensors

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


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path):
    """The first two bytes are the length's lowest: 0x…0280 is as good a length as any."""
    path, starts = tmp_path / "net.safetensors", set()
    for filler in range(0, 2000, 8):  # lengths are multiples of 8
        write_tensors(path, {"x": torch.ones(2)}, {"kind": "weights", "filler": filler * "x"})
        starts.add(path.read_bytes()[:2])
        assert read_tensors(path)[1]["filler"] == filler * "x"
    assert b"\x80\x02" in starts and b"\x80\x03" in starts


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


def test_pretrained_weights_bring_their_activation(tmp_path):
    net = create_model("lgm-pose-lspet-128x128", image_hw=(64, 96), activation="silu").eval()
    path = tmp_path / "silu.safetensors"
    save_weights(path, net, LSP, make_codec("dark", (64, 96)))
    x = torch.rand(1, 3, 64, 96)
    loaded = create_model("lgm-pose-lspet-128x128", image_hw=(64, 96), pretrained=path)
    torch.testing.assert_close(loaded(x), net(x), rtol=0, atol=0)
    with pytest.raises(UserError, match="another network"):
        create_model("lgm-pose-lspet-128x128", image_hw=(64, 96), activation="relu6", pretrained=path)


def test_shipped_weights_load_and_are_what_their_name_says():
    net, card = load_weights(DEFAULT_WEIGHTS)
    assert net.config == create_model("lgm-pose-lspet-128x128").config.with_(activation=net.config.activation)
    assert lgmpose.create_model("lgm-pose-lspet-128x128", pretrained=True).config == net.config
    assert card["skeleton"]["name"] == "lsp-14" and card["training"]["persons"] == "lspet-train"
    with pytest.raises(UserError, match="no weights of lgm-pose-coco-256x192 ship"):
        lgmpose.create_model("lgm-pose-coco-256x192", pretrained=True)


def test_a_shipped_file_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = DEFAULT_WEIGHTS.name
    assert find_weights(None) == find_weights(name) == DEFAULT_WEIGHTS
    assert find_weights(f"runs/{name}") == Path("runs", name), "another folder's file is never the shipped one"
    assert find_weights("best.safetensors") == Path("best.safetensors")
    (tmp_path / name).write_bytes(b"mine")
    assert find_weights(name) == Path(name), "a file that lies here comes first"


@pytest.mark.parametrize("name, near", [
    ("hrnet-w23", "hrnet-w32"), ("HRNet-W32", "hrnet-w32"), ("lite_hrnet_18", "lite-hrnet-18"),
    ("simplebaseline", "simplebaseline-r50"), ("lgm-pose-256x192", "lgm-pose-coco-256x192"),
])  # fmt: skip
def test_an_unknown_name_suggests_the_nearest(name, near, capsys):
    with pytest.raises(UserError, match=f"no model '{name}'; did you mean {near}\\?$"):
        create_model(name)
    assert main(["profile", "--model", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_name_like_none_is_sent_to_the_list():
    with pytest.raises(UserError, match="no model 'efficientnet'; `lgmpose profile --list` names those there are$"):
        create_model("efficientnet")
    with pytest.raises(UserError, match="no option 'colour'"):
        create_model("lgm-pose-coco-256x192", colour="red")


@pytest.mark.parametrize("name", list_models())
def test_every_network_says_which_sizes_it_takes(name):
    with torch.device("meta"):
        for image_hw in ((100, 100), (64, 48), (0, 64), (-32, 64), (1, 1), (16, 16)):
            with pytest.raises(UserError, match=f"{image_hw[0]} × {image_hw[1]}") as caught:
                create_model(name, image_hw=image_hw)
            assert "multiples of 32" in str(caught.value) and "\n" not in str(caught.value)
            assert str(caught.value).startswith(f"model {name}: ")
        for image_hw in ((64,), (64, 64, 64), (64.0, 64), "64", None):
            with pytest.raises(UserError, match="give two whole numbers, height and width"):
                create_model(name, image_hw=image_hw)
        if name == "hourglass-8":
            with pytest.raises(UserError, match="32 × 32.* 64"):
                create_model(name, image_hw=(32, 32))
        elif not name.endswith("-30"):  # which are -18 with more of the same; others take the smallest indeed
            net = create_model(name, image_hw=(32, 32), num_keypoints=3).eval()
            assert net(torch.empty(1, 3, 32, 32)).shape == (1, 3, 8, 8)


def test_profile_refuses_a_size_in_one_line(capsys):
    assert main(["profile", "--model", "lite-hrnet-18", "--image-hw", "100", "100"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: model lite-hrnet-18") and "multiples of 32" in captured.err
    assert captured.err.count("\n") == 1 and not captured.out


def test_weights_of_a_network_of_the_future_are_refused(saved, tmp_path):
    tensors, card = read_tensors(saved)
    write_tensors(tmp_path / "x.safetensors", tensors, card | {"network": {"name": "hrnet-w99"}})
    with pytest.raises(UserError, match="x.safetensors: weights of a network 'hrnet-w99'"):
        load_weights(tmp_path / "x.safetensors")


def test_weights_with_settings_of_the_future_are_refused(saved, tmp_path):
    tensors, card = read_tensors(saved)
    for network in ({**card["network"], "gates": 3}, {"num_keypoints": 14}, {"name": "hrnet-w32", "gates": 3}):
        write_tensors(tmp_path / "x.safetensors", tensors, card | {"network": network})
        with pytest.raises(UserError, match="x.safetensors: settings that this version does not have"):
            load_weights(tmp_path / "x.safetensors")
