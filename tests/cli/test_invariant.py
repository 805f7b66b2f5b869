# SPDX-License-Identifier: MIT
"""orch invariant: editing orch.ini, and running what stands there."""

import os
import signal
import subprocess

import pytest

from conftest import wait_until


def ini(repo):
    return (repo.path / "orch.ini").read_text()


def test_add_show_list_remove(repo):
    repo.orch("invariant", "add", "build", "--command=make -j2", "--timeout", "90s")
    assert ini(repo) == "[invariant:build]\ncommand = make -j2\ntimeout = 1m30s\n"
    repo.orch("invariant", "add", "lint", "--command", "a; b # c = d", "--expect=3", "--advisory")
    listed = repo.orch("invariant", "list", "--json").json
    assert listed["version"] == 1
    build, lint = listed["invariants"]
    assert build["command"] == "make -j2" and build["timeout_ms"] == 90000
    assert (lint["command"], lint["expect"], lint["advisory"]) == ("a; b # c = d", 3, True)
    assert build["file"] == str(repo.path / "orch.ini") and build["line"] == 1
    assert "advisory = yes" in repo.orch("invariant", "show", "lint").out
    assert repo.orch("invariant", "show", "lint", "--json").json["invariant"] == lint
    assert "make -j2" in repo.orch("invariant", "list").out
    repo.orch("invariant", "remove", "build")
    assert "build" not in ini(repo)
    repo.orch("invariant", "remove", "build", status=66)
    repo.orch("invariant", "show", "build", status=66)


def test_comments_and_the_mode_of_the_file_stay(repo):
    text = ("; about this file\n[orch]\n# why four\nmax_agents = 4\n\n"
            "[invariant:build]\n; the quick one\ncommand = make\ntimeout = 5m\n\n"
            "; the last word\n")
    repo.write("orch.ini", text)
    os.chmod(repo.path / "orch.ini", 0o640)
    repo.orch("invariant", "add", "build", "--command=make", status=64)
    assert ini(repo) == text
    repo.orch("invariant", "add", "build", "--command=make all", "--force")
    assert ini(repo) == text.replace("command = make\n", "command = make all\n").replace(
        "timeout = 5m\n", "")
    repo.orch("invariant", "add", "more", "--command=true")
    for line in ("; about this file", "# why four", "; the quick one", "; the last word"):
        assert line in ini(repo)
    assert os.stat(repo.path / "orch.ini").st_mode & 0o777 == 0o640
    assert sorted(os.listdir(repo.path)) == [".git", "README", "orch.ini"]


def test_a_symbolic_link_stays_one(repo):
    real = repo.home / "real.ini"
    real.write_text("")
    os.symlink(real, repo.path / "orch.ini")
    repo.orch("invariant", "add", "a", "--command=true")
    assert os.path.islink(repo.path / "orch.ini") and "[invariant:a]" in real.read_text()


@pytest.mark.parametrize("args", [
    ["bad name", "--command=true"], ["-x", "--command=true"], ["a/b", "--command=true"],
    ["a"], ["a", "--command="], ["a", "--command=true", "--timeout=soon"],
    ["a", "--command=true", "--timeout=0"], ["a", "--command=true", "--expect=256"],
    ["a", "--command=true", "--red-before=maybe"], ["a", "b", "--command=true"]])
def test_what_add_refuses(repo, args):
    said = repo.orch("invariant", "add", *args, status=64).err
    option = args[-1].partition("=")[0]
    assert option == "--command" or not option.startswith("--") or f"{option}: expected" in said
    assert not (repo.path / "orch.ini").exists()


def test_the_users_file(repo):
    repo.orch("invariant", "add", "a", "--command=true", "--global")
    assert "[invariant:a]" in (repo.home / "config/orch/orch.ini").read_text()
    assert not (repo.path / "orch.ini").exists()
    err = repo.orch("invariant", "remove", "a", status=66).err
    assert "config/orch/orch.ini" in err
    repo.orch("invariant", "remove", "a", "--global")
    assert "no shared invariants" in repo.orch("invariant", "list").out


def test_in_a_subdirectory(repo):
    (repo.path / "sub").mkdir()
    repo.orch("invariant", "add", "here", "--command=test -e README", cwd=repo.path / "sub")
    assert "[invariant:here]" in ini(repo)
    repo.orch("invariant", "test", "here", cwd=repo.path / "sub")


def test_presets(repo):
    listed = repo.orch("invariant", "preset").out
    for kind in ("make", "cmake", "cargo", "npm", "python", "go"):
        assert f"\n{kind}" in "\n" + listed
    assert "fits this project" not in listed
    repo.write("Makefile", "all:\n\ntest:\n\ttrue\n")
    assert "make (fits this project)" in repo.orch("invariant", "preset").out
    repo.orch("invariant", "preset", "make")
    names = [i["name"] for i in repo.orch("invariant", "list", "--json").json["invariants"]]
    assert names == ["build", "test"]
    before = ini(repo)
    assert "left as it is" in repo.orch("invariant", "preset", "make").out
    assert ini(repo) == before
    repo.orch("invariant", "preset", "cobol", status=66)


# ---- test ----


def add(repo, name, command, *args):
    repo.orch("invariant", "add", name, f"--command={command}", *args)


def test_a_pass_and_a_failure(repo):
    add(repo, "ok", "echo out; echo err >&2")
    add(repo, "red", "exit 3")
    add(repo, "three", "exit 3", "--expect=3")
    result = repo.orch("invariant", "test", "ok")
    assert result.out.startswith("out\nok: passed") and result.err == "err\n"
    assert "red: failed, exit 3, expected 0" in repo.orch("invariant", "test", "red", status=1).out
    assert "three: passed" in repo.orch("invariant", "test", "three").out
    repo.orch("invariant", "test", "nobody", status=66)
    repo.orch("invariant", "test", status=64)
    repo.orch("invariant", "test", "--all", "ok", status=64)
    assert os.listdir(repo.state_dir / "checks/units") == []


def test_all(repo):
    repo.orch("invariant", "test", "--all", status=66)
    add(repo, "ok", "true")
    add(repo, "loose", "false", "--advisory")
    assert "1 of 2 passed" in repo.orch("invariant", "test", "--all").out
    repo.orch("invariant", "test", "loose", status=1)
    add(repo, "red", "false")
    results = repo.orch("invariant", "test", "--all", "--json", status=1).json["results"]
    assert [(r["invariant"], r["passed"], r["exit_code"]) for r in results] == [
        ("ok", True, 0), ("loose", False, 1), ("red", False, 1)]


def test_where_and_with_what_it_runs(repo):
    add(repo, "env", 'pwd; cat; echo "${ORCH_RETRY_BACKOFF-no} ${MY_TOKEN-no} $OTHER"')
    out = repo.orch("invariant", "test", "env", env={"MY_TOKEN": "secret", "OTHER": "seen"}).out
    assert out.splitlines()[:2] == [str(repo.path), "no no seen"]


def test_a_timeout_ends_the_whole_tree(repo):
    add(repo, "slow", 'setsid sleep 1000 & echo part; sleep 1000', "--timeout=400ms")
    result = repo.orch("invariant", "test", "slow", status=1)
    assert "part\n" in result.out and "timed out after 0.400s" in result.out
    assert "timed out after 0.400s" in result.err


def test_a_signal(repo):
    add(repo, "killed", "kill -SEGV $$")
    assert f"signal {signal.SIGSEGV.value}" in repo.orch("invariant", "test", "killed", status=1).out


@pytest.mark.parametrize("command", [
    'trap "" TERM; setsid sleep 1000 & touch "$HOME/begun"; sleep 1000',
    'touch "$HOME/begun"; exec sleep 1000'])
def test_ctrl_c_ends_the_whole_tree(repo, command):
    add(repo, "slow", command)
    process = repo.popen("invariant", "test", "slow", env={**repo.env, "ORCH_KILL_GRACE": "300ms"})
    wait_until((repo.home / "begun").exists)
    process.send_signal(signal.SIGINT)
    result = repo.finish(process)
    assert result.status == 130 and "slow: interrupted" in result.out


def test_a_second_ctrl_c_does_not_wait(repo):
    add(repo, "slow", 'trap "" TERM; touch "$HOME/begun"; while :; do sleep 1000; done')
    process = repo.popen("invariant", "test", "slow", env={**repo.env, "ORCH_KILL_GRACE": "1h"})
    wait_until((repo.home / "begun").exists)
    while process.poll() is None:  # signals that come together are one
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130
    process.communicate()


def test_a_dispatch_does_not_end_a_test_that_runs(repo):
    os.mkfifo(repo.home / "fifo")
    add(repo, "waits", 'touch "$HOME/begun"; read line < "$HOME/fifo"; echo "got $line"')
    process = repo.popen("invariant", "test", "waits")
    wait_until((repo.home / "begun").exists)
    repo.orch("dispatch", repo.plan("[task:a]\ncommand = touch a\n"))
    (repo.home / "fifo").write_text("it\n")
    result = repo.finish(process)
    assert result.status == 0 and "got it" in result.out


def test_large_and_odd_output(repo):
    add(repo, "loud", "head -c 3000000 /dev/zero | tr '\\0' x; printf '\\033[31m\\377\\0'")
    results = repo.orch("invariant", "test", "loud", "--json").json["results"]
    assert "bytes cut" in results[0]["stdout"] and len(results[0]["stdout"]) < 100000
    assert "\033" not in repo.orch("invariant", "test", "loud").out


def test_outside_a_repository(place):
    place.write("orch.ini", "[invariant:a]\ncommand = pwd\n")
    assert str(place.path) in place.orch("invariant", "test", "a").out
