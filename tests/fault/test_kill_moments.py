# SPDX-License-Identifier: MIT
"""SIGKILL of the engine, of keepers, of both, and of git at 300 moments that a seed chooses. A round
has three of them: the same command is given again and killed again, while it mends what the kill
before has left. After that it brings the plan to the end of an undisturbed run.

ORCH_FAULT_SEED=N replays: the moments depend on nothing else, what runs then depends on the
machine. ORCH_FAULT_ALL=1 takes ten times as many."""

import os
import random
import time

import pytest

import lab

SEED = int(os.environ.get("ORCH_FAULT_SEED", "1"))
MOMENTS = {"pair": 180, "diamond": 42, "bare": 78}
A_ROUND = 3


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
    for _ in range(MOMENTS[scenario] // A_ROUND * (10 if lab.ALL else 1)):
        kills = tuple((chance.choice(["engine", "engine", "keeper", "both", "git"]),
                       chance.random() * span) for _ in range(A_ROUND))
        rounds.append(lab.Round(scenario, lab.Moments(kills), reference(scenario),
                                lossless=all(who == "engine" for who, _ in kills)))
    bad = lab.run_rounds(rounds)
    assert not bad, lab.report(bad)
