# SPDX-License-Identifier: MIT
"""What a git of ours started does not outlive it, nor holds git.lock."""

import pytest

from conftest import left_processes

SLEEP = "sleep 333 >/dev/null 2>&1 </dev/null & cat"


@pytest.mark.parametrize("start", [f'setsid {SLEEP}', f'setsid -f {SLEEP}', SLEEP,
                                   f'trap "" TERM HUP; {SLEEP}'])
def test_a_daemon_of_a_filter(repo, start):
    repo.git("config", "filter.f.clean", f"sh -c '{start}'")
    plan = repo.plan("[task:a]\ncommand = echo '*.z filter=f' > .gitattributes; echo q > q.z\n"
                     "[task:b]\ncommand = echo b > b\n")
    assert repo.dispatch(plan).halt["reason"] == "completed"
    assert repo.git("show", "orch/demo/integration:q.z") == "q"
    assert left_processes(grace=1) == []
    assert repo.dispatch("demo").halt["reason"] == "completed"
