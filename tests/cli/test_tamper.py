# SPDX-License-Identifier: MIT
"""What an agent does to the repository that it shares with the user is noticed (A8.10), and so is a
token that is not its own."""

import json
import signal

import pytest

from conftest import wait_until


def findings(repo):
    return [json.loads(row["data"]) for row in
            repo.db("SELECT data FROM event WHERE kind = 'finding' ORDER BY seq")]


@pytest.mark.parametrize("command, words", [
    ("git branch mine", "refs/heads/mine is new"),
    ("git tag v1", "refs/tags/v1 is new"),
    ("git update-ref refs/heads/main $(git commit-tree -m x HEAD^{tree})",
     "refs/heads/main changed from"),
    ("git config user.name me", "config was changed"),
    ("echo x > y; git add y; git stash -q", "refs/stash is new"),
    ("printf 'exit 0' > $(git rev-parse --git-common-dir)/hooks/pre-commit", "hooks/pre-commit"),
    ("echo secret >> $(git rev-parse --git-common-dir)/info/exclude", "info/exclude"),
])
def test_it_is_a_high_finding(repo, command, words):
    result = repo.dispatch(repo.plan(f"[task:a]\ncommand = {command}; echo a > a\n"))
    finding, = findings(repo)
    assert finding["severity"] == "high" and words in finding["title"] + finding["body"]
    assert "the shared repository was changed" in result.err
    assert repo.status()["findings"]["count"] == 1


def test_what_it_does_in_its_own_is_none(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a; git add a; git commit -qm mine\n"
                            "[task:b]\ncommand = git checkout -q --detach; echo b > b\n"
                            "depends_on = a\n"))
    assert findings(repo) == [] and repo.status()["findings"] == {"count": 0, "sha256": None}


def test_what_the_user_does_between_two_agents_is_none(repo):
    plan = repo.plan("[task:a]\ncommand = echo a > a\n[task:b]\ncommand = echo b > b\n")
    repo.dispatch(plan, "--cap=1", status=4)
    repo.git("branch", "users-own")
    repo.dispatch(plan)
    assert findings(repo) == []


def test_it_is_said_once_with_those_that_ran(repo):
    process = repo.popen("dispatch", repo.plan(
        "[task:a]\ncommand = while [ ! -e $HOME/up ]; do sleep 0.02; done; git branch mine;"
        " echo a > a\n"
        "[task:b]\ncommand = touch $HOME/up; while [ ! -e $HOME/said ]; do sleep 0.02; done;"
        " echo b > b\n", max_agents=2))
    wait_until(lambda: (repo.home / "up").exists() and findings(repo),
               what="the finding")
    (repo.home / "said").touch()
    assert repo.finish(process).status == 0
    finding, = findings(repo)
    assert "demo/b" in finding["body"]


def test_who_did_it_is_among_those_named(repo):
    """Also when its agent has ended, and another's end is looked at first."""
    names = ("one", "guilty", "two", "three")
    repo.dispatch(repo.plan("".join(
        f"[task:{name}]\ncommand = touch $HOME/up-{name}; until [ $(ls $HOME | grep -c up-) = 4 ]; "
        f"do sleep 0.02; done; {'git branch mine;' if name == 'guilty' else ''} echo x > {name}\n"
        for name in names), max_agents=4))
    finding, = findings(repo)
    by, = repo.db("SELECT t.name FROM event e JOIN task t ON t.id = e.task_id "
                  "WHERE e.kind = 'finding'")
    assert by["name"] == "guilty" or "demo/guilty" in finding["body"], (by, finding)


@pytest.mark.parametrize("how", ["git branch -f orch/demo/integration main",
                                 "git update-ref -d refs/heads/orch/demo/integration"])
@pytest.mark.parametrize("ends", ["echo b > b", "exit 3"])
def test_the_integration_branch_is_put_back(repo, how, ends):
    """What was merged stays merged, whoever moves or removes the branch; also with no merge after."""
    result = repo.dispatch(repo.plan(
        "[task:a]\ncommand = echo a > a\n"
        f"[task:b]\ncommand = {how}; {ends}\ndepends_on = a\nretry_max = 0\n"),
        status=0 if ends == "echo b > b" else 1)
    assert "did not hold any more what was merged into it; it was put back" in result.err
    assert repo.git("show", "orch/demo/integration:a") == "a"
    if ends == "echo b > b":
        assert repo.git("show", "orch/demo/integration:b") == "b"
        finding, = findings(repo)
        assert finding["severity"] == "high" and "orch/demo/integration" in finding["title"]


def test_a_branch_that_is_gone_is_not_begun_anew(repo):
    """Between two engines: nothing stands in its place, where it is still to be brought back."""
    plan = repo.plan("[task:a]\ncommand = echo a > a\n"
                     "[task:b]\ncommand = echo b > b\ndepends_on = a\n")
    repo.dispatch(plan, "--cap=1", status=4)
    tip = repo.git("rev-parse", "orch/demo/integration")
    repo.git("update-ref", "-d", "refs/heads/orch/demo/integration")
    assert "bring the branch back" in repo.dispatch(plan, status=65).err
    repo.git("update-ref", "refs/heads/orch/demo/integration", tip, "0" * len(tip))
    repo.dispatch(plan)
    assert repo.git("show", "orch/demo/integration:b") == "b"


@pytest.mark.parametrize("adopted", [False, True])
def test_it_is_found_by_the_next_engine(repo, adopted):
    """The engine that saw how the agent began is dead when the agent does it."""
    plan = repo.plan("[task:a]\ncommand = touch $HOME/up; while [ ! -e $HOME/go ]; do sleep 0.02;"
                     " done; git branch mine; echo a > a; touch $HOME/changed\n")
    process = repo.popen("dispatch", plan)
    wait_until((repo.home / "up").exists, what="the agent")
    process.kill()
    repo.finish(process)
    if not adopted:
        (repo.home / "go").touch()
        wait_until((repo.home / "changed").exists, what="the change")
    again = repo.popen("dispatch", plan)
    if adopted:
        wait_until(lambda: repo.orch("status", "--json").json["engine"]["running"])
        (repo.home / "go").touch()
    result = repo.finish(again)
    assert result.status == 0, result
    finding, = findings(repo)
    assert "refs/heads/mine is new" in finding["title"]
    assert repo.task("a")["attempt"] == 1


def test_what_the_user_did_before_the_next_engines_agents_is_none(repo):
    """Nothing of an earlier engine's runs any more: what it had seen is nobody's business."""
    plan = repo.plan("[task:a]\ncommand = echo a > a\n[task:b]\ndepends_on = a\n"
                     "command = touch $HOME/up; while [ ! -e $HOME/go ]; do sleep 0.02; done;"
                     " echo b > b\n")
    process = repo.popen("dispatch", plan)
    wait_until((repo.home / "up").exists, what="the agent")
    process.send_signal(signal.SIGTERM)
    assert repo.finish(process).status == 130
    repo.git("branch", "users-own")
    (repo.home / "go").touch()
    repo.dispatch(plan)
    assert findings(repo) == []


GIT = ("#!/bin/sh\ncase \" $* \" in *' write-tree '*) mkdir $HOME/writing 2> $HOME/twice &&"
       " while [ ! -e $HOME/other ]; do sleep 0.02; done;; esac\nPATH={path} exec git \"$@\"\n")


def test_an_agent_that_begins_before_the_last_ones_work_is_committed(repo, tmp_path):
    tool = tmp_path / "bin/git"
    tool.parent.mkdir()
    tool.write_text(GIT.format(path=repo.env["PATH"]))
    tool.chmod(0o755)
    plan = repo.plan("[task:a]\ncommand = git branch mine; echo a > a\n"
                     "[task:b]\ncommand = touch $HOME/other; echo b > b\n")
    repo.orch("plan", "import", plan)
    repo.orch("pause", "demo/b")
    process = repo.popen("dispatch", plan, env={**repo.env,
                                                "PATH": f"{tool.parent}:{repo.env['PATH']}"})
    wait_until((repo.home / "writing").exists, what="the commit of a")
    repo.orch("resume", "demo/b")
    assert repo.finish(process).status == 0
    finding, = findings(repo)
    assert "refs/heads/mine is new" in finding["title"]


def test_a_forged_token_is_logged(repo):
    repo.dispatch(repo.plan(
        "[task:a]\ncommand = for i in $(seq 30); do ORCH_AGENT_TOKEN=wrong orch progress x; done;"
        " ORCH_AGENT_TOKEN=wrong orch done --not-needed=x; echo a > a\n"))
    errors = [line["data"] for line in repo.orch("log", "a", "--json").lines
              if line["kind"] == "error"]
    assert errors[0] == {"code": "forged_token",
                         "text": "progress with a token that is not this unit's was refused"}
    assert len(errors) == 20  # whoever tries often is not heard more often
    assert repo.task("a")["outcome"] == "ok"


def test_a_stale_token_is_refused(repo):
    """The second attempt finds what the first one knew itself by."""
    repo.dispatch(repo.plan(
        "[task:a]\ncommand = if [ $ORCH_ATTEMPT = 1 ]; then echo $ORCH_AGENT_TOKEN > $HOME/token;"
        " exit 1; fi; ORCH_AGENT_TOKEN=$(cat $HOME/token) orch progress x || echo refused > a\n"))
    assert repo.git("show", "orch/demo/integration:a") == "refused"


def test_another_units_token_is_refused(repo):
    repo.dispatch(repo.plan(
        "[task:b]\ncommand = echo $ORCH_AGENT_TOKEN > $HOME/token; touch $HOME/up;"
        " while [ ! -e $HOME/done ]; do sleep 0.02; done; echo b > b\n"
        "[task:a]\ncommand = while [ ! -e $HOME/up ]; do sleep 0.02; done;"
        " ORCH_AGENT_TOKEN=$(cat $HOME/token) orch finding --severity=low --title=x < /dev/null"
        " || echo refused > a; touch $HOME/done\n", max_agents=2))
    assert repo.git("show", "orch/demo/integration:a") == "refused" and findings(repo) == []


def test_the_next_attempt_is_told_what_the_last_one_changed(repo):
    repo.dispatch(repo.plan(
        "[invariant:two]\ncommand = test -e two\n[task:a]\ninvariants = two\n"
        "command = if [ $ORCH_ATTEMPT = 1 ]; then echo > one; else echo > two;"
        " cp $ORCH_PROMPT_FILE prompt; fi\n"))
    prompt = repo.git("show", "orch/demo/integration:prompt")
    assert "what attempt 1 had changed" in prompt and "one | 1 +" in prompt


def test_a_task_is_told_what_its_dependencies_did(repo):
    said = '{"kind":"message","data":{"text":"the parser is in parse.c"}}'
    repo.dispatch(repo.plan(
        f"[task:first]\ncommand = echo '{said}' >&$ORCH_EVENT_FD; echo x > x\n"
        "[task:second]\ncommand = cp $ORCH_PROMPT_FILE prompt\ndepends_on = first\n"))
    prompt = repo.git("show", "orch/demo/integration:prompt")
    assert "- first (commit " in prompt and "it said at the end: the parser is in parse.c" in prompt
