"""Networks by name and weights on disk: they come back as they were, and everything else is refused by name."""

import copy
import dataclasses
import json
import math
import pickle
import random
from pathlib import Path

import pytest
import torch
from peer_tools import slow
from safetensors.torch import save_file

import lgmpose
from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.peers import PeerConfig
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import LSP, Skeleton, skeleton_from_category
from lgmpose.zoo.cards import ExportCard, WeightsCard, check_card, find_weights, read_card, skeleton_of
from lgmpose.zoo.catalogue import (
    DEFAULT_WEIGHTS,
    SHIPPED,
    WEIGHTS_FOLDER,
    at_size,
    codec_of,
    config_from_dict,
    create_model,
    list_models,
    load_weights,
    save_weights,
    weights_hash,
)
from lgmpose.zoo.tensor_files import read_tensors, write_tensors

CUSTOM = Skeleton("hand-3", ("tip_left", "tip_right", "wrist"), ((0, 2), (1, 2)), ((0, 1),), (0.1, 0.1, 0.2), (0, 1, 2))
LGM = "lgm-pose-lspet-128x128"


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = create_model(LGM, image_hw=(64, 96)).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net


@pytest.fixture(scope="module")
def saved(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "net.safetensors"
    save_weights(path, net, LSP, make_codec("udp", (64, 96), 1.5), training={"epochs": 3})
    return path


# Weights come back


def test_weights_come_back_bit_for_bit_with_their_card(net, saved):
    loaded, card = load_weights(saved)
    assert loaded.config == net.config and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), loaded.state_dict().values(), strict=True))
    assert all(p.requires_grad for p in loaded.parameters())
    codec = codec_of(card, (64, 96))
    assert (codec.name, codec.sigma) == ("udp", 1.5) and skeleton_of(card) is LSP
    assert card["training"] == {"epochs": 3} and card["evaluation"] is None
    assert len(weights_hash(saved)) == 12 and weights_hash(saved) == weights_hash(str(saved))


def test_half_precision_halves_the_file_and_keeps_the_function(net, saved, tmp_path):
    small = tmp_path / "half.safetensors"
    save_weights(small, net, CUSTOM, make_codec("dark", (64, 96)), half=True)
    assert small.stat().st_size < 0.55 * saved.stat().st_size
    loaded, card = load_weights(small)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    x = torch.rand(2, 3, 64, 96)
    expected = net(x).detach()
    torch.testing.assert_close(loaded(x), expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    assert skeleton_of(card) == CUSTOM


def test_own_joints_under_a_known_name_stay_what_they_are():
    """A category called "lsp" with fourteen joints in another order: its card must not be read as the package's."""
    own = skeleton_from_category({"name": "lsp", "keypoints": list(reversed(LSP.joint_names))})
    assert own.name == LSP.name
    again = skeleton_of({"skeleton": json.loads(json.dumps(dataclasses.asdict(own)))})
    assert again == own != LSP


@pytest.mark.parametrize("name", [LGM, "lite-hrnet-18"])
def test_loading_uses_and_changes_no_random_numbers(name, tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, create_model(name, image_hw=(64, 96)), LSP, make_codec("dark", (64, 96)))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    net = load_weights(path)[0]
    at_size(net, (64, 64))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", [LGM, "small-hrnet"])
def test_another_size_keeps_the_mode_and_the_original(name):
    net = create_model(name, image_hw=(64, 64), num_keypoints=3)
    for training in (True, False):
        moved = at_size(net.train(training), (32, 64))
        assert moved.training == training and moved.config == net.config.with_(image_hw=(32, 64))
        assert at_size(net, [64, 64]) is net
    with torch.no_grad():
        moved.head.weight += 1
    assert net.head.weight.abs().max() < 0.5, "a copy, not a view"
    with pytest.raises(UserError, match="64 × 40"):
        at_size(net, (64, 40))


def test_pretrained_weights_move_to_another_size(saved):
    moved = create_model(LGM, image_hw=(96, 64), pretrained=saved)
    assert moved.config.image_hw == (96, 64)
    assert moved(torch.zeros(1, 3, 96, 64)).shape == (1, 14, 24, 16)


def test_pretrained_weights_bring_their_activation(tmp_path):
    net = create_model(LGM, image_hw=(64, 96), activation="silu").eval()
    path = tmp_path / "silu.safetensors"
    save_weights(path, net, LSP, make_codec("dark", (64, 96)))
    x = torch.rand(1, 3, 64, 96)
    loaded = create_model(LGM, image_hw=(64, 96), pretrained=path)
    torch.testing.assert_close(loaded(x), net(x), rtol=0, atol=0)
    with pytest.raises(UserError, match="silu.safetensors"):
        create_model(LGM, image_hw=(64, 96), activation="relu6", pretrained=path)


def test_shipped_weights_load_and_are_what_their_name_says():
    for name in SHIPPED:
        net, card = load_weights(WEIGHTS_FOLDER / f"{name}.safetensors")
        assert net.config == create_model(name).config.with_(activation=net.config.activation)
        assert lgmpose.create_model(name, pretrained=True).config == net.config
        skeletons = {"lspet": "lsp-14", "mpii": "mpii-16", "coco": "coco-17"}
        assert card["skeleton"]["name"] == skeletons[name.split("-")[2]]
    with pytest.raises(UserError, match="lgm-pose-coco-384x288.*lgm-pose-lspet"):
        lgmpose.create_model("lgm-pose-coco-384x288", pretrained=True)


def test_a_shipped_file_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = DEFAULT_WEIGHTS.name
    assert find_weights(None) == find_weights(name) == DEFAULT_WEIGHTS
    assert find_weights(f"runs/{name}") == Path("runs", name), "another folder's file is never the shipped one"
    assert find_weights("best.safetensors") == Path("best.safetensors")
    (tmp_path / name).write_bytes(b"mine")
    assert find_weights(name) == Path(name), "a file in the current folder comes first"


# What is not our weights


def test_what_is_not_our_weights_is_refused_by_name(saved, tmp_path):
    whole = saved.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "card.safetensors").write_bytes(whole.replace(b'{\\"kind\\"', b'[\\"kind\\"', 1))
    torch.save({"x": torch.zeros(2)}, tmp_path / "pickle.pth")
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"x": 1}))
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "list.safetensors", metadata={"lgmpose": "[]"})
    for name, message in (
        ("none.safetensors", "no such"), ("cut.safetensors", "not a whole"), ("empty.safetensors", "not a whole"),
        ("card.safetensors", "not a whole"), ("pickle.pth", "pickle"), ("old.pkl", "pickle"),
        ("other.safetensors", "card"), ("list.safetensors", "card"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"{name}: .*{message}"):
            load_weights(tmp_path / name)


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path):
    """The first two bytes are the length's lowest: 0x…0280 is as good a length as any."""
    path, starts = tmp_path / "net.safetensors", set()
    for filler in range(0, 1000, 8):  # lengths are multiples of 8
        write_tensors(path, {"x": torch.ones(2)}, {"kind": "weights", "filler": filler * "x"})
        starts.add(path.read_bytes()[:2])
        assert read_tensors(path)[1]["filler"] == filler * "x"
    assert b"\x80\x02" in starts and b"\x80\x03" in starts


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    (tmp_path / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="pickle"):
        load_weights(tmp_path / "trap.safetensors")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("wanted", [13, 15, 17])
def test_weights_of_another_number_of_keypoints_are_refused(saved, wanted):
    with pytest.raises(UserError, match=f"14 .*{wanted}"):
        load_weights(saved, num_keypoints=wanted)
    assert load_weights(saved, num_keypoints=14)
    with pytest.raises(UserError, match=f"14 .*{wanted}"):
        create_model(LGM, num_keypoints=wanted, pretrained=saved)


def test_weights_of_another_network_are_refused(saved, tmp_path):
    with pytest.raises(UserError, match="net.safetensors"):
        create_model(LGM, image_hw=(64, 96), fusion="dw2", pretrained=saved)
    tensors, card = read_tensors(saved)
    write_tensors(tmp_path / "a.safetensors", tensors | {"head.weight": torch.zeros(17, 100, 1, 1)}, card)
    with pytest.raises(UserError, match=r"head.weight is \(17, 100, 1, 1\).*\(14, 100, 1, 1\)"):
        load_weights(tmp_path / "a.safetensors")
    del tensors["head.bias"]
    write_tensors(tmp_path / "b.safetensors", tensors, card)
    with pytest.raises(UserError, match="head.bias; 1 "):
        load_weights(tmp_path / "b.safetensors")
    write_tensors(tmp_path / "c.safetensors", tensors | {"more": torch.zeros(1)}, card)
    with pytest.raises(UserError, match="head.bias; 2 "):
        load_weights(tmp_path / "c.safetensors")


def test_configs_come_back_from_json():
    for config in (create_model(LGM, larm="identity").config, PeerConfig("tokenpose-b", (64, 32), 3)):
        assert config_from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    for values in ({"name": "hrnet-w99"}, {"name": "hrnet-w32", "gates": 3}, {"gates": 3}, {"stages": 3},
                   {"image_hw": [60, 64]}, {"num_keypoints": "14"}, {"name": ["hrnet-w32"]}):  # fmt: skip
        with pytest.raises(ValueError, match="gates|stages|60 × 64|num_keypoints|name|hrnet-w99"):
            config_from_dict(values)


BAD_VALUES = (None, True, -1, 0, 3, 10**9, 0.5, float("nan"), "x", [], {}, [[1, 2]], "lsp-14")


def places(value, path=()):
    """Every place in a card: the paths to all its values."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(card, path, value):
    card = copy.deepcopy(card)
    place = card
    for key in path[:-1]:
        place = place[key]
    if value == "removed":
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return card


def test_weights_that_are_not_finite_are_refused(saved, tmp_path):
    """Of a training that diverged, or that became infinite as fp16. The figures would be 0 without a word."""
    tensors, card = read_tensors(saved)
    for value in (math.nan, -math.inf):
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        tensors[name].flatten()[-1] = value
        write_tensors(tmp_path / "spoilt.safetensors", tensors, card)
        with pytest.raises(UserError, match=f"spoilt.safetensors: {name} .*NaN"):
            load_weights(tmp_path / "spoilt.safetensors")


@pytest.mark.parametrize("kind", [pytest.param("weights", marks=pytest.mark.slow), "export"])
def test_a_damaged_card_is_read_or_refused(saved, tmp_path, kind):
    """Single changes of a card: a result or the one error, no traceback; and nothing hangs or fills the memory."""
    tensors, card = read_tensors(saved)
    if kind == "export":
        card |= {"kind": "export", "version": 1, "precision": "fp32", "image_hw": [64, 96], "mean": [0.5] * 3,
                 "std": [0.2] * 3}  # fmt: skip
        assert read_card("net.onnx", json.dumps(card)) == card
    generator, path, refused = random.Random(0), tmp_path / "x.safetensors", 0
    cases = [(place, value) for place in places(card) for value in (*BAD_VALUES, "removed")]
    for place, value in generator.sample(cases, 70):
        other = changed(card, place, value)
        try:
            if kind == "weights":
                write_tensors(path, tensors, other)
                codec_of(load_weights(path)[1], (64, 96))
            else:
                codec_of(read_card("net.onnx", json.dumps(other)), (64, 96))
            skeleton_of(other)
        except UserError as error:
            assert str(error).startswith(("net.onnx: ", f"{path}: "))
            refused += 1
    assert refused > 20
    for codec in ({"name": "dark", "sigma": -1}, {"name": "dark", "sigma": 0}, {"name": "argmax", "sigma": 2}):
        with pytest.raises(UserError, match="net.onnx: .*codec"):
            check_card(card | {"codec": codec}, WeightsCard if kind == "weights" else ExportCard, "net.onnx")
    for sigma, read in ((0.01, True), (100, True), (100.5, False), (1000, False)):
        other = json.dumps(card | {"codec": {"name": "dark", "sigma": sigma}})
        if read:
            read_back = read_card("net.onnx", other) if kind == "export" else json.loads(other)
            assert codec_of(read_back, (64, 96)).sigma == sigma
        else:
            with pytest.raises(UserError, match="net.onnx: .*codec"):
                check_card(json.loads(other), WeightsCard if kind == "weights" else ExportCard, "net.onnx")
    for text in (None, "", "{", "[1]", '"x"', "\ud800"):
        with pytest.raises(UserError, match="net.onnx"):
            read_card("net.onnx", text)


# Names


@pytest.mark.parametrize("name, near", [
    ("hrnet-w23", "hrnet-w32"), ("HRNet-W32", "hrnet-w32"), ("lite_hrnet_18", "lite-hrnet-18"),
    ("simplebaseline", "simplebaseline-r50"), ("lgm-pose-256x192", "lgm-pose-coco-256x192"), ("efficientnet", "--list"),
])  # fmt: skip
def test_an_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(UserError, match=f"'{name}'.*{near}"):
        create_model(name)


def test_an_unknown_option_is_named():
    with pytest.raises(UserError, match="lgm-pose-coco-256x192 .*'colour'"):
        create_model("lgm-pose-coco-256x192", colour="red")
    with pytest.raises(UserError, match="hrnet-w32 .*'fusion'"):
        create_model("hrnet-w32", fusion="dw1")


QUICK = (LGM, "shufflenetv2", "small-hrnet", "mobilevit-xxs")


@pytest.mark.parametrize("name", slow(list_models(), QUICK))
def test_every_network_says_which_sizes_it_takes(name):
    with torch.device("meta"):
        for image_hw in ((100, 100), (64, 48), (0, 64), (-32, 64), (1, 1), (16, 16)):
            with pytest.raises(UserError, match=f"^model {name}: .*{image_hw[0]} × {image_hw[1]}.* 32"):
                create_model(name, image_hw=image_hw)
        for image_hw in ((64,), (64, 64, 64), (64.0, 64), "64", None):
            with pytest.raises(UserError, match="image_hw"):
                create_model(name, image_hw=image_hw)
        if name == "hourglass-8":
            with pytest.raises(UserError, match="32 × 32.* 64"):
                create_model(name, image_hw=(32, 32))
        size = 64 if name == "hourglass-8" else 32
        net = create_model(name, image_hw=(size, size), num_keypoints=3).eval()
        assert net.config.image_hw == (size, size) and net.config.num_keypoints == 3
        more_of_the_same = ("-w32", "-r50", "-30", "-d6", "-s", "-xs", "-384x288", "-256x256")
        if not name.endswith(more_of_the_same):
            of_joint = (4 * size,) if net.config.head == "simcc" else (size // 4, size // 4)
            assert net(torch.empty(1, 3, size, size)).shape == (1, 3, *of_joint)


def test_a_refused_size_is_one_line_on_the_command_line(capsys):
    assert main(["profile", "--model", "lite-hrnet-18", "--image-hw", "100", "100"]) == 2
    captured = capsys.readouterr()
    assert "lite-hrnet-18" in captured.err and "100 × 100" in captured.err
    assert captured.err.count("\n") == 1 and not captured.out
