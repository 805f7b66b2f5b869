# SPDX-License-Identifier: MIT
"""An engine whose database was removed says so, rather than that all is well."""

GONE = 'd=$(git rev-parse --path-format=absolute --git-common-dir)/orch; '


def test_removed_by_an_agent(repo):
    result = repo.dispatch(repo.plan(f"[task:a]\ncommand = {GONE} rm $d/orch.db*; echo a > a\n"),
                           status=74)
    assert "orch.db" in result.err and "refs/orch" in result.err, result
    assert repo.git("show", "refs/orch/demo/a/1:a") == "a"


def test_another_in_its_place(repo):
    result = repo.dispatch(repo.plan(
        f"[task:a]\ncommand = {GONE} cp $d/orch.db $d/x; mv $d/x $d/orch.db; echo a > a\n"),
        status=74)
    assert "orch.db" in result.err, result
