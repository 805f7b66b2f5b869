# SPDX-License-Identifier: MIT
"""Each fsync, each write, each fork and each descriptor of a dispatch fails once. Either the dispatch
goes on, or it ends with 74 and says why, with nothing left running and nothing marked as done that
is not; the same command then brings the plan to its end."""

import pytest

import lab

# Whose calls; which; the error.
ERRORS = [
    ("orch", "sync,rename", "EIO"),
    ("orch", "write", "ENOSPC"),
    ("orch", "make", "ENOSPC"),
    ("orch", "fork", "EAGAIN"),
    ("orch", "fd", "EMFILE"),
    ("keeper", "sync,rename,write", "ENOSPC"),
    ("keeper", "sync,rename", "EIO"),
    ("keeper", "make", "ENOSPC"),
    ("keeper", "fork", "EAGAIN"),
    ("keeper", "fd", "EMFILE"),
    ("git", "sync,rename,write", "ENOSPC"),
]


@pytest.mark.parametrize("programs,calls,error", ERRORS, ids=[" ".join(e) for e in ERRORS])
def test_each_call_fails_once(reference, programs, calls, error):
    todo = [lab.Round("pair", lab.Fault(programs, calls, error, n), reference("pair"),
                      lossless=programs in ("orch", "git"), allowed=(0, 74),
                      charged=("spawn_failed",))
            for n in range(1, lab.count("pair", programs, calls) + 1)]
    bad = lab.run_rounds(todo)
    assert not bad, lab.report(bad)
