# SPDX-License-Identifier: MIT
"""A machine that is short of descriptors or processes: nothing is held against a task that could not
be started for it. It starts when there are some again, or the dispatch ends with 74 and the same
command goes on."""

import errno
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import Place, orch_bin, wait_until

PLAN = ("[task:long]\ncommand = touch up; while [ ! -e go ]; do sleep 0.05; done\n"
        "[task:first]\ncommand = true\ngate = human_review\n"
        "[task:next]\ncommand = echo $ORCH_ATTEMPT > next\ndepends_on = first\nretry_max = 0\n")


@pytest.fixture
def short(place):
    """(place, process, descriptors): `first` awaits a person while `long` runs; descriptors(n) leaves
    the engine n of them, descriptors(None) all."""
    place.env["ORCH_RETRY_BACKOFF"] = "50ms"
    plan = place.plan(PLAN, isolation="none", max_agents=2)
    process = place.popen("dispatch", "--json", plan)
    wait_until(lambda: (place.path / "up").exists() and
               place.task("first")["status"] == "awaiting_review")
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)

    def descriptors(n):
        limit = before[0]
        if n is not None:
            used = {int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")}
            limit = next(k for k in range(limit) if k - len({f for f in used if f < k}) == n)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    yield place, process, descriptors
    if process.poll() is None:
        process.kill()
        process.communicate()


def test_it_starts_when_there_are_some_again(short):
    place, process, descriptors = short
    descriptors(2)  # enough for a client of its socket, not for a unit
    place.orch("approve", "first")
    time.sleep(0.5)  # at least the first wait is over; the test holds without it too
    descriptors(None)
    (place.path / "go").touch()
    result = place.finish(process)
    assert result.status == 0, result
    assert "nothing new starts for" in result.err and "Too many open files" in result.err
    assert (place.path / "next").read_text() == "1\n"
    assert place.task("next")["attempt"] == 1
    assert [row["outcome"] for row in place.db("SELECT outcome FROM attempt")] == ["ok"] * 3


def limited(kind, number):
    return lambda: resource.setrlimit(kind, (number, number))


def charges(place):
    return {row["retries_used"] for row in place.db("SELECT retries_used FROM task")}


def test_a_shortage_that_stays_ends_with_74(place):
    """However few descriptors: it ends with an error, and with the first limit at which it gets as
    far as a unit that cannot start, it has waited before."""
    place.env["ORCH_RETRY_BACKOFF"] = "10ms"
    plan = place.plan("[task:a]\ncommand = echo $ORCH_ATTEMPT > a\nretry_max = 0\n",
                      isolation="none")
    for number in range(10, 64):
        result = place.finish(place.popen("dispatch", "--json", plan, preexec_fn=limited(
            resource.RLIMIT_NOFILE, number)))
        assert result.status != 1 and not (place.path / "a").exists(), result
        if "nothing new starts for" in result.err:
            break
        assert result.err.strip(), result
    assert result.status == 74 and result.halt["reason"] == "io_error", result
    assert "Too many open files" in result.err
    assert charges(place) == {0}
    place.dispatch("demo")
    assert (place.path / "a").exists() and charges(place) == {0}


@pytest.fixture
def stranger(place):
    """A place of a user of its own, whose processes nobody else's add to."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user who has no other process")
    own = pathlib.Path(orch_bin()).parent
    top = pathlib.Path(tempfile.mkdtemp(prefix="orch-test-"))
    (top / "plugins").mkdir()
    (top / "work").mkdir()
    for name in ("orch", "orch-shim"):
        shutil.copy(own / name, top / name)
    for file in (own / "plugins").glob("*shell*.so"):
        shutil.copy(file, top / "plugins" / file.name)
    env = place.env | {"HOME": str(top), "XDG_CONFIG_HOME": f"{top}/config",
                       "XDG_STATE_HOME": f"{top}/state", "ORCH_RETRY_BACKOFF": "100ms",
                       "ORCH_PLUGIN_PATH": str(top / "plugins"),
                       "ORCH_SYSTEM_CONFIG": f"{top}/no-system.ini"}
    for path in (top, *top.rglob("*")):
        os.chown(path, 12345, 12345)
    yield Place(top / "work", top, env)
    shutil.rmtree(top)


def as_stranger(place, *args, processes=4096):
    return place.finish(place.popen(
        "dispatch", "--json", *args, executable=str(place.home / "orch"), user=12345, group=12345,
        extra_groups=[], preexec_fn=limited(resource.RLIMIT_NPROC, processes)))


def test_processes_are_short(stranger):
    """Of eight agents at a time some cannot be started in full: the keeper's fork, the host's, its
    thread or the agent's own fails, and none of that is the task's fault."""
    result = as_stranger(stranger, stranger.plan("".join(
        f"[task:t{i}]\ncommand = exec sleep 0.3\nretry_max = 0\n" for i in range(16)),
        isolation="none", max_agents=8), processes=24)
    assert result.status == 0, result
    assert "nothing new starts for" in result.err
    outcomes = {row["outcome"] for row in stranger.db("SELECT outcome FROM attempt")}
    assert outcomes == {"ok", "spawn_failed"} and charges(stranger) == {0}


def test_no_process_can_be_had(stranger):
    plan = stranger.plan("[task:a]\ncommand = true\nretry_max = 0\n", isolation="none")
    result = as_stranger(stranger, plan, processes=4)
    assert result.status == 74 and result.halt["reason"] == "io_error", result
    assert "Resource temporarily unavailable" in result.err and charges(stranger) == {0}
    assert as_stranger(stranger, "demo").status == 0
    assert charges(stranger) == {0}


def test_an_agent_that_is_cut_short_is_no_fault_of_the_machine(place):
    """Half of a program makes exec say EIO: that is one harness's failure, and the others go on."""
    half = place.home / "half"
    half.write_bytes(pathlib.Path("/bin/true").read_bytes()[:800])
    half.chmod(0o755)
    with pytest.raises(OSError) as error:
        subprocess.run([half], check=False)
    assert error.value.errno == errno.EIO
    place.write("orch.ini", f"[harness:claude]\nprogram = {half}\n")
    place.dispatch(place.plan("[task:a]\nharness = claude\nprompt = hi\nretry_max = 0\n"
                              "[task:b]\ncommand = true\n", isolation="none"), status=1)
    assert place.task("a")["reason"].startswith("spawn_failed: ")
    assert place.task("a")["status"] == "escalated" and place.task("b")["status"] == "passed"


def test_a_limit_on_the_size_of_files(place):
    """RLIMIT_FSIZE would end us with SIGXFSZ; it is an error of writing like others."""
    plan = place.plan("[task:a]\ncommand = true\n", isolation="none")
    limited = place.popen("dispatch", plan, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (64 << 10, resource.getrlimit(resource.RLIMIT_FSIZE)[1])))
    result = place.finish(limited)
    assert result.status == 74 and "database" in result.err, result
    place.dispatch(plan)
    assert place.task("a")["status"] == "passed"


@pytest.mark.parametrize("key", ["ORCH_MIN_FREE_MEMORY", "ORCH_MIN_FREE_DISK"])
def test_nothing_starts_without_room(place, key):
    plan = place.plan("[task:a]\ncommand = touch a\n[task:b]\ncommand = touch b\n", isolation="none",
                      max_agents=2)
    process = place.popen("dispatch", plan, env={**place.env, key: "900000G"})
    wait_until(lambda: "waiting: nothing new starts: free " in place.orch("status").out)
    assert key[5:].lower() in place.orch("status", "--json").json["engine"]["waits"]
    time.sleep(0.5)  # time in which it must not start; the test holds without it too
    process.send_signal(signal.SIGINT)
    assert place.finish(process).status == 130
    assert {task["status"] for task in place.status()["tasks"]} == {"pending"}
    assert place.db("SELECT * FROM attempt") == [] and not (place.path / "a").exists()
    assert "waits" not in place.orch("status", "--json").json["engine"]
    assert not (place.state_dir / "waiting").exists()
    place.dispatch(plan)
