# SPDX-License-Identifier: MIT
"""Each fsync and each fork of a dispatch fails once, and a spread of its other calls. Either the
dispatch goes on, or it ends with 74 and says why, with nothing left running and nothing marked as
done that is not and nothing held against a task; the same command then brings the plan to its end.
ORCH_FAULT_ALL=1 takes each of the other calls too."""

import pytest

import lab

# Whose calls; which; the error; how many of them.
EVERY = None
ERRORS = [
    ("orch", "sync,rename", "EIO", EVERY),
    ("orch", "fork", "EAGAIN", EVERY),
    ("keeper", "sync,rename", "EIO", EVERY),
    ("keeper", "fork", "EAGAIN", EVERY),
    ("git", "sync,rename", "EIO", EVERY),
    ("orch", "write", "ENOSPC", 16),
    ("orch", "make,link", "ENOSPC", 16),
    ("orch", "fd", "EMFILE", 16),
    ("orch", "open", "EMFILE", 16),
    ("keeper", "sync,rename,write", "ENOSPC", 12),
    ("keeper", "make", "ENOSPC", 8),
    ("keeper", "fd", "EMFILE", 8),
    ("keeper", "open", "EMFILE", 8),
    ("git", "write,make,link", "ENOSPC", 16),
    ("orch", "memory", "ENOMEM", 24),
]


@pytest.mark.parametrize("programs,calls,error,most", ERRORS,
                         ids=[" ".join(e[:3]) for e in ERRORS])
def test_each_call_fails_once(reference, programs, calls, error, most):
    todo = [lab.Round("pair", fault, reference("pair"),
                      lossless=programs in ("orch", "git"), allowed=(0, 74),
                      excused=("spawn_failed",))
            for fault in lab.faults("pair", programs, calls, error, most)]
    assert todo
    bad = lab.run_rounds(todo)
    assert not bad, lab.report(bad)
