# SPDX-License-Identifier: MIT
"""A plan travels with its repository: what a halt committed is imported in a fresh clone and goes on
there."""

from conftest import wait_until

FILE = "orch-plan.demo.ini"


def export(repo):
    return repo.orch("plan", "export", "demo").out


def travel(repo, fetch=True):
    """A fresh clone with the state of the plan, which was imported there."""
    clone = repo.home / "clone"
    repo.git("clone", "-q", "--single-branch", f"file://{repo.path}", clone)
    text = repo.git("show", f"refs/orch/state:{FILE}") + "\n"
    file = repo.home / FILE
    file.write_text(text)
    if fetch:
        repo.git("fetch", "-q", "origin", "refs/orch/*:refs/orch/*",
                 "refs/heads/orch/*:refs/heads/orch/*", cwd=clone)
    return clone, file


MIXED = """
[invariant:never]
command = false
[task:done]
command = echo done > done; echo '{"kind":"usage","data":{"input":7,"output":5,"cache_read":3}}' >&$ORCH_EVENT_FD
[task:seen]
command = echo seen > seen
gate = human_review
[task:bad]
command = echo bad > bad; echo "why; # = \xe4\xb8\x96" >&2; exit 3
retry_max = 0
[task:red]
command = echo red > red
invariants = never
retry_max = 0
[task:later]
command = echo later > later
depends_on = bad, done
"""


def test_a_plan_travels(repo):
    repo.dispatch(repo.plan(MIXED), status=2)
    clone, file = travel(repo)
    repo.orch("plan", "import", file, cwd=clone)
    assert repo.orch("plan", "export", "demo", cwd=clone).out == export(repo)
    assert repo.git("show", f"refs/orch/state:{FILE}") == export(repo).strip()
    result = repo.dispatch("demo", cwd=clone, status=2)
    assert [line["task"] for line in result.lines if line["type"] == "task"] == []
    repo.orch("approve", "seen", cwd=clone)
    repo.orch("approve", "bad", "--override", "--reason", "good enough", cwd=clone)
    result = repo.dispatch("demo", cwd=clone, status=1)
    assert result.halt["tasks"] == {"passed": 4, "escalated": 1}
    tree = repo.git("ls-tree", "--name-only", "orch/demo/integration", cwd=clone).split()
    assert tree == ["README", "bad", "done", "later", "seen"]


def test_after_an_interrupt_it_travels_too(repo):
    process = repo.popen("dispatch", repo.plan(
        "[task:a]\ncommand = echo a > a\n"
        "[task:b]\ncommand = touch $HOME/up; echo b > b; sleep 60\ndepends_on = a\n"))
    wait_until((repo.home / "up").exists)
    process.terminate()
    assert repo.finish(process).status == 130
    assert "reason = interrupted" in export(repo)
    clone, file = travel(repo)
    repo.orch("plan", "import", file, cwd=clone)
    assert repo.orch("plan", "export", "demo", cwd=clone).out == export(repo)


def test_without_its_commits_it_is_refused_with_what_to_type(repo):
    repo.dispatch(repo.plan(MIXED), status=2)
    clone, file = travel(repo, fetch=False)
    refused = repo.orch("plan", "import", file, cwd=clone, status=65)
    assert "git fetch origin" in refused.err and "done" in refused.err
    assert repo.orch("plan", "list", cwd=clone).out == ""
    repo.sh(f"cd {clone}; {refused.err[refused.err.index('git fetch'):]}")
    repo.orch("plan", "import", file, cwd=clone)


TWO = "[task:a]\ncommand = echo a > a\n[task:b]\ncommand = echo b > b\ndepends_on = a\n"


def test_its_base_travels(repo):
    """Dispatched where another branch is checked out, it is merged into the one it came from."""
    plan = repo.plan(TWO)
    repo.orch("plan", "import", plan)
    assert "base" not in export(repo)
    repo.dispatch("--cap=1", plan, status=4)
    assert "base = main" in export(repo)
    clone, file = travel(repo)
    assert "base = main" in file.read_text()
    repo.git("checkout", "-q", "-b", "other", cwd=clone)
    repo.git("commit", "-q", "--allow-empty", "-m", "other", cwd=clone)
    repo.orch("plan", "import", file, cwd=clone)
    repo.orch("plan", "approve", "demo", cwd=clone)
    repo.dispatch("demo", cwd=clone)
    assert repo.orch("status", "--json", cwd=clone).json["plans"][0]["base"] == "main"
    repo.orch("merge", "demo", cwd=clone)
    assert "b" in repo.git("ls-tree", "--name-only", "main", cwd=clone).split()
    assert "b" not in repo.git("ls-tree", "--name-only", "other", cwd=clone).split()


def test_the_file_that_it_came_from_goes_on_with_it(repo):
    """That names no base; what was exported does."""
    plan = repo.plan(TWO)
    repo.dispatch("--cap=1", plan, status=4)
    clone, file = travel(repo)
    repo.orch("plan", "import", file, cwd=clone)
    repo.git("checkout", "-q", "-b", "other", cwd=clone)
    assert repo.dispatch(plan, cwd=clone).moves("a") == []
    assert repo.orch("status", "--json", cwd=clone).json["plans"][0]["base"] == "main"
    assert "base = main" in repo.orch("plan", "export", "demo", cwd=clone).out


def test_a_base_that_is_taken_out_of_the_file_is_a_change(repo):
    repo.dispatch("--cap=1", repo.plan(TWO, base="main"), status=4)
    err = repo.orch("dispatch", repo.plan(TWO), status=65).err
    assert "base: main -> (unset)" in err


def test_a_base_that_is_not_here_is_told(repo):
    repo.dispatch("--cap=1", repo.plan(TWO), status=4)
    clone, file = travel(repo)
    repo.git("checkout", "-q", "-b", "other", cwd=clone)
    repo.git("branch", "-q", "-D", "main", cwd=clone)
    repo.orch("plan", "import", file, cwd=clone)
    repo.orch("plan", "approve", "demo", cwd=clone)
    assert "main" in repo.dispatch("demo", cwd=clone, status=66).err
    assert not repo.git("for-each-ref", "refs/heads/main", cwd=clone)


def test_what_was_exported_is_no_change_where_it_came_from(repo):
    plan = repo.plan(TWO)
    repo.dispatch("--cap=1", plan, status=4)
    file = repo.home / FILE
    file.write_text(export(repo))
    repo.orch("plan", "import", file)
    file.write_text(export(repo).replace("base = main", "base = other"))
    assert "base" in repo.orch("plan", "import", file, status=65).err
    repo.dispatch(plan)
