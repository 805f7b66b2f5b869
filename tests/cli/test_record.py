# SPDX-License-Identifier: MIT
"""What the engine is told is recorded, and the record replays: the same calls, the same decisions."""

import json
import os
import re
import signal
import stat
import subprocess

import pytest

from conftest import TIMEOUT, wait_until

# Says that it has begun, and waits to be let go.
HELD = "touch $HOME/{0}-up; while ! test -e $HOME/{0}-go; do sleep 0.02; done; echo {0} > {0}"
DIAMOND = (
    "[task:a]\ncommand = echo a > a\n"
    "[task:b]\ncommand = test $ORCH_ATTEMPT = 2 && echo b > b\ndepends_on = a\n"
    f"[task:c]\ncommand = {HELD.format('c')}\ndepends_on = a\n"
    "[task:d]\ncommand = echo d > d\ndepends_on = b, c\ngate = human_review\n"
    f"[task:e]\ncommand = {HELD.format('e')}\n")


def records(repo):
    return sorted((repo.state_dir / "inputs").glob("*.jsonl"))


def lines(record):
    return [json.loads(line) for line in record.read_text().splitlines()]


def kinds(record):
    return {line.get("call") for line in lines(record)}


def replay(record, status=0, options=()):
    program = os.environ.get("ORCH_SIM_REPLAY")
    if not program:
        pytest.fail("ORCH_SIM_REPLAY must name sim-replay (ctest sets it)")
    done = subprocess.run([program, str(record), *options], capture_output=True, text=True,
                          timeout=TIMEOUT)
    assert done.returncode == status, (done, record.read_text())
    return done


def steps(record):
    return int(re.search(r": (\d+) steps, as they were recorded$", replay(record).stdout)[1])


def status_of(repo, task):
    return next(t["status"] for t in repo.status()["tasks"] if t["name"] == task)


def started(repo, *names):
    wait_until(lambda: all((repo.home / f"{name}-up").exists() for name in names), what="the agents")


def interrupted(repo, plan):
    process = repo.popen("dispatch", "--json", plan)
    started(repo, "c", "e")
    wait_until(lambda: status_of(repo, "b") == "passed", what="task b")
    repo.orch("plan", "set", "demo/d", "retry_max=1")
    repo.orch("plan", "set", "demo", "max_agents=5")
    repo.orch("pause", "demo/e")
    repo.orch("resume", "demo/e")
    process.send_signal(signal.SIGTERM)
    assert repo.finish(process).status == 130


def test_interrupted_approved_and_resumed(repo):
    plan = repo.plan(DIAMOND, max_agents=4)
    interrupted(repo, plan)
    first, = records(repo)
    assert steps(first) > 10
    assert "-> running" in replay(first, options=["--trace"]).stderr
    assert kinds(first) >= {"drop", "change_task", "change_plan"}
    assert any(line.get("text") == "the command exited with status 1" for line in lines(first))

    (repo.home / "c-go").touch()
    process = repo.popen("dispatch", "--json", plan)
    wait_until(lambda: status_of(repo, "d") == "awaiting_review", what="the review")
    repo.orch("approve", "demo/d", '--reason=fine: "so" \\ \x01\tünïcode 好')
    (repo.home / "e-go").touch()
    assert repo.finish(process).status == 0
    second = records(repo)[1]
    assert len(records(repo)) == 2
    assert steps(second) > 10
    said, = (line["text"] for line in lines(second) if "fine" in line.get("text", ""))
    assert said.encode("latin-1").decode() == 'fine: "so" \\ \x01\tünïcode 好'


def test_killed_and_adopted(repo):
    plan = repo.plan(DIAMOND.replace("gate = human_review\n", ""), max_agents=4)
    process = repo.popen("dispatch", "--json", plan)
    started(repo, "c", "e")
    process.kill()
    process.communicate()
    first, = records(repo)
    assert steps(first) > 3
    for name in "ce":
        (repo.home / f"{name}-go").touch()
    assert repo.dispatch(plan).halt["tasks"] == {"passed": 5}
    assert steps(records(repo)[1]) > 3


def test_targets_in_one_directory(repo):
    plan = repo.plan(
        "[task:a]\ncommand = false\nretry_max = 1\n[task:b]\ncommand = true\n"
        "[task:c]\ncommand = true\ndepends_on = b\npriority = -5\n", isolation="none")
    repo.dispatch(plan, "--target=a", "--target=c", "--auto-advance", status=1)
    repo.dispatch("demo", "--only=status=pending", "--cap=1", status=None)
    assert len(records(repo)) == 2
    for record in records(repo):
        assert steps(record) > 0


def test_files_are_private_and_ten(repo):
    inputs = repo.state_dir / "inputs"
    inputs.mkdir(parents=True)
    for day in range(10, 22):
        (inputs / f"2020-01-{day}T00-00-00.000Z-1.jsonl").touch()
    (inputs / "mine.txt").touch()
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"))
    kept = [record.name[:10] for record in records(repo)]
    assert kept[:9] == [f"2020-01-{day}" for day in range(13, 22)] and len(kept) == 10
    assert (inputs / "mine.txt").exists()
    assert stat.S_IMODE(records(repo)[9].stat().st_mode) == 0o600


def test_a_single_decision_is_not_recorded(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\ngate = human_review\n"), status=2)
    repo.orch("approve", "a")
    assert len(records(repo)) == 1


def test_without_a_place_for_it_the_run_goes_on(repo):
    repo.state_dir.mkdir()
    (repo.state_dir / "inputs").write_text("a file\n")
    result = repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"))
    assert result.halt["tasks"] == {"passed": 1}
    assert result.err.count("the run is not recorded: ") == 1, result
    assert (repo.state_dir / "inputs").read_text() == "a file\n"


# ---- a record that is not what happened ----

@pytest.fixture
def record(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\n"))
    path, = records(repo)
    return path


def rewrite(record, change):
    """Lets change work on the parsed lines, and returns what it says."""
    parsed = lines(record)
    said = change(parsed)
    record.write_text("".join(json.dumps(line) + "\n" for line in parsed))
    return said


def test_spaces_do_not_matter(record):
    rewrite(record, lambda parsed: None)
    replay(record)


@pytest.mark.parametrize("field, value", [("outcome", 2), ("task", 7), ("kind", 3), ("now", 1)])
def test_a_changed_event_is_named(record, field, value):
    def change(parsed):
        index = next(i for i, line in enumerate(parsed) if line.get("outcome") == 1)
        parsed[index][field] = value
        return index + 1
    line = rewrite(record, change)
    assert replay(record, 1).stderr.startswith(f"{record}:{line}: ")


def test_what_is_not_understood_is_named(record):
    def change(parsed):
        parsed[1]["no_such_thing"] = 1
    rewrite(record, change)
    assert replay(record, 1).stderr.startswith(f"{record}:2: not all of it can be read")


def test_a_missing_answer_is_named(record):
    def change(parsed):
        index = next(i for i, line in enumerate(parsed) if line.get("call") == "answer")
        del parsed[index]
        return index
    line = rewrite(record, change)
    assert replay(record, 1).stderr.startswith(f"{record}:{line}: the answer")


@pytest.mark.parametrize("text", ["", '{"v":2,"orch":"9.9"}\n', '{"call":"new"}\n', "no json\n"])
def test_another_format_is_refused(record, text):
    body = record.read_text().partition("\n")[2]
    record.write_text(text + body)
    told = replay(record, 2).stderr
    assert told.startswith(f"{record}:1: ")
    assert "version 2, written by orch 9.9" in told or '"v":2' not in text


def test_a_record_that_was_cut_off(record):
    whole = record.read_bytes()
    record.write_bytes(whole[:-9])
    replay(record)
    record.write_bytes(whole + b'{"full":true}\n')
    assert "the file was full" in replay(record).stdout
