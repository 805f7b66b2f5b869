# SPDX-License-Identifier: MIT
"""rate_limited and auth_failed: the breaker of a credential (A7). The plugin `limits` says so when its agent
exits with 75 (for as long as its option tells) or 77."""

import datetime
import os
import pathlib

import pytest

from conftest import wait_until

PLUGINS = os.environ.get("ORCH_TEST_PLUGINS", "")
BUILD_PLUGINS = pathlib.Path(PLUGINS).parent.parent / "plugins"
HOUR = 3600 * 1000


@pytest.fixture
def limited(repo):
    assert PLUGINS, "ORCH_TEST_PLUGINS must name the directory of the test plugins (ctest sets it)"
    repo.env["ORCH_PLUGIN_PATH"] = f"{PLUGINS}:{BUILD_PLUGINS}"
    return repo


def stamp(ms):
    at = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def wait_for(repo, ms):
    repo.write("orch.ini", f"[harness:limits]\nturns = {ms}\n")


def task(name, script, harness="limits", **keys):
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[task:{name}]\ncommand = {script}\nharness = {harness}\n{lines}"


ONCE = "if [ ! -e $HOME/hit ]; then touch $HOME/hit; exit 75; fi; echo x > $ORCH_TASK"


def attempts(repo):
    return {t["name"]: t["attempt"] for t in repo.status()["tasks"]}


def breaker(repo):
    return {row["credential"]: row["open_until"] for row in repo.db("SELECT * FROM breaker")}


def test_all_wait_for_one_that_tries(limited):
    """The limit is over after a while; no retry was used for it."""
    wait_for(limited, 1500)
    result = limited.dispatch(limited.plan("".join(
        task(name, ONCE, retry_max=0) for name in "abc"), max_agents=1))
    assert attempts(limited) == {"a": 2, "b": 1, "c": 1}
    told = [line for line in result.lines[:-1] if line["outcome"] == "rate_limited"]
    assert [line["to"] for line in told] == ["failed", "pending"]
    assert breaker(limited) == {"limits": 0}


def test_others_go_on_and_then_it_is_the_breaker(limited):
    """A wait that is longer than max_wait is not worth waiting for."""
    wait_for(limited, 7 * HOUR)
    result = limited.dispatch(limited.plan(
        task("a", "exit 75") + task("b", "echo b > b", harness="shell") +
        task("c", "echo c > c", harness="shell", depends_on="b")), status=5)
    assert result.halt["reason"] == "circuit_breaker"
    assert result.halt["tasks"] == {"pending": 1, "passed": 2}
    assert limited.task("a")["reason"].startswith("rate_limited")


def test_the_next_engine_knows_it(limited):
    wait_for(limited, HOUR)
    plan = limited.plan(task("a", "exit 75") + task("b", "echo b > b"), max_agents=1)
    process = limited.popen("dispatch", "--json", plan)
    wait_until(lambda: limited.orch("status", "--json").json["plans"] and
               (limited.task("a")["reason"] or "").startswith("rate_limited"))
    process.terminate()
    assert limited.finish(process).status == 130
    assert attempts(limited) == {"a": 1, "b": 0}
    again = limited.dispatch("demo", status=5, env={"ORCH_RETRY_MAX_WAIT": "1m"})
    assert [line["type"] for line in again.lines] == ["halt"]
    assert attempts(limited) == {"a": 1, "b": 0}


def test_a_refused_login_halts_once_nothing_else_can_run(limited):
    plan = limited.plan(
        task("a", "test -e $HOME/login || exit 77; echo a > a", retry_max=0) +
        task("b", "test -e $HOME/login || exit 77; echo b > b") +
        task("c", "echo c > c", harness="shell"), max_agents=1)
    result = limited.dispatch(plan, status=5)
    assert result.halt["reason"] == "circuit_breaker"
    assert result.halt["tasks"] == {"pending": 2, "passed": 1}
    assert attempts(limited) == {"a": 1, "b": 0, "c": 1}
    # Still not logged in: one tries, the others are spared.
    assert limited.dispatch(plan, status=5, env={"ORCH_MAX_AGENTS": "4"}).halt["reason"] == (
        "circuit_breaker")
    assert attempts(limited) == {"a": 2, "b": 0, "c": 1}
    (limited.home / "login").touch()
    assert limited.dispatch(plan).halt["reason"] == "completed"
    assert attempts(limited) == {"a": 3, "b": 1, "c": 1}
    assert breaker(limited) == {"limits": 0}


def test_a_time_that_is_past_is_no_time(limited):
    """It would be tried again and again; so it waits as if no time were named, a minute."""
    wait_for(limited, -HOUR)
    limited.dispatch(limited.plan(task("a", "exit 75")), status=5, timeout=20,
                     env={"ORCH_RETRY_MAX_WAIT": "30s"})
    assert attempts(limited) == {"a": 1}


def test_the_summary_names_what_opened_the_breaker(limited):
    wait_for(limited, 7 * HOUR)
    out = limited.orch("dispatch", limited.plan(task("a", "exit 75")), status=5).out
    until, = breaker(limited).values()
    assert f"circuit breaker: harness 'limits' is rate-limited until {stamp(until)}" in out


def test_the_summary_names_a_refused_login(limited):
    out = limited.orch("dispatch", limited.plan(task("a", "exit 77")), status=5).out
    assert "circuit breaker: harness 'limits' was refused its login" in out


def test_the_summary_counts_what_failed_in_a_row(repo):
    out = repo.orch("dispatch", repo.plan("[task:a]\ncommand = exit 3\nretry_max = 9\n"), status=5,
                    env={"ORCH_RETRY_BREAKER": "3"}).out
    assert "circuit breaker: 3 attempts in a row failed" in out and "rate-limited" not in out


def two_harnesses(repo, one, other, ms=7 * HOUR):
    repo.write("orch.ini", f"[harness:limits]\nturns = {ms}\n{one}\n"
               f"[harness:other]\nplugin = limits\nturns = {ms}\n{other}\n")
    repo.write("one.env", "ANY_KEY=first\n")
    repo.write("same.env", "# the same\nexport ANY_KEY='first'\n")
    repo.write("two.env", "ANY_KEY=second\n")
    repo.env["MY_API_KEY"] = "sesame-open"


@pytest.mark.parametrize("one, other", [
    ("", ""), ("", "max_agents = 1"),
    ("pass_env = MY_API_KEY", "pass_env = MY_API_KEY, LC_ALL"),
    ("env_file = one.env", "env_file = same.env")])
def test_a_credential_has_one_limit_whichever_harness_uses_it(limited, one, other):
    two_harnesses(limited, one, other)
    result = limited.dispatch(limited.plan(
        task("a", "exit 75") + task("b", "echo b > b", harness="other"), max_agents=1), status=5)
    assert result.halt["tasks"] == {"pending": 2}
    assert attempts(limited) == {"a": 1, "b": 0}
    name, = breaker(limited)
    assert name.split()[0] == "limits" and "sesame" not in name and "first" not in name


@pytest.mark.parametrize("one, other", [
    ("pass_env = MY_API_KEY", ""), ("env_file = one.env", "env_file = two.env"),
    ("", "home = ~/elsewhere")])
def test_limits_of_one_credential_are_not_anothers(limited, one, other):
    two_harnesses(limited, one, other)
    result = limited.dispatch(limited.plan(
        task("a", "exit 75") + task("b", "echo b > b", harness="other"), max_agents=1), status=5)
    assert result.halt["tasks"] == {"pending": 1, "passed": 1}


def test_all_harnesses_of_a_credential_wait_for_one_that_tries(limited):
    two_harnesses(limited, "", "max_agents = 1", ms=1500)
    limited.dispatch(limited.plan(
        task("a", ONCE, retry_max=0) + task("b", ONCE, harness="other", retry_max=0) +
        task("c", ONCE, harness="other", retry_max=0), max_agents=1))
    assert attempts(limited) == {"a": 2, "b": 1, "c": 1}
    assert breaker(limited) == {"limits": 0}


def test_two_attempts_that_change_nothing_are_enough(repo):
    result = repo.dispatch(repo.plan("[task:a]\ncommand = true\nretry_max = 9\n"), status=1)
    assert result.last("a")["reason"].startswith("no_change")
    assert repo.task("a")["attempt"] == 2


def test_a_failing_agent_is_not_tried_again_at_once(repo):
    """Backoff doubles, with a jitter of at most a quarter less."""
    repo.dispatch(repo.plan("[task:a]\ncommand = exit 3\nretry_max = 3\n"), status=1,
                  env={"ORCH_RETRY_BACKOFF": "400ms", "ORCH_RETRY_BREAKER": "0"})
    rows = repo.db("SELECT started_at, ended_at FROM attempt ORDER BY number")
    waits = [b["started_at"] - a["ended_at"] for a, b in zip(rows, rows[1:])]
    assert [wait >= least for wait, least in zip(waits, (300, 600, 1200))] == [True] * 3, waits


def test_an_announced_wait_counts_for_no_deadline(repo):
    """Neither for the keeper's nor for the engine's own, half a minute behind it."""
    says = ("until=$(( ($(date +%s) + 70) * 1000 )); echo '{\"kind\":\"rate_limit\",\"data\":"
            "{\"until\":'$until',\"text\":\"\"}}' >&$ORCH_EVENT_FD")
    plan = repo.plan(f"[task:a]\ncommand = {says}; sleep 45; echo a > a\ntimeout = 1s\n")
    result = repo.dispatch(plan, env={"ORCH_KILL_GRACE": "100ms"}, timeout=150)
    assert result.last("a")["attempt"] == 1, result
