"""The files of a run's folder, and how a run is asked to stop."""

import signal
import threading

import pytest

from lgmpose.errors import UserError
from lgmpose.training.run_folder import StopRequest, append_epoch, append_losses, read_log, start_losses


def test_an_epoch_that_is_logged_again_replaces_itself_and_later_ones(tmp_path):
    path = tmp_path / "log.csv"
    for row in ({"epoch": 1, "skipped": 0}, {"epoch": 2, "skipped": 0, "AP": 0.0}, {"epoch": 3, "skipped": 2}):
        append_epoch(path, row)
    assert path.read_text() == "epoch,skipped,AP\n1,0,\n2,0,0.0\n3,2,\n"  # 0 is shown, what was not measured is empty
    rows = append_epoch(path, {"epoch": 2, "skipped": 1})
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert path.read_text() == "epoch,skipped,AP\n1,0,\n2,1,\n"


def test_losses_after_the_checkpoint_and_a_line_cut_short_are_dropped(tmp_path):
    path = tmp_path / "loss.csv"
    start_losses(path, 0)
    append_losses(path, [(0, 0, 0.1, 1.5), (1, 0, 0.1, 1.25)])
    append_losses(path, [(2, 1, 0.1, 1.0)])
    path.write_text(path.read_text() + "3,1,0.")
    start_losses(path, 2)
    assert path.read_text() == "step,epoch,learning_rate,loss\n0,0,0.1,1.5\n1,0,0.1,1.25\n"
    start_losses(path, 0)
    assert path.read_text() == "step,epoch,learning_rate,loss\n"


@pytest.mark.parametrize("text", ["epoch,AP\n1,x\n", "epoch,AP\n,1\n", "epoch,AP\n1.5,1\n", "epoch,AP\n1\n", "\x80"])
def test_a_damaged_log_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "log.csv").write_bytes(text.encode("latin-1"))
    for use in (read_log, lambda path: append_epoch(path, {"epoch": 2})):
        with pytest.raises(UserError, match="log.csv"):
            use(tmp_path / "log.csv")


def test_a_damaged_line_of_the_losses_is_refused_with_its_number(tmp_path):
    (tmp_path / "loss.csv").write_text("step,epoch,learning_rate,loss\n0,0,0.1,1.5\nx,0,0.1,1.5\n2,0,0.1,1.5\n")
    with pytest.raises(UserError, match="loss.csv: line 3"):
        start_losses(tmp_path / "loss.csv", 2)


def test_a_loss_that_cannot_be_written_names_the_file(tmp_path):
    with pytest.raises(UserError, match="loss.csv"):
        append_losses(tmp_path / "gone" / "loss.csv", [(0, 0, 0.1, 1.0)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_asks_to_stop_and_a_second_one_stops(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        assert not stop.asked
        signal.raise_signal(number)
        assert stop.asked
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_signals_are_left_alone():
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
