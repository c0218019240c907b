"""Every name of the catalogue goes through the same code as LGM-Pose: built, saved, loaded, trained, moved, refused."""

import pytest
import torch
from peer_tools import slow

import lgmpose
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.peers import PEERS
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import LSP
from lgmpose.training.recipe import TrainConfig
from lgmpose.training.trainer import train
from lgmpose.zoo.catalogue import at_size, create_model, load_weights, save_weights

LIGHT = ("mobilevit-xxs", "small-hrnet", "lite-hrnet-18", "dite-hrnet-18")


def test_the_catalogue_has_the_names_others_rely_on():
    assert set(PEERS) == {
        "simplebaseline-r50", "mobilenetv2", "shufflenetv2", "hrnet-w32", "small-hrnet", "lite-hrnet-18",
        "lite-hrnet-30", "dite-hrnet-18", "dite-hrnet-30", "pp-tinypose", "rtmpose-t", "rtmpose-s",
        "mobilenetv4-small", "hourglass-8", "cpn-r50", "tokenpose-b", "tokenpose-l-d6", "mobilevit-xxs", "mobilevit-xs",
        "mobilevit-s",
    }  # fmt: skip
    assert set(PEERS) < set(lgmpose.list_models())


@pytest.mark.parametrize("name", slow(LIGHT, ("mobilevit-xxs",)))
def test_weights_come_back_and_move_to_another_size(name, tmp_path):
    torch.manual_seed(0)
    net = create_model(name, num_keypoints=14, image_hw=(64, 96)).eval()
    path = tmp_path / "net.safetensors"
    save_weights(path, net, LSP, make_codec("dark", (64, 96)))
    loaded, _ = load_weights(path)
    assert loaded.config == net.config
    x = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(loaded(x), net(x))
    moved = at_size(loaded, (96, 64))
    assert moved.config.image_hw == (96, 64) and moved(torch.rand(1, 3, 96, 64)).shape == (1, 14, 24, 16)
    with pytest.raises(UserError, match="net.safetensors"):
        create_model("shufflenetv2", num_keypoints=14, image_hw=(64, 96), pretrained=path)


def test_weights_tied_to_the_size_are_refused_at_another():
    with torch.device("meta"):
        net = create_model("tokenpose-b", num_keypoints=3, image_hw=(64, 64))
        with pytest.raises(UserError, match="tokenpose-b.* embed.weight"):
            at_size(net, (128, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite-hrnet-18", "hourglass-8", "rtmpose-t"])
def test_a_peer_trains_through_the_same_command(name, tmp_path):
    make_synthetic(tmp_path / "people", 6, image_hw=(96, 128), progress=False)
    config = TrainConfig(
        data=f"synthetic:{tmp_path / 'people'}", model=name, image_hw=(64, 64), batch_size=4, epochs=1, workers=0,
        device="cpu", ema_decay=0.9, codec="simcc" if name == "rtmpose-t" else "standard",
    )  # fmt: skip
    evaluation = train(config, tmp_path / "run", progress=False)
    assert evaluation is not None
    net, _ = load_weights(tmp_path / "run" / "best.safetensors")
    assert net.config.name == name


def test_without_timm_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"lgmpose\[timm\]"):
        create_model("mobilenetv4-small")


def test_options_of_lgm_pose_are_refused_for_peers():
    with pytest.raises(UserError, match="small-hrnet .*'fusion'"):
        create_model("small-hrnet", fusion="dw1")
