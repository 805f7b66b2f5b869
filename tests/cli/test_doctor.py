# SPDX-License-Identifier: MIT
"""orch doctor, and the same looks before a dispatch: every problem at once, before anything starts."""

import os

import pytest

TASK = "[task:a]\ncommand = echo a > a\n"


def problems(repo, status=0, args=()):
    found = repo.orch("doctor", "--json", *args, status=status).json
    assert found["version"] == 1
    return [(p["severity"], p["text"]) for p in found["problems"]]


def test_where_all_is_well(repo):
    result = repo.orch("doctor")
    assert "no problems" in result.out and str(repo.path) in result.out
    assert problems(repo) == []
    repo.orch("plan", "import", repo.plan(TASK))
    assert "plan demo" in repo.orch("doctor").out
    repo.orch("doctor", "nothing", status=66)
    assert "`orch plan check`" in repo.orch("doctor", "plan.ini", status=66).err
    repo.orch("doctor", "a", "b", status=64)


def test_it_changes_nothing(repo):
    before = sorted(os.listdir(repo.path)), repo.git("status", "--porcelain")
    repo.orch("doctor")
    assert (sorted(os.listdir(repo.path)), repo.git("status", "--porcelain")) == before
    assert not repo.state_dir.exists()


def test_outside_a_repository(place):
    assert "isolation = none" in place.orch("doctor").out


def broken(repo):
    repo.git("branch", "orch")
    plan = repo.plan("[invariant:build]\ncommand = no-such-compiler -c x.c\n" + TASK +
                     "invariants = build\n[task:b]\nprompt = x\nharness = nowhere\n", base="gone")
    return plan, {"ORCH_WORKTREE_ROOT": str(repo.path / "inside"), "ORCH_MIN_FREE_DISK": "900000G"}


WORDS = [("error", "git branch -m orch orch-old"), ("error", "inside the repository"),
         ("error", "orch plan set demo base="), ("warning", "no-such-compiler"),
         ("warning", "nowhere"), ("warning", "min_free_disk")]


def test_every_problem_at_once(repo):
    plan, env = broken(repo)
    repo.orch("plan", "import", plan)
    found = repo.orch("doctor", "--json", status=1, env=env).json["problems"]
    for severity, words in WORDS:
        assert [p for p in found if p["severity"] == severity and words in p["text"]], (words, found)
    assert len(found) == len(WORDS), "\n".join(p["text"] for p in found)
    text = repo.orch("doctor", status=1, env=env).out
    assert "6 problems" in text and all(words in text for _, words in WORDS)


def test_a_dispatch_looks_first_and_starts_nothing(repo):
    plan, env = broken(repo)
    refs = repo.git("for-each-ref")
    result = repo.dispatch(plan, status=65, env=env)
    assert all(words in result.err for _, words in WORDS) and result.out == ""
    assert "nothing was started" in result.err
    assert repo.git("for-each-ref") == refs
    assert repo.task("a")["status"] == "pending"


def test_one_problem_has_its_own_status(repo):
    result = repo.dispatch(repo.plan(TASK, base="gone"), status=66)
    assert "orch plan set demo base=" in result.err


def test_worktrees_that_cannot_be_made(repo):
    """A file is where a directory should be."""
    result = repo.dispatch(repo.plan(TASK), status=73, env={"ORCH_WORKTREE_ROOT": "/dev/null/x"})
    assert "worktree_root" in result.err


def test_a_missing_harness_is_a_warning_and_the_rest_runs(repo):
    plan = repo.plan(TASK + "[task:b]\nprompt = x\nharness = nowhere\n")
    result = repo.dispatch(plan, status=1)
    assert "warning" in result.err and "nowhere" in result.err
    assert result.halt["tasks"] == {"passed": 1, "escalated": 1}
    assert repo.task("b")["outcome"] == "harness_missing"


def test_a_configured_harness_is_looked_at(repo):
    repo.write("orch.ini", "[harness:mine]\nplugin = nowhere\n")
    assert [text for severity, text in problems(repo) if severity == "warning"
            and "harness 'mine'" in text]


def test_a_merge_in_progress_matters_where_a_halt_commits(repo):
    repo.git("checkout", "-q", "-b", "side")
    repo.git("commit", "-q", "--allow-empty", "-m", "side")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-commit", "--no-ff", "side")
    assert problems(repo) == []
    found = repo.orch("doctor", "--json", env={"ORCH_HALT_COMMIT": "branch"}).json["problems"]
    assert "a merge is in progress" in found[0]["text"]


@pytest.mark.parametrize("command, told", [
    ("no-such-tool x", True), ("A=1 no-such-tool", True), ("/no/such/tool", True),
    ("./made-by-the-agent", False), ("test -e x", False), ("if true; then no; fi", False),
    ("sh -c 'exit 0'", False), ("$TOOL x", False), ("(no-such-tool)", False)])
def test_commands_of_invariants(repo, command, told):
    repo.orch("plan", "import", repo.plan(
        f"[invariant:i]\ncommand = {command}\n{TASK}invariants = i\n"))
    assert bool(problems(repo)) == told


LINT = "[invariant:lint]\ncommand = test -e tidy\n{}\n"


def known_red(repo, more="", name="next"):
    """A plan whose invariant an earlier one has found red on the base."""
    red = LINT.format("") + TASK + "invariants = lint\nretry_max = 0\n"
    repo.dispatch(repo.plan(red, name="first"), status=1)
    plan = repo.plan(LINT.format(more) + TASK + "invariants = lint\n", name)
    repo.orch("plan", "import", plan)
    return plan


def test_a_baseline_that_is_known_to_be_red(repo):
    plan = known_red(repo)
    (severity, text), = problems(repo, args=["next"])
    assert severity == "warning" and "'lint'" in text and "red_before = ignore" in text
    assert repo.git("rev-parse", "main")[:12] in text
    result = repo.dispatch(plan, status=1)
    assert "'lint' was red already" in result.err


@pytest.mark.parametrize("more", ["red_before = ignore", "advisory = yes"])
def test_a_red_baseline_that_keeps_nothing_from_passing(repo, more):
    plan = known_red(repo, more)
    assert problems(repo, args=["next"]) == []
    repo.dispatch(plan)


def test_a_baseline_is_that_of_the_commit_that_tasks_begin_at(repo):
    """Mended on the branch: a new plan begins there, one that has begun does not."""
    plan = known_red(repo)
    repo.write("tidy", "now\n")
    repo.git("add", "tidy")
    repo.git("commit", "-q", "-m", "tidy")
    assert problems(repo, args=["next"]) == []
    assert "'lint'" in problems(repo, args=["first"])[0][1]
    repo.dispatch(plan)


def test_a_baseline_that_nobody_knows(repo):
    """It is not run to find out."""
    repo.orch("plan", "import", repo.plan(LINT.format("") + TASK + "invariants = lint\n"))
    assert problems(repo) == []


@pytest.mark.parametrize("containment", ["subreaper", "pidns"])
def test_the_containment_that_will_be_used(repo, containment):
    env = {"ORCH_CONTAINMENT": containment}
    facts = repo.orch("doctor", "--json", env=env, status=None).json["facts"]
    assert facts["containment"] == f"{containment} (as configured)"
    engine = repo.orch("status", "--json", env=env).json["engine"]
    assert engine["containment"] == containment


def test_what_a_plan_is_ready_for(repo):
    plan = repo.plan("[task:a]\ncommand = touch a\n")
    repo.orch("plan", "import", plan)
    facts = repo.orch("doctor", "demo", "--json").json["facts"]
    assert facts["plan demo"] == "draft, could be dispatched once approved"
    repo.dispatch(plan)
    assert repo.orch("doctor", "demo", "--json").json["facts"]["plan demo"] == "completed"


@pytest.mark.parametrize("make", [
    lambda repo: (repo.path / ".orch").touch(),
    lambda repo: (repo.path / ".orch").symlink_to("elsewhere"),
    lambda repo: repo.state_dir.symlink_to("nowhere"),
], ids=["link", "other-link", "dangling"])
def test_what_is_in_the_way_of_the_state(repo, make):
    """A dispatch and doctor say the same of it."""
    make(repo)
    said = repo.orch("dispatch", repo.plan(TASK), status=73).err.removeprefix("orch dispatch: ")
    found = problems(repo, status=1)
    assert [severity for severity, _ in found] == ["error"]
    assert found[0][1] == said.strip()


def test_a_file_in_place_of_the_state_directory(repo):
    repo.state_dir.touch()
    for verb in (["dispatch", repo.plan(TASK)], ["doctor"], ["status"], ["plan", "list"]):
        assert "is in the way of the state directory" in repo.orch(*verb, status=73).err


def test_refs_of_a_plan_that_the_database_does_not_know(repo):
    """Its own attempts would get the names of those; that was only found once an agent had run."""
    file = repo.plan("[task:a]\ncommand = echo a > a\n")
    repo.dispatch(file)
    repo.sh("rm -r .git/orch .orch")
    repo.git("commit", "-q", "--allow-empty", "-m", "more")
    kept = repo.git("rev-parse", "refs/orch/demo/a/1")
    result = repo.dispatch(file, status=65)
    assert "refs/orch/demo/a/1" in result.err and "orch cleanup demo --force" in result.err
    assert repo.task("a")["attempt"] == 0 and repo.git("rev-parse", "refs/orch/demo/a/1") == kept
    repo.orch("cleanup", "demo", "--force")
    repo.dispatch(file)
    assert repo.task("a")["status"] == "passed"


def test_a_root_of_worktrees_that_cannot_be_made(repo):
    """It was found when the first worktree was to be made, as an error of orch's own."""
    root = str(repo.home / ("x" * 300))
    said = repo.orch("dispatch", repo.plan(TASK), status=73, env={"ORCH_WORKTREE_ROOT": root}).err
    assert "set worktree_root in [orch]" in said and "File name too long" in said
    assert repo.task("a")["attempt"] == 0
