# SPDX-License-Identifier: MIT
"""SIGKILL at every persist point, where something becomes lasting, or ceases to be there: after each
fsync, before and after each rename (so each move of a ref), before each link and removal of each
program, and at each fork. (Before an fsync is no point of its own: what is written stays when only a
process ends. After a removal is before what comes next.) The same command then brings the plan to the end of an
undisturbed run. Of the calls in between, which only change what the next persist point keeps, a few
are taken, spread evenly; ORCH_FAULT_ALL=1 takes each of them."""

import pytest

import lab

# In which scenario; who is killed; its calls; how; how many of them.
EVERY = None
POINTS = [
    ("bare", "orch", "rename,link,remove", "kill-before", EVERY),
    ("bare", "orch", "sync,rename,fork", "kill-after", EVERY),
    ("pair", "orch", "rename,link,remove", "kill-before", EVERY),
    ("pair", "orch", "sync,rename,fork", "kill-after", EVERY),
    ("pair", "keeper", "rename,link,remove,fork", "kill-before", EVERY),
    ("pair", "keeper", "sync,rename,fork", "kill-after", EVERY),
    ("pair", "git", "rename,link,remove,fork", "kill-before", EVERY),
    ("pair", "git", "sync,rename,link", "kill-after", EVERY),
    ("pair", "orch", "write,make", "kill-before", 24),
    ("pair", "keeper", "write,make", "kill-before", 16),
    ("pair", "git", "write,make", "kill-before", 24),
]


@pytest.mark.parametrize("scenario,programs,calls,action,most", POINTS,
                         ids=[" ".join(p[:4]) for p in POINTS])
def test_every_point(reference, scenario, programs, calls, action, most):
    todo = [lab.Round(scenario, fault, reference(scenario),
                      lossless=programs in ("orch", "git"))
            for fault in lab.faults(scenario, programs, calls, action, most)]
    assert todo
    bad = lab.run_rounds(todo)
    assert not bad, lab.report(bad)
