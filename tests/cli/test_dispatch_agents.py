# SPDX-License-Identifier: MIT
"""What an agent gets and how it is judged (A4, A8.3, A10)."""

import ctypes
import errno
import os
import struct
import subprocess

import pytest

from conftest import orch_bin

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER, CLONE3 = 22, 38, 2, 435


def test_the_environment_of_an_agent(repo):
    dirty = {
        "GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere", "ORCH_SOMETHING_ELSE": "x",
        "CLAUDECODE": "1", "CLAUDE_CODE_SSE_PORT": "1", "CODEX_HOME": "x", "GEMINI_CLI": "1",
        "MY_API_KEY": "k", "SOME_TOKEN": "t", "A_SECRET": "s", "PLAIN": "plain",
        "NOTIFY_SOCKET": "/nowhere", "KEPT_API_KEY": "kept",
    }
    env = {key: value for key, value in dirty.items() if not key.startswith(("GIT_", "ORCH_"))}
    (repo.path / "orch.ini").write_text("[harness:shell]\npass_env = KEPT_API_KEY\n")
    repo.dispatch(repo.plan("[task:a]\ncommand = env -0 > env\n"), env=env)
    text = repo.git("show", "orch/demo/integration:env")
    got = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    gone = [key for key in dirty if key not in ("PLAIN", "KEPT_API_KEY") and key in got]
    assert not gone and got["PLAIN"] == "plain" and got["KEPT_API_KEY"] == "kept"
    assert (got["ORCH_PLAN"], got["ORCH_TASK"], got["ORCH_ATTEMPT"]) == ("demo", "a", "1")
    unit = got["ORCH_UNIT"]
    assert len(unit) == 32
    assert os.path.realpath(got["ORCH_SOCKET"]) == f"{repo.state_dir}/units/{unit}/ctl.sock"
    assert os.path.realpath(os.path.dirname(got["ORCH_PROMPT_FILE"])) == (
        f"{repo.state_dir}/units/{unit}")
    assert int(got["ORCH_EVENT_FD"]) >= 3
    assert got["TMPDIR"].startswith("/tmp/orch-") and not os.path.exists(got["TMPDIR"])
    assert len(got["ORCH_AGENT_TOKEN"]) >= 32
    orch = {key for key in got if key.startswith("ORCH_")}
    assert orch == {"ORCH_PLAN", "ORCH_TASK", "ORCH_ATTEMPT", "ORCH_UNIT", "ORCH_PROMPT_FILE",
                    "ORCH_SOCKET", "ORCH_AGENT_TOKEN", "ORCH_EVENT_FD"}


def test_secrets_are_nowhere_on_disk(repo):
    (repo.path / "orch.ini").write_text("[harness:shell]\npass_env = KEPT_API_KEY\n")
    repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a; echo it is $KEPT_API_KEY;"
                            " echo $KEPT_API_KEY >&2\n"), env={"KEPT_API_KEY": "hush-hush-8841"})
    for path in repo.state_dir.rglob("*"):
        if path.is_file():
            assert b"hush-hush-8841" not in path.read_bytes(), path


def test_orch_is_on_the_path(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = command -v orch > which\n"),
                  env={"PATH": "/usr/bin:/bin"})
    which = repo.git("show", "orch/demo/integration:which")
    assert os.path.realpath(which) == os.path.realpath(orch_bin())


def test_the_unit_of_a_gate_has_no_secrets_either(repo):
    repo.dispatch(repo.plan(
        "[invariant:env]\ncommand = test -z \"$MY_TOKEN\" && test -z \"$GIT_DIR\" &&"
        " test -n \"$ORCH_UNIT\"\n[task:a]\ncommand = echo a > a\ninvariants = env\n"),
        env={"MY_TOKEN": "t"})


def test_stdin_of_a_gate_is_dev_null(repo):
    repo.dispatch(repo.plan(
        "[invariant:stdin]\ncommand = test \"$(readlink /proc/self/fd/0)\" = /dev/null\n"
        "[task:a]\ncommand = echo a > a\ninvariants = stdin\n"))


def test_umask_limits_and_signals_are_the_callers(repo):
    script = "umask > u; ulimit -n > n; grep -E 'Sig(Blk|Ign)' /proc/self/status > s"
    repo.sh("umask 027; ulimit -S -n 77; ulimit -S -n >&2;"
            f"exec {orch_bin()} dispatch {repo.plan(f'[task:a]{chr(10)}command = {script}')}")
    show = lambda name: repo.git("show", f"orch/demo/integration:{name}")
    assert show("u") == "0027" and show("n") == "77"
    for line in show("s").splitlines():
        assert int(line.split()[1], 16) & ((1 << 14) | 0x4003) == 0, line


@pytest.mark.parametrize("command,outcome,words", [
    ("exit 7", "agent_error", "status 7"),
    ("kill -SEGV $$", "crashed", "signal 11"),
    ("kill -KILL $$", "crashed", "signal 9"),
    ("no-such-command-at-all", "agent_error", "status 127"),
    ("true", "no_change", "changed nothing"),
])
def test_how_agents_end(repo, command, outcome, words):
    result = repo.dispatch(repo.plan(f"[task:a]\ncommand = {command}\nretry_max = 0\n"), status=1)
    assert result.last("a")["outcome"] == outcome
    assert result.last("a")["reason"].startswith(outcome + ": ")
    assert words in result.last("a")["reason"]
    assert f"Orch-Outcome: {outcome}" in repo.git("log", "-1", "--format=%B",
                                                  "refs/orch/demo/a/1")


def test_the_tree_of_a_failed_attempt_is_kept(repo):
    repo.dispatch(repo.plan("[task:a]\ncommand = echo half > half; exit 1\nretry_max = 1\n"),
                  status=1)
    for attempt in (1, 2):
        assert repo.git("show", f"refs/orch/demo/a/{attempt}:half") == "half"
        assert "Orch-Outcome: agent_error" in repo.git(
            "log", "-1", "--format=%B", f"refs/orch/demo/a/{attempt}")


def test_retry_max(repo):
    result = repo.dispatch(repo.plan("[task:a]\ncommand = exit 1\nretry_max = 2\n"), status=1)
    assert result.moves("a") == ["assigned", "running", "failed", "pending"] * 2 + [
        "assigned", "running", "failed", "escalated"]
    assert result.last("a")["attempt"] == 3


def test_two_attempts_that_change_nothing_escalate(repo):
    result = repo.dispatch(repo.plan("[task:a]\ncommand = true\nretry_max = 9\n"), status=1)
    assert result.moves("a").count("running") == 2
    assert result.last("a")["to"] == "escalated"


def test_allow_empty(repo):
    assert repo.dispatch(repo.plan("[task:a]\ncommand = true\nallow_empty = yes\n")).halt[
        "tasks"] == {"passed": 1}


def test_a_clean_tree_for_each_attempt(repo):
    repo.dispatch(repo.plan(
        "[task:a]\ncommand = test -e left-over && exit 9; echo > left-over;"
        " echo $ORCH_ATTEMPT > a; test $ORCH_ATTEMPT = 2\n"))
    assert repo.git("show", "orch/demo/integration:a") == "2"


def test_feedback_tells_the_next_attempt_what_failed(repo):
    repo.dispatch(repo.plan(
        "[invariant:check]\ncommand = test -e good || { echo on-stdout;"
        " echo 'the' 'complaint' >&2; exit 4; }\n"
        "[task:a]\ncommand = cat > prompt-$ORCH_ATTEMPT; cp prompt-$ORCH_ATTEMPT $HOME/;"
        " test $ORCH_ATTEMPT = 1 || touch good\ninvariants = check\n"))
    assert "the complaint" not in (repo.home / "prompt-1").read_text()
    second = (repo.home / "prompt-2").read_text()
    assert "the complaint" in second and "check failed (exit 4)" in second
    assert "Attempt 1 did not pass" in second and "on-stdout" in second


def test_a_prompt_reaches_the_agent_whole(repo):
    repo.write("orch.ini", "[harness:shell]\ncommand = cat > said; cmp said $ORCH_PROMPT_FILE\n")
    repo.dispatch(repo.plan(
        "[task:a]\nprompt = First; a # line = with [all]\n\n    # Notes\n    ü – ; end\n"))
    said = repo.git("show", "orch/demo/integration:said")
    assert "First; a # line = with [all]\n\n# Notes\nü – ; end\n" in said


def test_setup_and_copy(repo):
    repo.write(".gitignore", ".env\nmade\nsub/*.key\n")
    repo.sh("git add .gitignore; git commit -qm ignore; echo secret > .env; mkdir sub;"
            "echo k > sub/a.key; chmod 600 .env")
    repo.dispatch(repo.plan(
        "[invariant:same]\ncommand = test -e made && cmp .env sub/../.env\n"
        "[task:a]\ncommand = cat .env sub/a.key > seen; cat made >> seen; stat -c %a .env >> seen\n"
        "invariants = same\n",
        setup="test -z \"$ORCH_TASK_NAME\" && echo made > made", copy=".env, sub/*.key"))
    assert repo.git("show", "orch/demo/integration:seen") == "secret\nk\nmade\n600"
    assert ".env" not in repo.git("ls-tree", "-r", "--name-only", "orch/demo/integration").split()


def test_a_set_up_command_that_fails(repo):
    result = repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a\nretry_max = 1\n",
                                     setup="echo no-network >&2; exit 5"), status=1)
    last = result.last("a")
    assert last["outcome"] == "spawn_failed" and "no-network" in last["reason"]
    assert "running" not in result.moves("a") and last["attempt"] == 2


def test_a_timeout_ends_the_agent_and_keeps_its_work(repo):
    result = repo.dispatch("--timeout=500ms", repo.plan(
        "[task:a]\ncommand = echo part > part; trap '' TERM; setsid sh -c 'trap \"\" TERM;"
        " while :; do sleep 1; done' & while :; do sleep 1; done\nretry_max = 0\n"),
        env={"ORCH_KILL_GRACE": "100ms"}, status=1)
    assert result.last("a")["outcome"] == "timed_out"
    assert repo.git("show", "refs/orch/demo/a/1:part") == "part"


def test_an_announced_wait_takes_no_time(repo):
    wait = "until=$(($(date +%s%3N) + 30000))"
    said = ('echo "{\\"kind\\":\\"rate_limit\\",\\"data\\":{\\"until\\":$until,'
            '\\"text\\":\\"busy\\"}}" >&$ORCH_EVENT_FD')
    repo.dispatch(repo.plan(f"[task:a]\ncommand = {wait}; {said}; sleep 2; echo a > a\n"
                            "retry_max = 0\n"), "--timeout=1s")
    assert repo.task("a")["status"] == "passed"


def test_silence(repo):
    result = repo.dispatch(repo.plan("[task:a]\ncommand = echo a > a; sleep 60\nretry_max = 0\n"),
                           env={"ORCH_SILENCE_TIMEOUT": "700ms"}, status=1)
    assert result.last("a")["outcome"] == "stalled"


@pytest.mark.parametrize("containment", ["auto", "subreaper", "pidns"])
def test_what_an_agent_leaves_behind_is_ended_and_counted(repo, containment):
    if containment == "pidns" and subprocess.run(["unshare", "-Upf", "true"],
                                                 capture_output=True).returncode:
        pytest.skip("no process namespace can be made here")
    repo.dispatch(repo.plan(
        "[invariant:ok]\ncommand = test -e a\n"
        "[task:a]\ncommand = echo a > a; setsid sh -c 'trap \"\" TERM HUP; sleep 60; :' &\n"
        "invariants = ok\n"), env={"ORCH_CONTAINMENT": containment})
    row, = repo.db("SELECT * FROM attempt")
    assert row["contained"] == 1 and row["left_behind"] >= 1 and row["killed"] >= 1
    expected = ("cgroup", "subreaper") if containment == "auto" else (containment,)
    assert row["containment"] in expected and row["sweep_ms"] >= 0


def forbid_clone3():
    """As the containers do that do not know it: ENOSYS."""
    allow, fail = 0x7fff0000, 0x00050000 | errno.ENOSYS
    code = [(0x20, 0, 0, 0),             # the number of the call
            (0x15, 0, 1, CLONE3),        # is it that one?
            (0x06, 0, 0, fail), (0x06, 0, 0, allow)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) == 0


def test_where_clone3_is_forbidden(repo):
    process = repo.popen("dispatch", repo.plan(
        "[invariant:ok]\ncommand = test -e a\n[task:a]\n"
        "command = echo a > a; setsid sh -c 'trap \"\" TERM HUP; sleep 60; :' &\n"
        "invariants = ok\n"), preexec_fn=forbid_clone3)
    assert (result := repo.finish(process)).status == 0, result
    row, = repo.db("SELECT * FROM attempt")
    assert row["outcome"] == "ok" and row["contained"] == 1 and row["left_behind"] >= 1


def test_events_of_an_agent(repo):
    repo.dispatch(repo.plan(
        "[task:a]\ncommand = echo plain words; echo a > a;"
        " echo '{\"kind\":\"usage\",\"data\":{\"input\":3,\"output\":4}}' >&$ORCH_EVENT_FD\n"))
    events = repo.db("SELECT kind, data FROM event ORDER BY seq")
    assert {"kind": "message", "data": '{"text":"plain words"}'} in events
    task, = repo.db("SELECT tokens_input, tokens_output FROM task")
    assert task == {"tokens_input": 3, "tokens_output": 4}
