# SPDX-License-Identifier: MIT
"""SIGKILL at every persist point, where something becomes lasting: after each fsync, before and
after each rename of each program, and at each fork. (Before an fsync is no point of its own: what is
written stays when only a process ends.) The same command then brings the plan to the end of an
undisturbed run. Of the calls in between, which only change what the next persist point keeps, a few
are taken, spread evenly; ORCH_FAULT_ALL=1 takes each of them."""

import pytest

import lab

# In which scenario; who is killed; its calls; how; how many of them.
EVERY = None
POINTS = [
    ("bare", "orch", "rename", "kill-before", EVERY),
    ("bare", "orch", "sync,rename,fork", "kill-after", EVERY),
    ("pair", "orch", "rename", "kill-before", EVERY),
    ("pair", "orch", "sync,rename,fork", "kill-after", EVERY),
    ("pair", "keeper", "rename,fork", "kill-before", EVERY),
    ("pair", "keeper", "sync,rename,fork", "kill-after", EVERY),
    ("pair", "git", "rename", "kill-before", EVERY),
    ("pair", "git", "sync,rename", "kill-after", EVERY),
    ("pair", "orch", "write,make,remove", "kill-before", 24),
    ("pair", "keeper", "write,make,remove", "kill-before", 16),
    ("pair", "git", "write,make,remove", "kill-before", 24),
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
