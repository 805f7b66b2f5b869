# SPDX-License-Identifier: MIT
"""SIGKILL at every point where something becomes lasting: before and after each call that changes
a file or makes it durable, of each program. The same command then brings the plan to the end of an
undisturbed run."""

import pytest

import lab

# Who is killed; its calls; how.
POINTS = [
    ("orch", "sync,rename", "kill-before"),
    ("orch", "sync,rename", "kill-after"),
    ("orch", "write", "kill-before"),
    ("orch", "make,remove", "kill-before"),
    ("orch", "fork", "kill-after"),
    ("keeper", "sync,rename,fork", "kill-before"),
    ("keeper", "sync,rename,fork", "kill-after"),
    ("keeper", "write,make,remove", "kill-before"),
    ("git", "sync,rename", "kill-before"),
    ("git", "sync,rename", "kill-after"),
    ("git", "write,make,remove", "kill-before"),
]


def rounds(scenario, programs, calls, action, reference):
    return [lab.Round(scenario, lab.Fault(programs, calls, action, n), reference(scenario),
                      lossless=programs in ("orch", "git"))
            for n in range(1, lab.count(scenario, programs, calls) + 1)]


@pytest.mark.parametrize("programs,calls,action", POINTS, ids=[" ".join(p) for p in POINTS])
def test_every_point(reference, programs, calls, action):
    todo = rounds("pair", programs, calls, action, reference)
    assert todo
    bad = lab.run_rounds(todo)
    assert not bad, lab.report(bad)
