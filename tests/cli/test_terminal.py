# SPDX-License-Identifier: MIT
"""Control characters of an agent, a command or a name never reach a terminal raw."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios

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


def run_on_a_terminal(repo, *args, term="xterm", size=(24, 80), until=None):
    """What it wrote; with `until` it gets a SIGINT once it has written that."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(repo.path)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        env = {key: value for key, value in repo.env.items() if key != "TERM"}
        os.execve(orch_bin(), [orch_bin(), *args], env if term is None else {**env, "TERM": term})
    out = b""
    while select.select([fd], [], [], 60)[0]:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        out += chunk
        if until and until in out:
            os.kill(pid, signal.SIGINT)
            until = None
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


MANY = "".join(f"[task:task-{n}]\ncommand = printf 'é%.0s' $(seq 200); echo {n} > {n}\n"
               for n in range(12))


@pytest.mark.parametrize("rows, columns", [(5, 20), (2, 60), (1, 200), (24, 80), (0, 0)])
def test_the_live_block_fits_the_screen(repo, rows, columns):
    """Else what is drawn anew comes below what was there, each time."""
    out = run_on_a_terminal(repo, "dispatch", repo.plan(MANY, max_agents=12),
                            size=(rows, columns)).decode()
    assert "plan demo: completed (12 passed)" in out
    ups = [int(n) for n in re.findall(r"\x1b\[(\d+)A", out)]
    assert max(ups, default=0) < (rows or 24) and (rows == 1 or ups)
    assert rows != 5 or "more)" in out
    assert rows != 24 or max(ups) == 12 and "more)" not in out
    drawn = [re.sub(r"\x1b\[\d*[AJ]", "", line) for line in out.splitlines()]
    block = [line for line in drawn if line.startswith("  ")]
    assert all(len(line) < (columns or 80) for line in block), block


@pytest.mark.parametrize("term", [None, "", "dumb"])
def test_where_the_cursor_cannot_be_moved(repo, term):
    out = run_on_a_terminal(repo, "dispatch", repo.plan("[task:a]\ncommand = echo a > a\n"), term=term)
    assert b"\x1b" not in out and b"a: running (attempt 1)" in out
    out = run_on_a_terminal(repo, "status", "--watch", term=term, until=b"passed")
    assert b"\x1b" not in out and out.count(b"demo: completed") == 1
