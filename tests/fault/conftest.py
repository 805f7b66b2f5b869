# SPDX-License-Identifier: MIT
import os

import pytest

import lab


def pytest_configure(config):
    for name in ("ORCH_BIN", "ORCH_INJECT"):
        if not os.environ.get(name):
            pytest.exit(f"{name} must be set (ctest sets it)", returncode=2)


@pytest.fixture(scope="session")
def reference():
    """reference(scenario): what an undisturbed run leaves."""
    known = {}

    def get(scenario):
        if scenario not in known:
            known[scenario] = lab.reference(scenario)
        return known[scenario]
    return get
