# SPDX-License-Identifier: MIT
"""The fixtures of tests/cli, for tests with agents."""

import importlib.util
import pathlib
import sys

import pytest

_CLI = pathlib.Path(__file__).resolve().parent.parent / "cli" / "conftest.py"


def _load():
    spec = importlib.util.spec_from_file_location("cli_fixtures", _CLI)
    module = importlib.util.module_from_spec(spec)
    sys.modules["cli_fixtures"] = module
    spec.loader.exec_module(module)
    return module


_fixtures = sys.modules.get("cli_fixtures") or _load()
place, repo = _fixtures.place, _fixtures.repo
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from fake import DIALECTS, Fake  # noqa: E402 (it needs cli_fixtures)


@pytest.fixture
def fake(repo):
    return lambda *args, **kwargs: Fake(repo, *args, **kwargs)


@pytest.fixture(params=DIALECTS)
def dialect(request):
    return request.param
