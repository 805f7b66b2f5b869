# SPDX-License-Identifier: MIT
"""The fixtures of tests/cli, for tests with agents."""

import importlib.util
import pathlib
import sys

_CLI = pathlib.Path(__file__).resolve().parent.parent / "cli" / "conftest.py"


def _load():
    spec = importlib.util.spec_from_file_location("cli_fixtures", _CLI)
    module = importlib.util.module_from_spec(spec)
    sys.modules["cli_fixtures"] = module
    spec.loader.exec_module(module)
    return module


_fixtures = sys.modules.get("cli_fixtures") or _load()
place, repo = _fixtures.place, _fixtures.repo
