# SPDX-License-Identifier: MIT
"""Real agents against the mock. Prints a table, agent by scenario, at the end."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
