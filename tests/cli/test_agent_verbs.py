# SPDX-License-Identifier: MIT
"""orch task, check, progress, finding, done: the agent's own commands, from inside a real dispatch."""

import json
import os

import pytest

from conftest import orch_bin, wait_until


def events(repo, kind, task="a"):
    return [e["data"] for e in repo.orch("log", task, "--json").lines if e["kind"] == kind]


def test_all_of_them_end_to_end(repo):
    repo.write("Makefile", "check:\n\ttest -e wanted\n")
    repo.git("add", "Makefile")
    repo.git("commit", "-qm", "make")
    repo.orch("dispatch", repo.plan("""
[invariant:check]
command = make check
[task:a]
prompt = Make the file wanted.
invariants = check
""" .replace("prompt = Make the file wanted.", """command = set -e
    orch task | grep -q 'attempt 1 at task a of plan demo'
    if orch check > before; then exit 10; fi
    grep -q '^check: failed' before
    orch progress 'half way'
    echo 'details; "quoted"' | orch finding --severity=high --title='a thing'
    touch wanted; rm before
    orch check --json | grep -q '"passed":true'
    orch done""")))
    assert repo.task("a")["status"] == "passed"
    assert {"text": "half way"} in events(repo, "progress")
    assert events(repo, "finding") == [
        {"severity": "high", "title": "a thing", "body": 'details; "quoted"\n'}]
    findings = repo.status()["findings"]
    assert findings["count"] == 1 and len(findings["sha256"]) == 64


def test_blocked_escalates_at_once(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = echo x > a; orch done --blocked='which port?'; exit 1\n"), status=1)
    task = repo.task("a")
    assert (task["status"], task["outcome"], task["attempt"]) == ("escalated", "blocked", 1)
    assert "which port?" in task["reason"]


def test_not_needed_passes_without_a_change(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = orch done --not-needed='it is there already'\n"))
    task = repo.task("a")
    assert (task["status"], task["outcome"]) == ("passed", "not_needed")


def test_not_needed_does_not_excuse_a_failure(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = orch done --not-needed=x; exit 3\nretry_max = 0\n"), status=1)
    assert repo.task("a")["outcome"] == "agent_error"


def test_a_forged_token_is_refused(repo):
    repo.orch("dispatch", repo.plan(
        "[task:a]\ncommand = if ORCH_AGENT_TOKEN=wrong orch progress x 2> err; then exit 9; fi;"
        " grep -q 'not the token' err\n"))
    assert repo.task("a")["status"] == "passed"
    assert {"text": "x"} not in events(repo, "progress")


@pytest.mark.parametrize("verb", ["dispatch", "status", "approve", "plan", "stop", "config"])
def test_operator_verbs_are_not_for_agents(repo, verb):
    repo.orch("dispatch", repo.plan(
        f"[task:a]\ncommand = orch {verb} list; echo $? > status; ORCH_AGENT_TOKEN= orch {verb} x;"
        " echo $? >> status\n"))
    assert repo.git("show", "orch/demo/integration:status") == "64\n64"


@pytest.mark.parametrize("args", [["task"], ["check"], ["progress", "x"], ["done"],
                                  ["finding", "--severity=low", "--title=x"]])
def test_an_agents_verbs_mean_nothing_elsewhere(repo, args):
    assert "agent" in repo.orch(*args, status=64).err


@pytest.mark.parametrize("words", ["finding --severity=odd --title=x", "finding --severity=low",
                                   "progress", "progress ''", "done --blocked=", "done x",
                                   "done --blocked=a --not-needed=b"])
def test_bad_words(repo, words):
    repo.orch("dispatch", repo.plan(
        f"[task:a]\ncommand = orch {words} < /dev/null; echo $? > status\n"))
    assert repo.git("show", "orch/demo/integration:status") == "64"


def test_they_work_while_no_engine_lives(repo):
    go = repo.home / "go"
    process = repo.popen("dispatch", repo.plan(
        f"[task:a]\ncommand = touch a {repo.home}/up; while [ ! -e {go} ]; do sleep 0.02; done;"
        f" orch progress 'alone'; touch {repo.home}/said\n"))
    wait_until((repo.home / "up").exists)
    process.kill()
    repo.finish(process)
    go.touch()
    wait_until((repo.home / "said").exists)
    repo.orch("dispatch", "demo")
    assert repo.task("a")["attempt"] == 1
    assert events(repo, "progress").count({"text": "alone"}) == 1
