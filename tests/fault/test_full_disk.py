# SPDX-License-Identifier: MIT
"""A disk that is really full, at moments that a seed chooses: the dispatch ends with 74 (or had
nothing more to write), nothing runs on, and with room again the same command goes on to the end."""

import random

import pytest

import lab
from test_kill_moments import SEED, lasts  # noqa: F401 (a fixture)

MOMENTS = 24


@pytest.fixture(scope="module", autouse=True)
def may_mount():
    pid = lab.os.fork()
    if pid == 0:
        with lab.small_disk("1m") as disk:
            status = 0 if disk else 1
        lab.os._exit(status)
    if lab.os.waitpid(pid, 0)[1]:
        pytest.skip("no file system of one's own: not root here")


@pytest.mark.parametrize("scenario", ["pair", "diamond"])
def test_full_disk(reference, lasts, scenario):  # noqa: F811
    print(f"ORCH_FAULT_SEED={SEED}")
    chance = random.Random(f"{SEED} {scenario} full")
    span = lasts(scenario) * 1.5
    moments = [0.0] + [chance.random() * span for _ in range(MOMENTS * (10 if lab.ALL else 1))]
    bad = lab.run_rounds([
        lab.Round(scenario, lab.Full(moment), reference(scenario), lossless=False,
                  allowed=(0, 2, 74), excused=("spawn_failed",)) for moment in moments])
    assert not bad, lab.report(bad)
