# SPDX-License-Identifier: MIT
"""SIGKILL at every persist point, where something becomes lasting: before and after each fsync and
each rename of each program, and at each fork. The same command then brings the plan to the end of
an undisturbed run. Of the calls in between, which only change what the next persist point keeps, a
few are taken, spread evenly; ORCH_FAULT_ALL=1 takes each of them."""

import pytest

import lab

# Who is killed; its calls; how; how many of them.
EVERY = None
POINTS = [
    ("orch", "sync,rename", "kill-before", EVERY),
    ("orch", "sync,rename", "kill-after", EVERY),
    ("orch", "fork", "kill-after", EVERY),
    ("keeper", "sync,rename,fork", "kill-before", EVERY),
    ("keeper", "sync,rename,fork", "kill-after", EVERY),
    ("git", "sync,rename", "kill-before", EVERY),
    ("git", "sync,rename", "kill-after", EVERY),
    ("orch", "write,make,remove", "kill-before", 24),
    ("keeper", "write,make,remove", "kill-before", 16),
    ("git", "write,make,remove", "kill-before", 24),
]


@pytest.mark.parametrize("programs,calls,action,most", POINTS,
                         ids=[" ".join(p[:3]) for p in POINTS])
def test_every_point(reference, programs, calls, action, most):
    todo = [lab.Round("pair", lab.Fault(programs, calls, action, n), reference("pair"),
                      lossless=programs in ("orch", "git"))
            for n in lab.points("pair", programs, calls, most)]
    assert todo
    bad = lab.run_rounds(todo)
    assert not bad, lab.report(bad)
