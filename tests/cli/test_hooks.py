# SPDX-License-Identifier: MIT
"""[hook] on_review, on_escalated, on_halt: called once each with JSON, and never in the way."""

import json

PLAN = """
[task:seen]
command = echo seen > seen
gate = human_review
[task:bad]
command = exit 3
retry_max = 0
[task:good]
command = echo good > good
"""


def hooks(repo, **commands):
    text = "".join(f"{name} = {command}\n" for name, command in commands.items())
    repo.write("orch.ini", f"[hook]\n{text}")


def heard(repo, name):
    return [json.loads(line) for line in (repo.home / name).read_text().splitlines()]


def test_each_is_told_what_happened(repo):
    hooks(repo, on_review="cat >> $HOME/review", on_escalated="cat >> $HOME/escalated",
          on_halt="cat >> $HOME/halt; orch status > $HOME/status; pwd > $HOME/where")
    path = repo.env["PATH"]
    repo.dispatch(repo.plan(PLAN), status=2, env={"PATH": path})
    assert heard(repo, "review") == [{
        "version": 1, "hook": "on_review", "plan": "demo", "task": "seen", "from": "checking",
        "to": "awaiting_review", "attempt": 1, "outcome": "ok", "reason": None}]
    escalated, = heard(repo, "escalated")
    assert (escalated["hook"], escalated["task"], escalated["outcome"]) == (
        "on_escalated", "bad", "agent_error")
    assert escalated["reason"].startswith("agent_error: ")
    halt, = heard(repo, "halt")
    commit = halt.pop("commit")
    assert halt == {"version": 1, "hook": "on_halt", "plan": "demo", "reason": "review_required",
                    "exit_status": 2, "also": ["failed"],
                    "tasks": {"awaiting_review": 1, "escalated": 1, "passed": 1}}
    assert commit["oid"] == repo.git("rev-parse", "refs/orch/state")
    assert (repo.home / "where").read_text().strip() == str(repo.path)


def test_one_that_fails_is_a_warning(repo):
    hooks(repo, on_halt="exit 7")
    result = repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"))
    assert "the hook on_halt ended with status 7" in result.err


def test_what_it_leaves_behind_is_ended(repo):
    hooks(repo, on_halt="sleep 600 & sleep 600 & exit 0")
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"))


def test_one_that_hangs_is_ended_in_time(repo):
    hooks(repo, on_review="sleep 600", on_halt="sleep 600")
    result = repo.dispatch(repo.plan(PLAN), status=2, timeout=100)
    assert result.err.count("took longer than 30 s") == 2


def test_an_interrupt_has_its_halt_too(repo):
    hooks(repo, on_halt="cat >> $HOME/halt")
    process = repo.popen("dispatch", repo.plan("[task:a]\ncommand = touch $HOME/up; sleep 60\n"))
    while not (repo.home / "up").exists():
        assert process.poll() is None
    process.terminate()
    assert repo.finish(process).status == 130
    assert heard(repo, "halt")[0]["reason"] == "interrupted"


def test_none_of_them_is_for_a_person_s_words(repo):
    """The text of a reason is data: nothing of it reaches the shell."""
    hooks(repo, on_escalated="cat >> $HOME/escalated")
    repo.dispatch(repo.plan("[task:a]\nretry_max = 0\ncommand = "
                            "orch done --blocked='$(touch $HOME/pwned); \"\\\\'\n"), status=1)
    assert '$(touch' in heard(repo, "escalated")[0]["reason"]
    assert not (repo.home / "pwned").exists()
