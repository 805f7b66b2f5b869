# SPDX-License-Identifier: MIT
"""SIGKILL of the engine, of keepers, of both, and of git at moments that a seed chooses. The same
command then brings the plan to the end of an undisturbed run.

ORCH_FAULT_SEED=N replays: the moments depend on nothing else, what runs then depends on the
machine. ORCH_FAULT_ALL=1 takes ten times as many."""

import os
import random
import time

import pytest

import lab

SEED = int(os.environ.get("ORCH_FAULT_SEED", "1"))
MOMENTS = {"pair": 140, "diamond": 100, "bare": 60}


@pytest.fixture(scope="module")
def lasts():
    """lasts(scenario): seconds that an undisturbed dispatch takes here."""
    def measure(scenario):
        world = lab.World(scenario)
        try:
            begin = time.monotonic()
            assert world.give("dispatch", world.plan_file).status in (0, 2), world.said
            return time.monotonic() - begin
        finally:
            world.remove()
    return measure


@pytest.mark.parametrize("scenario", MOMENTS)
def test_moments(reference, lasts, scenario):
    print(f"ORCH_FAULT_SEED={SEED}")
    chance = random.Random(f"{SEED} {scenario}")
    span = lasts(scenario) * 1.5  # two rounds at a time are slower than one
    rounds = []
    for _ in range(MOMENTS[scenario] * (10 if lab.ALL else 1)):
        who = chance.choice(["engine", "engine", "keeper", "both", "git"])
        rounds.append(lab.Round(scenario, lab.Moment(who, chance.random() * span),
                                reference(scenario), lossless=who == "engine"))
    bad = lab.run_rounds(rounds)
    assert not bad, lab.report(bad)
