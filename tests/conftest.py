"""Fixtures shared by the tests."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no folder of real pictures beside the checkout ({SHARED_DATA.parent.name}/{SHARED_DATA.name})")
    return SHARED_DATA
