"""The live page (docs/live): its networks equal LGM-Pose, its code equals Python's, and it works in a browser.

The slow tests need Node.js, the page's npm packages (`make live` installs them), Chromium and Playwright.
"""

from __future__ import annotations

import csv
import functools
import http.server
import importlib.util
import io
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lgmpose.inference import detectors, predictor
from lgmpose.inference.video import VideoWriter
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.pose import codecs, geometry, persons

ROOT = Path(__file__).resolve().parents[2]
LIVE = ROOT / "docs" / "live"
SRC = LIVE / "src"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

models_spec = importlib.util.spec_from_file_location("live_models", LIVE / "models.py")
models = importlib.util.module_from_spec(models_spec)
models_spec.loader.exec_module(models)
GlassBox, SWITCHES, output_names = models.GlassBox, models.SWITCHES, models.output_names

# The networks


@pytest.fixture(scope="module")
def trained() -> LGMPose:
    """A network in float64 for small crops whose BatchNorms have statistics, so that folding counts."""
    torch.manual_seed(0)
    net = LGMPose(LGMPoseConfig((64, 96), 5))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net.double().eval()


def glass(net: LGMPose, **off: float) -> dict[str, torch.Tensor]:
    images = torch.randn(2, 3, *net.config.image_hw, generator=torch.Generator().manual_seed(1)).double()
    switches = [torch.tensor(off.get(name, 1.0)).double() for name in SWITCHES]
    with torch.inference_mode():
        return {"images": images, **dict(zip(output_names(), GlassBox(net)(images, *switches), strict=True))}


def rebuilt(net: LGMPose, **changes) -> LGMPose:
    other = LGMPose(net.config.with_(**changes)).double().eval()
    other.load_state_dict(net.state_dict(), strict=False)
    return other


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_the_glass_box_computes_what_the_network_computes(trained):
    found = glass(trained)
    with torch.inference_mode():
        close(found["heatmaps"], trained(found["images"]))
        for i, stage in enumerate(trained.forward_features(found["images"]), start=1):
            close(found[f"stage{i}"], stage)
        block = trained.stages[2][-1]
        close(block.larm(found["larm3_in"]), found["larm3_out"])
        decoder, encoder = found["fusion8_decoder"], found["fusion8_encoder"]
        close(trained.fusions[1](decoder, encoder), found["fusion8_out"])


@pytest.mark.parametrize(("switch", "change"), [("larm", {"larm": "identity"}), ("residual", {"larm_residual": False})])
def test_a_switch_gives_the_network_without_that_part(trained, switch, change):
    found = glass(trained, **{switch: 0.0})
    with torch.inference_mode():
        close(found["heatmaps"], rebuilt(trained, **change)(found["images"]))
        assert (found["heatmaps"] - trained(found["images"])).abs().max() > 1e-5, "the part matters in this network"


def test_the_fusion_switch_takes_the_encoders_maps_away(trained):
    found = glass(trained, encoder=0.0)
    with torch.inference_mode():
        *skips, deepest = trained.forward_features(found["images"])
        close(found["heatmaps"], trained.forward_head([*(torch.zeros_like(skip) for skip in skips), deepest]))
    assert not found["fusion4_from_encoder"].any() and found["fusion4_from_decoder"].any()


# The page's code, without running it


def constant(file: str, name: str) -> float:
    (value,) = re.findall(rf"\b{name} = ([\d.e-]+)[,;]", (SRC / file).read_text(encoding="utf-8"))
    return float(value)


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("crop.js", "PADDING", geometry.PADDING),
        ("crop.js", "BOX_MARGIN", geometry.BOX_MARGIN),
        ("decode.js", "STRIDE", codecs.STRIDE),
        ("decode.js", "SMALLEST", codecs.SMALLEST),
        ("pose.js", "LOOKS", predictor.LOOKS),
        ("pose.js", "THRESHOLD", persons.JOINT_SCORE_THRESHOLD),
        ("pose.js", "SAME_PERSON", persons.OKS_NMS_THRESHOLD),
        ("detector.js", "MIN_SCORE", predictor.MIN_BOX_SCORE),
        ("detector.js", "NMS_IOU", detectors.NMS_IOU),
    ],
)
def test_the_page_has_the_packages_constants(file, name, value):
    assert constant(file, name) == value


def test_the_page_links_to_lessons_that_exist_and_names_no_other_address():
    html = (LIVE / "index.html").read_text(encoding="utf-8")
    lessons = {Path(link).stem for link in re.findall(r'href="\.\./notebooks/([^"]+)"', html)}
    assert {lesson[:2] for lesson in lessons} >= {"01", "06", "07", "12", "13"}
    assert all((ROOT / "notebooks" / f"{lesson}.ipynb").is_file() for lesson in lessons)
    assert "Content-Security-Policy" in html
    assert [file.name for file in [LIVE / "index.html", *SRC.glob("*.js")] if "://" in file.read_text("utf-8")] == []


def test_the_page_without_node_says_how_to_build_it():
    text = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    assert "<!-- LIVE_LINK -->" in text and "make live" in text
    assert json.loads((LIVE / "package-lock.json").read_text())["packages"]["node_modules/onnxruntime-web"]["integrity"]


# The decoders, run by Node.js


def node(script: str, *arguments: str) -> str:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    command = ["node", "--input-type=module", "-e", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
def test_decoders_agree_with_python(tmp_path):
    rng = np.random.default_rng(3)
    centres = rng.uniform(-2, [26, 34], (40, 2)) * 4  # some beyond the border of maps of 32 × 24
    codec = codecs.DarkCodec((128, 96), 2.0)
    maps = codec.encode(centres[None], np.ones((1, 40)))[0] + 0.05 * rng.random((1, 40, 32, 24), dtype=np.float32)
    maps[0, 38], maps[0, 39] = 0, maps[0, 39] * (maps[0, 39] > 0.8)  # nothing found; a peak with zeros around it
    file = tmp_path / "maps.json"
    file.write_text(json.dumps(maps.ravel().tolist()))
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ decode }} from "{(SRC / "decode.js").as_uri()}";
        const maps = new Float32Array(JSON.parse(readFileSync("{file.as_posix()}")));
        const found = ["argmax", "quarter", "dark"].map((name) => decode(maps, [40, 32, 24], name, 2).points);
        console.log(JSON.stringify(found));
    """
    argmax, quarter, dark = np.array(json.loads(node(script)))
    np.testing.assert_allclose(quarter, codecs.StandardCodec((128, 96)).decode(maps)[0][0], atol=1e-3)
    np.testing.assert_allclose(dark, codec.decode(maps)[0][0], atol=1e-3)
    assert np.abs(argmax - dark).max() > 0.5 and (argmax % 4 == 0).all()


@pytest.mark.slow
def test_poses_of_one_person_are_merged_as_in_python():
    rng, sigmas = np.random.default_rng(0), [0.1] * 14
    xy = np.repeat(rng.uniform(0, 200, (8, 14, 2)), 3, axis=0)
    xy += rng.uniform(0, 30, (24, 1, 1)) * rng.standard_normal((24, 14, 2))  # from nearly the same to far
    scores, boxes = rng.random(24), rng.uniform(100, 200, (24, 2))
    kept = persons.oks_nms(xy, scores, (1.25 * boxes.max(axis=1)) ** 2, sigmas)
    assert 8 < len(kept) < 24
    poses = [{"score": s, "keypoints": p, "box_xywh": [0, 0, *b]}
             for s, p, b in zip(scores.tolist(), xy.tolist(), boxes.tolist(), strict=True)]  # fmt: skip
    script = f"""
        globalThis.PAGE = {{ card: {{ skeleton: {{ oks_sigmas: {sigmas} }} }} }};
        const {{ eachOnce }} = await import("{(SRC / "pose.js").as_uri()}");
        console.log(JSON.stringify(eachOnce({json.dumps(poses)}).map(({{ score }}) => score)));
    """
    assert json.loads(node(script)) == scores[kept].tolist()


# The page in a browser


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The page as `make live` builds it. The networks are exported once for each state of weights and script."""
    if not (LIVE / "node_modules").is_dir() or shutil.which("node") is None:
        pytest.skip("docs/live/node_modules is missing: `make live` installs it")
    files, out = ROOT / "build" / "live-files", tmp_path_factory.mktemp("live")
    models.write_files(files)
    subprocess.run(["node", str(LIVE / "build.mjs"), str(files), str(out)], check=True, cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def address(built):
    """The page on a web server of this machine, with the headers that allow threads."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(built)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, whose webcam shows a film of the drawn figure."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("Playwright is not installed: pip install -e '.[live]'")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium on this system")
    from playwright.sync_api import sync_playwright

    film = tmp_path_factory.mktemp("film") / "camera.y4m"
    film.write_bytes(y4m(drawn_figure()))
    camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    options = [*camera, f"--use-file-for-fake-video-capture={film}", "--no-sandbox"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


def drawn_figure() -> np.ndarray:
    from lgmpose.data.synthetic.scene import draw_scene

    return draw_scene(np.random.default_rng(28), (300, 240), max_people=1)[0]


def y4m(picture: np.ndarray, frames: int = 10) -> bytes:
    import cv2

    height, width = picture.shape[:2]
    frame = b"FRAME\n" + cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes()
    return f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420\n".encode() + frames * frame


class Opened:
    """A page that is open, with what it asked for and what went wrong."""

    def __init__(self, browser, address: str, **context):
        self.context = browser.new_context(**context)
        self.page, self.requests, self.problems = self.context.new_page(), [], []
        self.page.set_default_timeout(180_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("#facts dd")

    def idle(self) -> None:
        """Wait until the picture is analysed."""
        self.until("!lgmLive.isBusy()")

    def until(self, condition: str) -> None:
        # Playwright's own wait_for_function evaluates text, which the page's security policy forbids.
        for _ in range(1800):
            if self.page.evaluate(condition):
                return
            time.sleep(0.1)
        raise TimeoutError(condition)

    def outputs(self, *names: str) -> list[np.ndarray]:
        found = self.page.evaluate(
            "names => names.map(name => { const { data, dims } = lgmLive.state.people[0].outputs[name];"
            " return [Array.from(data), dims] })",
            names,
        )
        return [np.array(data, np.float32).reshape(dims) for data, dims in found]

    def people(self) -> list[dict]:
        return self.page.evaluate("lgmLive.state.people.map(({ keypoints, box_xywh }) => ({ keypoints, box_xywh }))")

    def choose(self, selector: str) -> None:
        self.page.click(selector)
        self.idle()

    def download(self, button: str) -> str:
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_text(encoding="utf-8")


@pytest.fixture
def opened(browser, address):
    """The page with the drawn figure. Afterwards: it asked only for its own files, and reported no error."""
    page = Opened(browser, address)
    page.idle()
    yield page
    strangers = [url for url in page.requests if not url.startswith((address, "data:", "blob:"))]
    page.context.close()
    assert strangers == [] and page.problems == []


@pytest.fixture(scope="module")
def python_predictor():
    from lgmpose import Predictor
    from lgmpose.zoo.catalogue import SPORTS_WEIGHTS

    return Predictor(SPORTS_WEIGHTS, detector="none", flip_test=False)


def same_joints(person: dict, pose, atol: float = 1e-3) -> None:
    found = np.array(person["keypoints"])
    np.testing.assert_allclose(found[:, 2], pose.scores, atol=atol)
    np.testing.assert_allclose(found[:, :2], pose.keypoints_xy, atol=atol)


@pytest.mark.slow
def test_pictures_give_the_joints_of_python(opened, built, python_predictor):
    import skimage.data

    pictures = json.loads((ROOT / "build" / "live-files" / "page.json").read_text())["pictures"]
    same_joints(opened.people()[0], python_predictor(drawn_figure(), boxes=[pictures[0]["box"]])[0])
    opened.page.select_option("#detector", "none")
    opened.page.focus("#view")
    opened.page.keyboard.press("Escape")  # the whole picture, three looks: each one adds to differences of rounding
    opened.idle()
    same_joints(opened.people()[0], python_predictor(drawn_figure())[0], atol=0.05)
    opened.choose("#sources button >> nth=1")
    opened.until("lgmLive.state.name === 'astronaut.png'")
    opened.idle()
    same_joints(opened.people()[0], python_predictor(skimage.data.astronaut(), boxes=[pictures[1]["box"]])[0])
    small = skimage.data.astronaut()[::2, ::3]
    opened.page.set_input_files("#file", {"name": "small.png", "mimeType": "image/png", "buffer": png(small)})
    opened.until("lgmLive.state.name === 'small.png'")
    opened.idle()
    (person,) = opened.people()
    same_joints(person, python_predictor(small, boxes=[person["box_xywh"]])[0], atol=0.05)


def png(picture: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


@pytest.mark.slow
def test_inner_maps_and_switches_agree_with_python(opened, python_predictor):
    from lgmpose.data.images import normalise
    from lgmpose.zoo.catalogue import SPORTS_WEIGHTS, load_weights

    box = opened.page.evaluate("lgmLive.state.box")
    crop, _ = python_predictor.heatmaps(drawn_figure(), box)
    images = torch.from_numpy(normalise(crop[None]))
    net = GlassBox(load_weights(SPORTS_WEIGHTS)[0])
    for off in (None, *SWITCHES):
        if off:
            opened.choose(f"#{off}")
        with torch.inference_mode():
            expected = net(images, *(torch.tensor(float(name != off)) for name in SWITCHES))
        for name, ours, theirs in zip(output_names(), opened.outputs(*output_names()), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-3, rtol=1e-3, err_msg=f"{name} without {off}")
        if off:
            opened.choose(f"#{off}")


@pytest.mark.slow
def test_eight_bits_and_another_size(opened):
    before = np.array(opened.people()[0]["keypoints"])
    opened.choose('input[value="int8-128"]')
    eight_bits = np.array(opened.people()[0]["keypoints"])
    assert 0 < np.abs(eight_bits - before)[:, 2].max() < 0.1
    assert opened.page.is_hidden("#maps-and-reach") and opened.page.inner_text("#inside-note")
    opened.choose('input[value="glass-192"]')
    assert opened.outputs("heatmaps", "stage3")[1].shape == (1, 48, 24, 24)


@pytest.mark.slow
def test_larm_reaches_further_than_convolutions(opened):
    opened.page.click("#measure")
    opened.until("document.getElementById('progress').value === 130")
    opened.until("!document.getElementById('measure').disabled")
    texts = [opened.page.inner_text(f"#reach-{state}-text") for state in ("on", "off")]
    with_larm, without = (int(text.split()[0]) for text in texts)
    assert with_larm == 64 and 9 <= without <= 25  # 51 pixels of 128: the receptive field of stage 3's convolutions


@pytest.mark.slow
def test_downloads_hold_what_lgmpose_predict_writes(opened):
    from lgmpose.inference.formats import CSV_COLUMNS

    content = json.loads(opened.download("#json"))
    assert content["image_hw"] == [300, 240] and content["image"] == "drawn.png"
    (person,) = content["people"]
    np.testing.assert_allclose(np.array(person["keypoints"]), np.array(opened.people()[0]["keypoints"]), atol=0.006)
    text = opened.download("#csv")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert tuple(rows[0]) == CSV_COLUMNS and len(rows) == 14
    assert rows[3]["joint"] == "left_hip" and float(rows[3]["x"]) == person["keypoints"][3][0]


@pytest.mark.slow
def test_webcam_and_video(opened, tmp_path):
    opened.page.click("#camera")
    opened.until("lgmLive.state.frames?.length > 3")
    assert "WebAssembly" in opened.page.inner_text("#facts") and "frames per second" in opened.page.inner_text("#facts")
    frames = json.loads(opened.download("#json"))["frames"]
    assert len(frames) > 3 and frames[-1]["people"][0]["score"] > 0.4
    opened.choose("#pause")
    opened.until("lgmLive.state.frames === null && !lgmLive.isBusy() && 'stage3' in lgmLive.state.people[0].outputs")

    with VideoWriter(tmp_path / "clip.mp4", (300, 240), 10) as writer:
        for i in range(10):
            writer.write(drawn_figure(), i / 10)
    opened.page.set_input_files("#file", str(tmp_path / "clip.mp4"))
    opened.until("lgmLive.state.name === 'clip.mp4' && lgmLive.state.frames?.length > 2")
    opened.page.click("#stop")
    assert opened.page.evaluate("lgmLive.state.frames") is None


@pytest.mark.slow
def test_lgm_det_finds_people_as_in_python(opened):
    import cv2
    import skimage.data

    photo = cv2.resize(skimage.data.astronaut(), (320, 320), interpolation=cv2.INTER_AREA)  # as large as its input
    opened.page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": png(photo)})
    opened.until("lgmLive.state.name === 'photo.png' && !lgmLive.isBusy()")
    boxes = [person["box_xywh"] for person in opened.people()]
    expected, scores = detectors.open_detector("lgm-det").detect(photo)
    assert len(boxes) > 0
    np.testing.assert_allclose(sorted(boxes), sorted(expected[scores >= predictor.MIN_BOX_SCORE].tolist()), atol=0.1)


@pytest.mark.slow
def test_a_detector_file_finds_several_people(opened, tmp_path):
    opened.page.set_input_files("#detector-file", str(yolox_file(tmp_path / "detector.onnx")))
    opened.until("lgmLive.state.people.length === 2")
    boxes = [person["box_xywh"] for person in opened.people()]
    expected, scores = detectors.OnnxDetector(tmp_path / "detector.onnx").detect(drawn_figure())
    np.testing.assert_allclose(sorted(boxes), sorted(expected[scores >= predictor.MIN_BOX_SCORE].tolist()), atol=1e-3)


def yolox_file(path: Path) -> Path:
    """Write a "detector" with YOLOX's head that always finds two people, one of them twice."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows = np.zeros((1, 64 + 16 + 4, 6), np.float32)  # input 64 × 64, strides 8, 16, 32
    for row, (cx, cy, score) in {20: (0.5, 0.2, 0.9), 21: (-0.5, 0.2, 0.8), 70: (0.1, 0.3, 0.7)}.items():
        rows[0, row] = cx, cy, 1.0, 1.2, score, 1.0
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["boxes"]),
    ]
    constants = [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.float32(0), "zero")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("images", [1, 3, 64, 64]), ("boxes", list(rows.shape)))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.slow
def test_a_box_is_drawn_with_the_pointer_and_a_wrong_file_is_named(opened):
    page, frame = opened.page, opened.page.locator("#view").bounding_box()
    page.mouse.move(frame["x"] + 0.1 * frame["width"], frame["y"] + 0.2 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.9 * frame["width"], frame["y"] + 0.7 * frame["height"])
    page.mouse.up()
    opened.idle()
    np.testing.assert_allclose(opened.people()[0]["box_xywh"], [24, 60, 192, 150], atol=1)
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    page.wait_for_selector("#status.error")
    assert "notes.txt" in page.inner_text("#status")


@pytest.mark.slow
def test_threads_on_an_isolated_page(opened):
    assert opened.page.evaluate("crossOriginIsolated && ort.env.wasm.numThreads >= 1")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_a_disk_on_a_phone(browser, built, scheme):
    phone = {"width": 390, "height": 844}
    page = Opened(browser, (built / "index.html").as_uri(), viewport=phone, color_scheme=scheme)
    page.idle()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.people() and page.problems == []
    assert [url for url in page.requests if not url.startswith(("file:", "blob:", "data:"))] == []
    page.context.close()


@pytest.mark.slow
def test_speed_beside_native_onnx_runtime(opened):
    """Print the time of one crop by WebAssembly beside native ONNX Runtime, in turns. Run with -s to see it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    images = np.zeros((1, 3, 128, 128), np.float32)
    for name in ("plain-128", "int8-128"):
        session = onnxruntime.InferenceSession(str(ROOT / "build" / "live-files" / f"{name}.onnx"), options)
        times = {"web": [], "native": []}
        for _ in range(12):
            times["web"].append(opened.page.evaluate("name => lgmLive.time(name)", name))
            start = time.perf_counter()
            session.run(None, {"images": images})
            times["native"].append(1000 * (time.perf_counter() - start))
        web, native = (float(np.median(values[2:])) for values in times.values())
        print(f"{name}: WebAssembly {web:.1f} ms, native {native:.1f} ms, ratio {web / native:.2f}")
        assert web > 0 and native > 0
