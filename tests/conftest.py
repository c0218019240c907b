"""Fixtures shared by the tests."""

import signal
from pathlib import Path

import pytest

# A background job of a shell starts with Ctrl-C ignored, and so would all that it starts: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def the_checkout_stays_as_it_is():
    """Whatever a test writes belongs into its own folder."""
    root = Path(__file__).resolve().parents[1]
    before = {path.name for path in root.iterdir()}
    yield
    tools = {".pytest_cache", ".hypothesis", "build", "runs", ".coverage"}  # others may start one meanwhile
    assert {path.name for path in root.iterdir()} - before - tools == set()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no folder of real pictures beside the checkout ({SHARED_DATA.parent.name}/{SHARED_DATA.name})")
    return SHARED_DATA
