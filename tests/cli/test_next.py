# SPDX-License-Identifier: MIT
"""What a summary says to type next is what goes on."""

import re

from conftest import wait_until

HELD = "touch $HOME/up; echo half > half; while ! test -e $HOME/go; do sleep 0.02; done; echo a > a"


def interrupt(repo, *args):
    """A dispatch whose first agent is at work, stopped; the commands of its `next:` line."""
    process = repo.popen("dispatch", *args)
    wait_until(lambda: (repo.home / "up").exists() or process.poll() is not None)
    process.terminate()
    result = repo.finish(process)
    assert result.status == 130, result
    return commands(result.out)


def commands(text):
    line = next(line for line in text.splitlines() if line.startswith("next: "))
    return [words.split()[1:] for words in re.findall("`(orch [^`]*)`", line)]


def test_a_prompt_with_a_harness_goes_on_by_name(repo):
    repo.write("orch.ini", f"[harness:shell]\ncommand = {HELD}\n")
    [again] = interrupt(repo, "--harness=shell", "--prompt=Write a file")
    assert len(again) == 2 and "harness = shell" in repo.orch("plan", "show", again[1]).out
    (repo.home / "go").touch()
    assert "completed" in repo.orch(*again).out


def test_the_same_prompt_goes_on_with_or_without_its_harness(repo):
    repo.write("orch.ini", f"[harness:shell]\ncommand = {HELD}\n[harness:other]\nplugin = shell\n")
    interrupt(repo, "--harness=shell", "--prompt=Write a file")
    (repo.home / "up").unlink()
    interrupt(repo, "--prompt=Write a file")
    (repo.home / "up").unlink()
    [again] = interrupt(repo, "--prompt=Write a file", "--harness=shell")
    repo.orch("plan", "set", again[1], "token_budget=1000")
    (repo.home / "go").touch()
    assert repo.dispatch("--harness=shell", "--prompt=Write a file").halt["plan"] == again[1]
    assert "token_budget = 1000" in repo.orch("plan", "show", again[1]).out


def test_another_harness_is_named(repo):
    plan = repo.plan(f"[task:a]\ncommand = {HELD}\n", harness="nowhere")
    [again] = interrupt(repo, plan, "--harness=shell")
    assert again == ["dispatch", "demo", "--harness=shell"]
    (repo.home / "go").touch()
    assert "completed" in repo.orch(*again).out


def test_the_harness_of_the_plan_needs_no_naming(repo):
    [again] = interrupt(repo, repo.plan(f"[task:a]\ncommand = {HELD}\n"), "--harness=shell")
    assert again == ["dispatch", "demo"]


def test_another_harness_is_named_after_a_failure(repo):
    plan = repo.plan("[task:a]\ncommand = false\nretry_max = 0\n", harness="nowhere")
    result = repo.orch("dispatch", plan, "--harness=shell", status=1)
    assert commands(result.out)[-1] == ["dispatch", "demo", "--harness=shell"]


SPENDS = ("[task:{0}]\nharness = {1}\ncommand = echo '{{\"kind\":\"usage\",\"data\":{{\"input\":60,"
          "\"output\":60}}}}' >&$ORCH_EVENT_FD; echo {0} > {0}\n")
AFTER = "[task:{0}]\nharness = {1}\ncommand = echo {0} > {0}\ndepends_on = a\n"


def test_a_spent_budget_is_raised_first(repo):
    plan = repo.plan(SPENDS.format("a", "shell") + AFTER.format("b", "shell"), token_budget=100)
    result = repo.orch("dispatch", plan, status=3)
    raise_it, again = commands(result.out)
    assert raise_it == ["plan", "set", "demo", "token_budget=N"]
    assert "120 of 100 tokens" in result.out and "goes on" not in result.out
    repo.orch(*again, status=3)
    repo.orch("plan", "set", "demo", "token_budget=1000")
    repo.orch(*again)


def test_a_spent_budget_is_raised_first_after_an_interruption_too(repo):
    """The agent takes its time to end, and is interrupted meanwhile."""
    plan = repo.plan(SPENDS.format("a", "shell").replace("command = ", "command = trap '' TERM; ")
                     .replace("echo a", f"{HELD}; echo a"), token_budget=100)
    process = repo.popen("dispatch", plan, env={**repo.env, "ORCH_DRAIN_TIMEOUT": "30s"})
    wait_until(lambda: (repo.home / "up").exists() and repo.status()["tokens"]["input"])
    repo.orch("stop", "demo")
    (repo.home / "go").touch()
    result = repo.finish(process)
    assert result.status == 130 and "interrupted, budget_exceeded" in result.out, result
    assert commands(result.out)[0][:2] == ["plan", "set"]


def test_a_spent_budget_of_a_harness_is_raised_in_the_configuration(repo):
    repo.write("orch.ini", "[harness:dear]\nplugin = shell\ntoken_budget = 100\n")
    plan = repo.plan(SPENDS.format("a", "dear") + AFTER.format("b", "dear"))
    result = repo.orch("dispatch", plan, status=3)
    assert commands(result.out) == [["dispatch", "demo"]]
    assert "token_budget of [harness:dear]" in result.out and "120 of 100 tokens" in result.out
