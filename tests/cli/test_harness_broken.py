# SPDX-License-Identifier: MIT
"""A missing or broken harness is a failed result, never an abort (A8.5)."""

import os
import pathlib

import pytest

PLUGINS = os.environ.get("ORCH_TEST_PLUGINS", "")
BUILD_PLUGINS = pathlib.Path(PLUGINS).parent.parent / "plugins"

# name: the outcome, and a word that its reason has besides the plugin's path
INVALID = {
    "not-elf": "",
    "no-symbol": "orch_harness",
    "wrong-magic": "magic",
    "wrong-major": "99",
    "short-struct": "",
    "no-name": "name",
    "bad-option": "patience",
    "null-spawn": "spawn",
    "null-kill": "kill",
    "null-wait": "wait",
    "long-struct": "",
}
CRASHED = {
    **{f"{where}-crash": "crashed with SIGABRT in " for where in ("ctor", "spawn", "wait",
                                                                  "release")},
    **{f"{where}-exit": "ended its process with exit status 0 in "
       for where in ("ctor", "spawn", "wait", "release")},
}
HUNG = dict.fromkeys(["ctor-hang", "ctor-daemon", "spawn-hang", "release-hang"],
                     "did not return within 1000 ms in ")
GOOD = ("good", "old-minor", "new-minor")


@pytest.fixture
def env():
    assert PLUGINS, "ORCH_TEST_PLUGINS must name the directory of the test plugins (ctest sets it)"
    return {"ORCH_PLUGIN_PATH": f"{PLUGINS}:{BUILD_PLUGINS}", "ORCH_CALLBACK_TIMEOUT": "1s",
            "ORCH_KILL_GRACE": "200ms"}


def task(name, harness=None, command="echo x > $ORCH_TASK", **keys):
    keys = {"retry_max": 0, **keys}
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[task:{name}]\ncommand = {command}\nharness = {harness or name}\n{lines}"


def test_a_harness_that_gives_no_reason(repo, env):
    plan = repo.plan(task("a", "good", "exit 3") + task("b", "good", "kill -KILL $$"))
    result = repo.dispatch(plan, env=env, status=1)
    assert result.last("a")["reason"] == "agent_error: the agent ended with status 3"
    assert "ended by signal 9" in result.last("b")["reason"]


def test_a_harness_that_is_missing_is_named_once(repo, env):
    plan = repo.plan(task("a", "nope"))
    err = repo.dispatch(plan, env=env, status=1).err
    assert "warning: harness 'nope' not found: " in err and "'nope': harness" not in err
    repo.write("orch.ini", "[harness:mine]\nplugin = nope\n")
    err = repo.dispatch(repo.plan(task("a", "mine"), name="two"), env=env, status=1).err
    assert "harness 'mine': harness 'nope' not found" in err


def test_one_plan_with_every_defect(repo, env):
    broken = [*INVALID, *CRASHED, *HUNG]
    plan = repo.plan("".join(task(name) for name in [*broken, *GOOD, "shell", "nowhere"]),
                     max_agents=12)
    result = repo.dispatch(plan, env={**env, "ORCH_RETRY_BREAKER": "0"}, status=1, timeout=90)
    told = {name: result.last(name) for name in [*broken, "nowhere"]}
    for name in (*GOOD, "shell"):
        assert result.last(name)["to"] == "passed", result.last(name)
    expected = {**dict.fromkeys(INVALID, "harness_invalid"),
                **dict.fromkeys(CRASHED, "harness_crashed"),
                **dict.fromkeys(HUNG, "harness_hung"), "nowhere": "harness_missing"}
    assert {name: line["outcome"] for name, line in told.items()} == expected
    for name, word in {**INVALID, **CRASHED, **HUNG}.items():
        reason = told[name]["reason"]
        assert reason.startswith(expected[name] + ": "), reason
        assert f"harness '{name}' ({PLUGINS}/orch-harness-{name}.so)" in reason, reason
        assert word in reason, reason
    reason = told["nowhere"]["reason"]
    assert "nowhere" in reason and PLUGINS in reason and "orch-harness-nowhere.so" in reason
    assert result.halt["tasks"] == {"escalated": len(told), "passed": len(GOOD) + 1}


@pytest.mark.parametrize("name", ["spawn-crash", "spawn-hang", "ctor-exit"])
def test_a_harness_that_crashes_is_tried_again(repo, env, name):
    result = repo.dispatch(repo.plan(task(name, retry_max=1)), env=env, status=1)
    assert result.last(name)["attempt"] == 2


@pytest.mark.parametrize("name,harness", [("a", "nowhere"), ("a", "null-wait")])
def test_missing_and_invalid_escalate_at_once(repo, env, name, harness):
    result = repo.dispatch(repo.plan(task(name, harness, retry_max=5)), env=env, status=1)
    assert result.last(name)["attempt"] == 1 and result.last(name)["to"] == "escalated"


def test_no_other_harness_takes_its_place(repo, env):
    repo.write("orch.ini", "[orch]\ndefault_harness = shell\n")
    result = repo.dispatch(repo.plan(task("a", "nowhere")), env=env, status=1)
    assert result.last("a")["outcome"] == "harness_missing"
    left = repo.task("a")
    assert left["commit"] is None and left["branch"] is None  # no branch was made
    assert repo.git("ls-tree", "--name-only", "orch/demo/integration").split() == ["README"]


def test_without_any_harness_the_reason_says_how_to_name_one(repo, env):
    path = repo.write("../home/p.ini", "[plan]\nname = p\n[task:a]\nprompt = x\n")
    result = repo.dispatch(path, env=env, status=1)
    assert result.last("a")["outcome"] == "harness_missing"
    assert "--harness" in result.last("a")["reason"]


def test_a_wait_that_hangs_after_its_agent_ended(repo, env):
    """Nothing bounds wait() but the attempt's own time."""
    result = repo.dispatch("--timeout=1s", repo.plan(task("wait-hang")), env=env, status=1)
    last = result.last("wait-hang")
    assert last["reason"] == (
        "timed_out: timed out after 1s; harness 'wait-hang' "
        f"({PLUGINS}/orch-harness-wait-hang.so) did not return from wait")


BUSY = "echo part > part; setsid sleep 60; sleep 60"


@pytest.mark.parametrize("name,how", [("kill-crash", "crashed with SIGABRT in kill"),
                                      ("kill-exit", "exit status 0 in kill")])
def test_a_kill_that_crashes(repo, env, name, how):
    result = repo.dispatch("--timeout=500ms", repo.plan(task(name, command=BUSY)), env=env,
                           status=1)
    last = result.last(name)
    assert last["outcome"] == "harness_crashed"
    assert how in last["reason"] and "timed out after 0.500s" in last["reason"]
    assert f"harness '{name}' ({PLUGINS}/orch-harness-{name}.so)" in last["reason"]
    assert repo.git("show", f"refs/orch/demo/{name}/1:part") == "part"


def test_a_kill_that_hangs_is_overtaken(repo, env):
    result = repo.dispatch("--timeout=500ms", repo.plan(task("kill-hang", command=BUSY)), env=env,
                           status=1)
    last = result.last("kill-hang")
    assert last["outcome"] == "timed_out"
    assert last["reason"].endswith(
        f"harness 'kill-hang' ({PLUGINS}/orch-harness-kill-hang.so) did not return from kill")
    assert repo.git("show", "refs/orch/demo/kill-hang/1:part") == "part"


@pytest.mark.parametrize("name", ["release-crash", "release-exit", "release-hang"])
def test_a_release_that_misbehaves_costs_no_work(repo, env, name):
    repo.dispatch(repo.plan(task(name)), env=env, status=1)
    assert repo.git("show", f"refs/orch/demo/{name}/1:{name}") == "x"


def test_a_plugin_under_another_name(repo, env):
    repo.write("orch.ini", "[harness:mine]\nplugin = good\n[harness:his]\nplugin = wait-crash\n")
    result = repo.dispatch(repo.plan(task("a", "mine") + task("b", "his")), env=env, status=1)
    assert result.last("a")["to"] == "passed"
    assert f"harness 'his' ({PLUGINS}/orch-harness-wait-crash.so)" in result.last("b")["reason"]


def test_an_unknown_option_is_an_invalid_harness_not_an_abort(repo, env):
    repo.write("orch.ini", "[harness:mine]\nplugin = good\nbogus = 1\n")
    result = repo.dispatch(repo.plan(task("a", "mine") + task("b", "shell")), env=env, status=1)
    assert result.last("a")["outcome"] == "harness_invalid"
    assert result.last("a")["reason"].startswith(
        f"harness_invalid: harness 'mine' ({PLUGINS}/orch-harness-good.so): unknown option 'bogus'")
    assert result.last("b")["to"] == "passed"


def test_a_plugin_that_may_not_be_read(repo, env, tmp_path):
    there = tmp_path / "plugins"
    there.mkdir()
    (there / "orch-harness-dir.so").mkdir()
    (there / "orch-harness-empty.so").write_bytes(b"")
    (there / "orch-harness-link.so").symlink_to(there / "gone.so")
    (there / "orch-harness-fifo.so")
    os.mkfifo(there / "orch-harness-fifo.so")
    names = ["dir", "empty", "link", "fifo"]
    result = repo.dispatch(repo.plan("".join(map(task, names))),
                           env={**env, "ORCH_PLUGIN_PATH": str(there)}, status=1)
    for name in names:
        outcome = "harness_missing" if name == "link" else "harness_invalid"
        assert result.last(name)["outcome"] == outcome, result.last(name)
        assert f"orch-harness-{name}.so" in result.last(name)["reason"]


def test_a_broken_harness_says_nothing_of_the_plan(repo, env):
    """It does not open the plan's circuit breaker."""
    bad = "".join(task(f"bad{i}", "nowhere") for i in range(4))
    result = repo.dispatch(repo.plan(bad + task("good", priority=-5), max_agents=1),
                           env={**env, "ORCH_RETRY_BREAKER": "2"}, status=1)
    assert result.last("good")["to"] == "passed"
