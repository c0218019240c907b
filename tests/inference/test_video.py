"""Videos: true times, rotation, many containers, streams to disk, cameras, addresses, and what goes wrong."""

from __future__ import annotations

import base64
import functools
import gc
import http.server
import json
import os
import resource
import sys
import threading
import traceback
import tracemalloc
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from inference_tools import DotBackend, noise, puppet_picture, write_film, write_png

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.inference import video
from lgmpose.inference.input_files import kind_of, list_sources
from lgmpose.inference.predict_files import PredictOptions, predict_files
from lgmpose.inference.predictor import Predictor
from lgmpose.inference.video import VideoReader, VideoWriter

DOTS = Predictor(DotBackend((32, 32)), detector="none", flip_test=False)
MARK = 40, 64  # a picture that is higher than wide only when turned


def marked(shade=250):
    """Return a black picture whose upper left corner is red."""
    picture = np.zeros((*MARK, 3), np.uint8)
    picture[:12, :12, 0] = shade
    return picture


def marked_at(width):
    """Return a black picture of 40 rows with a red bar in the middle."""
    picture = np.zeros((40, width, 3), np.uint8)
    picture[:, width // 2 - 8 : width // 2 + 8, 0] = 250
    return picture


def content_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- reading ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rotation, corner", [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_frames_are_turned_and_have_their_own_times(tmp_path, rotation, corner):
    """``rotation`` is counter-clockwise, so 90 brings the upper left corner to the lower left. OpenCV agrees."""
    times = [0, 0.1, 0.4, 0.95, 1.0]
    file = write_film(tmp_path / "a.mp4", [marked()] * 5, times=times, rotation=rotation)
    frames = list(VideoReader(file))
    assert [frame.index for frame in frames] == list(range(5))
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=1e-3)
    for frame in frames:
        assert frame.picture.shape == ((64, 40, 3) if rotation in (90, 270) else (40, 64, 3))
        assert frame.picture[corner][0] > 200
        assert sum(int(frame.picture[y, x, 0]) > 100 for y in (0, -1) for x in (0, -1)) == 1
    more, bgr = cv2.VideoCapture(str(file)).read()
    if bgr.shape == frames[0].picture.shape:  # some builds of OpenCV do not turn
        np.testing.assert_allclose(bgr[..., ::-1].astype(int), frames[0].picture, atol=12)


def test_time_goes_on_where_the_time_stamps_start_again(tmp_path):
    """As in transport streams that were joined by ``cat a.ts b.ts``, and in streams that restart."""
    part = write_film(tmp_path / "a.ts", [marked()] * 10).read_bytes()
    (tmp_path / "joined.ts").write_bytes(part * 3)
    times = [frame.time_s for frame in VideoReader(tmp_path / "joined.ts")]
    np.testing.assert_allclose(times, np.arange(30) / 10, atol=1e-3)


def test_pixels_that_are_not_square_are_shown_square(tmp_path):
    """Camcorders and DVDs store narrow pictures, which players widen."""
    for ratio, width in ((Fraction(4, 3), 128), (Fraction(1, 2), 48), (Fraction(999, 1000), 96), (None, 96)):
        file = write_film(tmp_path / "dv.mp4", [marked_at(96)] * 2, pixel_ratio=ratio)
        shapes = {frame.picture.shape for frame in VideoReader(file)}
        assert shapes == {(40, width, 3)}, ratio
        picture = next(iter(VideoReader(file))).picture
        assert abs(np.flatnonzero(picture[20, :, 0] > 120).mean() - (width - 1) / 2) < 1


def test_frames_that_change_their_size_are_shown_in_the_first_one(tmp_path):
    """Joints and drawings of all frames are then in pixels of the ``image_hw`` that the result states."""
    parts = [write_film(tmp_path / "a.ts", [noise(*hw)] * 3).read_bytes() for hw in ((48, 64), (96, 128))]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    frames = list(VideoReader(tmp_path / "joined.ts"))
    assert [frame.picture.shape for frame in frames] == [(48, 64, 3)] * 6


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".flv", ".gif"])
@pytest.mark.parametrize("renamed", [False, True])
def test_videos_of_many_kinds_whatever_their_suffix(tmp_path, suffix, renamed):
    pictures = [np.roll(marked(), 3 * i, axis=1) for i in range(6)]
    file = write_film(tmp_path / f"a{suffix}", pictures)
    if renamed:
        file = file.rename(tmp_path / "film.data")
    assert kind_of(file) == "video"
    reader = VideoReader(file)
    frames = list(reader)
    assert len(frames) == 6 and not reader.is_live
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(6) / 10, atol=0.011)
    for i, frame in enumerate(frames):
        columns = np.flatnonzero(frame.picture[5, :, 0] > 120)
        assert abs(columns.min() - 3 * i) <= 1


def test_what_is_a_picture_and_what_a_video(tmp_path):
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    assert kind_of(picture.rename(tmp_path / "a.mp4")) == "picture"
    assert kind_of(write_film(tmp_path / "b.gif", [marked()])) == "picture"
    for name, content, kind in (
        ("notes.txt", b"some text\n" * 30, None),
        ("cut.mp4", b"\0\0\0\x18ftypmp42", "video"),
        ("cut.jpg", b"no picture", "picture"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", None),
        ("empty", b"", None),
    ):
        (tmp_path / name).write_bytes(content)
        assert kind_of(tmp_path / name) == kind, name


def test_a_damaged_part_is_left_out_and_told(tmp_path, capsys):
    file = write_film(tmp_path / "a.avi", [noise(64, 64, seed=i) for i in range(20)])
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    file.write_bytes(content)
    assert predict_files(DOTS, file, tmp_path / "out") == 1
    assert 10 <= len(content_of(tmp_path / "out", "a")["frames"]) <= 20
    cut = tmp_path / "b.avi"
    cut.write_bytes(content[: len(content) // 3])
    assert predict_files(DOTS, cut, tmp_path / "out") == 1
    assert "of 20" in capsys.readouterr().err


def test_bad_videos_are_named_and_leave_nothing(tmp_path):
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name in ("cut.mp4", "sound.mp4"):
        with pytest.raises(UserError, match=f"{name}: ") as raised:
            predict_files(DOTS, tmp_path / name, tmp_path / "out")
        assert "\n" not in str(raised.value)
    assert names_in(tmp_path / "out") == []


@pytest.mark.parametrize("suffix, num_frames", [(".mkv", 8), (".mp4", 8), (".mp4", 0)])
def test_the_cover_of_a_film_is_no_frame(tmp_path, suffix, num_frames):
    """In a Matroska file it is an ordinary stream, here the first one. Music has nothing but a cover."""
    file = tmp_path / f"a{suffix}"
    with av.open(str(file), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=10), container.add_stream("libx264", rate=10)
        cover.height, cover.width, cover.pix_fmt = 80, 80, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        film.height, film.width, film.pix_fmt = 48, 64, "yuv420p"
        for stream, pictures in ((cover, [noise(80, 80)]), (film, [noise(48, 64)] * num_frames)):
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    if num_frames:
        assert [frame.picture.shape for frame in VideoReader(file)] == [(48, 64, 3)] * num_frames
    else:
        with pytest.raises(UserError, match="a.mp4: "):
            list(VideoReader(file))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no colon in names")
def test_a_name_that_looks_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "walk.avi", [noise(32, 32)] * 2).rename("2026-11-27T12:30:05.avi")
    assert predict_files(DOTS, "2026-11-27T12:30:05.avi", "out:1") == 1
    assert names_in(tmp_path / "out:1") == ["2026-11-27T12:30:05.json", "2026-11-27T12:30:05_pose.mp4"]


# --- writing ----------------------------------------------------------------------------------------------------------
def test_a_video_becomes_a_video_and_a_json(tmp_path):
    """Odd sizes, a variable frame rate: joints and times of the results are those of the film."""
    times = [0, 0.1, 0.3, 0.35, 0.8]
    truth = [np.array([[40.0 + 30 * t, 20], [60 + 30 * t, 50], [30 + 30 * t, 48]]) for t in times]
    pictures = [puppet_picture(76, 102, points, sigma=3) for points in truth]
    file, out = write_film(tmp_path / "walk.mkv", pictures, times=times), tmp_path / "out"
    assert predict_files(Predictor(DotBackend(), detector="none"), file, out) == 1
    content = content_of(out, "walk")
    assert content["version"] == 1 and content["video"] == "walk.mkv" and content["image_hw"] == [76, 102]
    assert [frame["frame"] for frame in content["frames"]] == list(range(5))
    np.testing.assert_allclose([frame["time_s"] for frame in content["frames"]], times, atol=1e-3)
    for frame, points in zip(content["frames"], truth, strict=True):
        (person,) = frame["people"]
        assert person["id"] == 1
        np.testing.assert_allclose(np.array(person["keypoints"])[:, :2], points, atol=1.5)
    drawn = list(VideoReader(out / "walk_pose.mp4"))
    np.testing.assert_allclose([frame.time_s for frame in drawn], times, atol=1e-3)
    assert drawn[0].picture.shape == (76, 102, 3) and drawn[0].picture.sum() > 1.1 * pictures[0].sum()
    assert names_in(out) == ["walk.json", "walk_pose.mp4"]


def test_written_videos_play_in_browsers(tmp_path):
    """H.264, 4:2:0, the index at the beginning; an odd size gets one more row and column."""
    with VideoWriter(tmp_path / "a.mp4", (75, 101)) as writer:
        for i in range(3):
            writer.write(noise(75, 101, seed=i), i / 10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.height, stream.codec_context.width) == (76, 102)
        assert stream.codec_context.colorspace in (5, 6)  # BT.601; players guess BT.709 for large videos without a tag
    content = (tmp_path / "a.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_boxes_and_the_threshold_hold_for_videos_too(tmp_path):
    picture = puppet_picture(76, 102, np.array([[40.0, 20], [60, 50], [30, 48]]), sigma=3)
    file, box = write_film(tmp_path / "walk.avi", [picture] * 2), (10, 5, 70, 60)
    drawn = {}
    for threshold in (0.2, 2.0):
        options = PredictOptions(score_threshold=threshold)
        assert predict_files(DOTS, file, tmp_path / "out", boxes=[box], options=options) == 1
        for frame in content_of(tmp_path / "out", "walk")["frames"]:
            assert [tuple(person["box_xywh"]) for person in frame["people"]] == [box]
        drawn[threshold] = next(iter(VideoReader(tmp_path / "out" / "walk_pose.mp4"))).picture.astype(float)
    assert np.abs(drawn[0.2] - drawn[2.0]).mean() > 1
    with pytest.raises(UserError, match="walk.avi: box 0 "):
        predict_files(DOTS, file, tmp_path / "out", boxes=[[990, 9, 5, 5]])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory"), OSError(28, "disk full")])
def test_a_video_stopped_in_the_middle_leaves_nothing(tmp_path, error):
    file, frames = write_film(tmp_path / "walk.avi", [noise(32, 32)] * 20), []

    class Stopping(DotBackend):
        def heatmaps(self, crops):
            frames.append(crops)
            if len(frames) == 4:
                raise error
            return super().heatmaps(crops)

    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        predict_files(Predictor(Stopping(), flip_test=False), file, tmp_path / "out", boxes=[[1, 1, 30, 30]])
    assert names_in(tmp_path / "out") == [] and len(frames) == 4


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    """3,000 further frames take less than 30 kB of Python's memory and less than 20 MB of the process."""
    picture = puppet_picture(48, 64, np.array([[30.0, 10], [40, 30], [20, 28]]), sigma=3)
    film = write_film(tmp_path / "long.mp4", [picture] * 3300)
    options = PredictOptions(formats=("json", "coco", "csv"))
    kept = []

    class Measuring(DotBackend):
        calls = 0

        def heatmaps(self, crops):
            Measuring.calls += 1
            if Measuring.calls in (300, 3300):
                gc.collect()
                kept.append((tracemalloc.get_traced_memory()[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
            return super().heatmaps(crops)

    tracemalloc.start()
    try:
        predictor = Predictor(Measuring((32, 32)), flip_test=False)
        assert predict_files(predictor, film, tmp_path / "out", boxes=[[1, 1, 60, 46]], options=options) == 1
    finally:
        tracemalloc.stop()
    assert kept[1][0] - kept[0][0] < 30_000
    assert kept[1][1] - kept[0][1] < 20_000  # kB on Linux


# --- cameras, addresses, windows --------------------------------------------------------------------------------------
class Camera:
    """A stand-in for ``cv2.VideoCapture`` that is interrupted after some frames, as by Ctrl-C."""

    frames, released = 4, 0

    def __init__(self, number):
        self.number, self.left = number, self.frames

    def isOpened(self):
        return self.number == 0

    def read(self):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return True, puppet_picture(76, 102, np.array([[40.0, 20], [60, 50], [30, 48]]), sigma=3)[..., ::-1]

    def release(self):
        Camera.released += 1


def test_a_camera_is_recorded_until_ctrl_c(tmp_path, monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera)
    assert predict_files(DOTS, "0", tmp_path / "out") == 1
    content = content_of(tmp_path / "out", "camera0")
    assert content["path"] == "camera0" and len(content["frames"]) == 4
    times = [frame["time_s"] for frame in content["frames"]]
    assert times == sorted(times) and times[0] == 0  # however long the camera takes to start
    assert len(list(VideoReader(tmp_path / "out" / "camera0_pose.mp4"))) == 4 and Camera.released == 1
    for _ in range(2):  # another recording of the same camera replaces the first
        assert predict_files(DOTS, "0", tmp_path / "out") == 1
    assert names_in(tmp_path / "out") == ["camera0.json", "camera0_pose.mp4"]
    with pytest.raises(UserError, match="camera 7"):
        predict_files(DOTS, "7", tmp_path / "out")


def test_a_camera_that_gives_no_frame_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Camera, "read", lambda self: (False, None))
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera)
    for call in (lambda: predict_files(DOTS, "0", tmp_path / "out"), lambda: list(DOTS.track(0))):
        with pytest.raises(UserError, match="camera 0: "):
            call()
    assert names_in(tmp_path / "out") == []


def test_a_file_named_like_a_camera_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "0.png", noise(20, 20)).rename("0")
    (source,) = list_sources("0")
    assert source.kind == "picture"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The folder "locked" asks for user name and password. The folder "odd" answers with what is not HTTP."""

    def log_message(self, *_):
        pass

    def send_head(self):
        login = base64.b64encode(b"me:se/cret").decode()
        if self.path.startswith("/locked/") and self.headers["Authorization"] != f"Basic {login}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="yard"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().send_head()

    def send_response_only(self, code, message=None):
        if self.path.startswith("/odd/"):
            self.protocol_version = "what?"
        super().send_response_only(code, message)

    def send_header(self, keyword, value):
        cut = self.path.startswith("/cut/") and keyword == "Content-Length"
        super().send_header(keyword, int(value) + 99 if cut else value)


@pytest.fixture
def server(tmp_path):
    """A web server of a folder: (address, folder)."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


def test_addresses_of_pictures_and_videos(server, tmp_path):
    address, folder = server
    write_png(folder / "my photo.png", noise(40, 30))
    write_film(folder / "clip.mp4", [marked()] * 3)
    given = [f"{address}/my%20photo.png", f"{address.replace('//', '//me:secret@')}/clip.mp4"]
    assert [source.kind for source in list_sources(given)] == ["picture", "video"]
    assert predict_files(DOTS, given, tmp_path / "out") == 2
    assert content_of(tmp_path / "out", "my photo")["image_hw"] == [40, 30]
    assert content_of(tmp_path / "out", "my photo")["path"] == given[0]
    assert len(content_of(tmp_path / "out", "clip")["frames"]) == 3
    assert [frame.time_s for frame in VideoReader(f"{address}/clip.mp4")] == pytest.approx([0, 0.1, 0.2], abs=1e-3)
    for bad, word in ((f"{address}/gone.jpg", "gone.jpg"), ("http://127.0.0.1:9/x.jpg", "x.jpg"), ("cow://x/y", "cow")):
        with pytest.raises(UserError, match=word) as raised:
            predict_files(DOTS, bad, tmp_path / "out")
        assert "\n" not in str(raised.value)


def test_a_server_that_asks_for_a_password_gets_it(server, tmp_path):
    address, folder = server
    (folder / "locked").mkdir()
    write_png(folder / "locked" / "yard.png", noise(40, 30))
    write_film(folder / "locked" / "clip.mp4", [marked()] * 3)
    given = [f"{address.replace('//', '//me:se%2Fcret@')}/locked/{name}" for name in ("yard.png", "clip.mp4")]
    assert [source.kind for source in list_sources(given)] == ["picture", "video"]
    assert predict_files(DOTS, given, tmp_path / "out") == 2
    assert len(content_of(tmp_path / "out", "clip")["frames"]) == 3
    assert content_of(tmp_path / "out", "clip")["path"] == f"{address}/locked/clip.mp4"


def test_passwords_of_addresses_are_not_written():
    for place in ("camera.local/live/stream1", "10.0.0.7:554/live/stream1?a=b@c", "[::1]:554/@me/stream1"):
        invalid = () if place.count("@") else ("me:sec#ret@", "me:/secret@")
        for login in ("me:secret@", "me@", "me:sec@ret@", "", *invalid):
            (source,) = list_sources(f"rtsp://{login}{place}")
            assert (source.kind, source.name, source.place) == ("video", "stream1", f"rtsp://{place}")


@pytest.mark.parametrize("login", ["me:secret", "me:/secret", "secret", "me:secret#"])
def test_passwords_of_addresses_are_in_no_message(server, tmp_path, login):
    """Neither in the message nor in what caused it, which Python prints for a script that catches nothing."""
    address, folder = server
    for name in ("odd", "cut"):
        (folder / name).mkdir()
        write_png(folder / name / "x.png", noise(40, 30))
    (folder / "notes.txt").write_text("no video")
    (folder / "broken.png").write_bytes(b"no picture")
    address = address.removeprefix("http://")
    for place in (
        *(f"http://{login}@{address}/{name}" for name in ("gone.png", "broken.png", "notes.txt", "a b", "cut/x.png")),
        f"http://{login}@{address}/odd/x.png", f"http://{login}@{address}x/y", f"rtsp://{login}@127.0.0.1:9/x",
        f"http://{login}@[::1/x", f"cow://{login}@x/y",
    ):  # fmt: skip
        with pytest.raises(UserError, match=place[:6]) as raised:
            predict_files(DOTS, place, tmp_path / "out")
        assert "secret" not in "".join(traceback.format_exception(raised.value)) and "\n" not in str(raised.value)
    for place in (f"http://{login}@{address}/notes.txt", f"rtsp://{login}@127.0.0.1:9/x", f"cow://{login}@x/y"):
        with pytest.raises(UserError, match=place[:6]) as raised:
            VideoReader(place)
        assert "secret" not in "".join(traceback.format_exception(raised.value))


class Screen:
    """A stand-in for the window; the user closes it after some pictures."""

    def __init__(self, title):
        self.shown, self.is_open, self.waited = [], True, False
        Screen.last = self

    def show(self, picture):
        self.shown.append(picture)
        self.is_open = len(self.shown) < 3

    def wait(self):
        self.waited = True


def test_drawings_are_shown_and_closing_the_window_ends_a_camera(tmp_path, monkeypatch):
    monkeypatch.setattr("lgmpose.inference.predict_files.Window", Screen)
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera)
    options = PredictOptions(show=True)
    assert predict_files(DOTS, "0", tmp_path / "out", options=options) == 1
    assert len(content_of(tmp_path / "out", "camera0")["frames"]) == 3 and not Screen.last.waited
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    assert predict_files(DOTS, picture, tmp_path / "out", options=options) == 1
    assert [shown.shape for shown in Screen.last.shown] == [(20, 20, 3)] and Screen.last.waited


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_a_display_show_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    with pytest.raises(UserError, match="--show") as raised:
        predict_files(DOTS, picture, tmp_path / "out", options=PredictOptions(show=True))
    assert "\n" not in str(raised.value) and names_in(tmp_path / "out") == []


@pytest.mark.parametrize("words", [["--format", "json,xml"], ["--detect-every", "0"], ["--smooth", "-1"]])
def test_bad_options_are_one_line(tmp_path, words, capsys):
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    assert main(["predict", str(picture), *words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
