"""Fixtures shared by the tests."""

import os
import signal
from pathlib import Path

import pytest

# Idle threads sleep instead of spinning: several test processes share the cores. PyTorch reads this at its import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A background job of a shell starts with Ctrl-C ignored, and its child processes inherit that. Tests send Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def the_checkout_stays_as_it_is():
    """Fail if a test writes into the checkout instead of its own folder."""
    root = Path(__file__).resolve().parents[1]
    before = {path.name for path in root.iterdir()}
    yield
    # Other processes may create these meanwhile.
    tools = {".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", "build", "runs", ".coverage"}
    new = {path.name for path in root.iterdir() if not path.name.startswith(".coverage.")} - before
    assert new - tools == set()


@pytest.fixture(scope="session", autouse=True)
def no_downloaded_detectors(tmp_path_factory):
    """Give the tests an empty cache, so that a detector that the user has downloaded does not change them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGMPOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images beside the checkout; skip the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no folder of real pictures beside the checkout ({SHARED_DATA.parent.name}/{SHARED_DATA.name})")
    return SHARED_DATA
