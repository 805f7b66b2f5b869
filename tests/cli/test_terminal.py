# SPDX-License-Identifier: MIT
"""Control characters of an agent, a command or a name never reach a terminal raw."""

import os
import pty
import select

import pytest

from conftest import orch_bin

NOISE = r"\033[31mred\033]0;title\007\r\b"


@pytest.fixture
def noisy(repo):
    """A plan whose agent and invariant put control characters wherever they can."""
    repo.dispatch(repo.plan(
        f"[invariant:loud]\ncommand = printf '{NOISE}'; printf '{NOISE}' >&2; exit 1\n"
        f"[task:a]\ninvariants = loud\nretry_max = 0\ncommand = printf '{NOISE}';"
        f" printf '{NOISE}' >&2; orch progress \"$(printf '{NOISE}')\";"
        f" printf '{NOISE}' | orch finding --severity=low --title=\"$(printf '{NOISE}')\";"
        f" printf '{NOISE}' > \"$(printf 'f{NOISE}' | tr -d /)\"\n"
        f"[task:b]\nretry_max = 0\ncommand = orch done --blocked=\"$(printf '{NOISE}')\"\n",
        max_agents=1), status=1)
    return repo


SHOWN = [["status"], ["log", "a"], ["log", "b"], ["gate", "a"], ["report"], ["report", "--html"],
         ["plan", "list"], ["status", "--json"], ["log", "a", "--json"], ["gate", "a", "--json"],
         ["report", "--json"], ["dispatch"], ["dispatch", "--json"], ["doctor"]]


@pytest.mark.parametrize("args", SHOWN, ids=" ".join)
def test_nothing_of_it_comes_out_raw(noisy, args):
    result = noisy.orch(*args, status=None)
    for text in (result.out, result.err):
        assert not [c for c in text if (ord(c) < 32 and c not in "\n\t") or ord(c) == 127], result


def run_on_a_terminal(repo, *args):
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(repo.path)
        os.execve(orch_bin(), [orch_bin(), *args], {**repo.env, "TERM": "xterm"})
    out = b""
    while select.select([fd], [], [], 60)[0]:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        out += chunk
    os.waitpid(pid, 0)
    os.close(fd)
    return out


@pytest.mark.parametrize("args", [["status"], ["log", "a"], ["log", "a", "--raw"], ["gate", "a"],
                                  ["report"], ["log", "b"]], ids=" ".join)
def test_on_a_terminal_neither(noisy, args):
    out = run_on_a_terminal(noisy, *args)
    assert b"red" in out
    for bad in (b"\x1b[31m", b"\x1b]0;", b"\x07", b"\x08"):
        assert bad not in out, out
