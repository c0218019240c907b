"""Fixtures of the tests of inference: small weights and synthetic people."""

import json

import pytest
import torch

from lgmpose.data.synthetic import make_synthetic
from lgmpose.inference.export.graph_files import write_graph
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO, LSP
from lgmpose.zoo.cards import SPORTS_WEIGHTS
from lgmpose.zoo.catalogue import create_model, save_weights


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """Random weights for LSP's joints, 64 × 64."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, LGMPose(LGMPoseConfig((64, 64), 14)), LSP, make_codec("dark", (64, 64)))
    return path


@pytest.fixture(scope="session")
def coco_weights(tmp_path_factory):
    """Random weights for COCO's joints, 64 × 96, with a sigma of their own."""
    torch.manual_seed(0)
    net = create_model("lgm-pose-coco-256x192", image_hw=(64, 96))
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_weights(path, net, COCO, make_codec("dark", (64, 96), 1.5), training={"config": {}})
    return path


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """The folder of a small synthetic data set."""
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 12, seed=5, image_hw=(128, 160), progress=False)
    return folder


@pytest.fixture(scope="session")
def shipped_xml(tmp_path_factory):
    """The shipped 8-bit file as OpenVINO's files."""
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    model = onnx.load(SPORTS_WEIGHTS.with_suffix(".onnx"))
    card = json.loads({entry.key: entry.value for entry in model.metadata_props}["lgmpose"])
    del model.metadata_props[:]
    path = tmp_path_factory.mktemp("openvino") / "net.xml"
    write_graph(path, model, card)
    return path
