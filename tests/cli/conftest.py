# SPDX-License-Identifier: MIT
"""Fixtures for tests that drive the real binary (ORCH_BIN).

`repo` is a fresh git repository with one commit, and a home of its own. The test process is a
subreaper, so whatever a test leaves running becomes its descendant: after each test there must be
none, and no unit's temporary directory.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import time

import pytest

PR_SET_CHILD_SUBREAPER = 36
TIMEOUT = 60  # seconds for one command; more than any needs, sanitizers included

ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
# A shell starts what goes into the background with it ignored, and orch keeps to that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def orch_bin():
    path = os.environ.get("ORCH_BIN")
    if not path:
        pytest.exit("ORCH_BIN must name the orch to test (ctest sets it)", returncode=2)
    return path


def wait_until(condition, timeout=TIMEOUT, what="the condition"):
    """Waits for a condition and returns what it gave; fails when the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout} s"
        time.sleep(0.02)


def _ppids():
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text(errors="replace")
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        if fields[0] != "Z":
            parents[int(entry)] = int(fields[1])
    return parents


def descendants():
    """Living processes below this one."""
    parents = _ppids()
    found, below = [], {os.getpid()}
    while True:
        more = {pid for pid, parent in parents.items() if parent in below and pid not in below}
        if not more:
            return sorted(found)
        found += more
        below |= more


def _reap():
    """Whether there are children left. To a subreaper that is the proof that nothing is: what is
    read in /proc may miss the child of one that ends just then."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass
    except ChildProcessError:
        return False
    return True


def _describe(pid):
    try:
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return f"{pid}: {line.decode(errors='replace').strip()}"
    except OSError:
        return f"{pid}: (gone)"


def left_processes(grace=5.0):
    """What is still there after a moment of grace (a keeper ends just after its unit)."""
    deadline = time.monotonic() + grace
    while True:
        if not _reap():
            return []
        left = descendants()
        if left and time.monotonic() > deadline:
            return left
        time.sleep(0.02)


class Result:
    def __init__(self, args, status, out, err):
        self.args, self.status, self.out, self.err = args, status, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    # What `dispatch --json` said.

    @property
    def halt(self):
        last = self.lines[-1]
        assert last["type"] == "halt", self
        return last

    def moves(self, task):
        """The states that a task went through, one after the other, without the first."""
        return [line["to"] for line in self.lines if line["type"] == "task" and line["task"] == task]

    def last(self, task):
        """The last line about a task."""
        return [line for line in self.lines if line["type"] == "task" and line["task"] == task][-1]

    def __repr__(self):
        return f"{self.args} -> {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Place:
    """A directory to run orch and git in, with an environment of its own."""

    def __init__(self, path, home, env):
        self.path, self.home, self.env = path, home, env

    def popen(self, *args, **kwargs):
        """Starts orch; the caller waits for it (see finish)."""
        kwargs.setdefault("cwd", self.path)
        kwargs.setdefault("env", self.env)
        kwargs.setdefault("bufsize", 0)  # what readline() leaves is there for finish()
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([orch_bin(), *map(str, args)], **kwargs)

    def finish(self, process, timeout=TIMEOUT):
        """Waits for a popen()ed orch; kills it when it takes too long, and fails."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{process.args} did not end within {timeout} s\n"
                        f"{(out or b'').decode(errors='replace')}\n"
                        f"{(err or b'').decode(errors='replace')}")
        return Result(process.args, process.returncode, (out or b"").decode(errors="replace"),
                      (err or b"").decode(errors="replace"))

    def orch(self, *args, status=0, env=None, cwd=None, timeout=TIMEOUT):
        """Runs orch to its end; its exit status must be `status` (None: any)."""
        process = self.popen(*args, env={**self.env, **(env or {})}, cwd=cwd or self.path)
        result = self.finish(process, timeout)
        if status is not None:
            assert result.status == status, result
        return result

    def dispatch(self, *args, status=0, **kwargs):
        """dispatch --json to its end."""
        return self.orch("dispatch", "--json", *args, status=status, **kwargs)

    def db(self, query, *values):
        """Rows of the database, for what no verb tells."""
        uri = f"file:{self.state_dir}/orch.db?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query, values)]

    def sh(self, script, **kwargs):
        return subprocess.run(["/bin/sh", "-ec", script], cwd=self.path, env=self.env, check=True,
                              capture_output=True, text=True, timeout=TIMEOUT, **kwargs).stdout

    def git(self, *args, cwd=None, check=True):
        done = subprocess.run(["git", *map(str, args)], cwd=cwd or self.path, env=self.env,
                              capture_output=True, text=True, timeout=TIMEOUT)
        assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
        return done.stdout.strip()

    def write(self, name, text):
        file = pathlib.Path(self.path, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def plan(self, text, name="demo", **keys):
        """Writes <name>.ini outside the repository, with a [plan] section before the text. Harness
        is shell unless said otherwise; returns the file's path."""
        keys = {"name": name, "harness": "shell", **keys}
        head = "".join(f"{key} = {value}\n" for key, value in keys.items())
        file = pathlib.Path(self.home, f"{name}.ini")
        file.write_text(f"[plan]\n{head}\n{text}")
        return str(file)

    def status(self, plan=None):
        """The one plan, or the named one, of `status --json`."""
        plans = self.orch("status", "--json").json["plans"]
        if plan is not None:
            plans = [p for p in plans if p["name"] == plan]
        assert len(plans) == 1, plans
        return plans[0]

    def task(self, name, plan=None):
        return next(t for t in self.status(plan)["tasks"] if t["name"] == name)

    @property
    def state_dir(self):
        common = subprocess.run(["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
                                cwd=self.path, env=self.env, capture_output=True, text=True)
        if common.returncode == 0:
            return pathlib.Path(common.stdout.strip(), "orch")
        return pathlib.Path(self.path, ".orch")

    def held_locks(self):
        """Locks of the state directory and its units that somebody still holds."""
        held = []
        for name in ["lock", "git.lock", "git-worktrees", "merge.lock", "hold-*",
                     "units/*/shim.lock"]:
            for path in self.state_dir.glob(name):
                with open(path) as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        held.append(str(path))
        return held

    def unit_tmpdirs(self):
        """Temporary directories of this repository's units that are still there."""
        found = []
        for spec in self.state_dir.glob("units/*/spec.json"):
            try:
                tmpdir = json.loads(spec.read_text()).get("tmpdir")
            except (OSError, ValueError):
                continue
            if tmpdir and os.path.exists(tmpdir):
                found.append(tmpdir)
        return found


@pytest.fixture
def place(tmp_path):
    """A directory that is no repository."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    for directory in (home, work):
        directory.mkdir()
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(("GIT_", "ORCH_", "XDG_"))}
    env.update({
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
        "ORCH_SYSTEM_CONFIG": str(home / "no-system.ini"),
        "ORCH_RETRY_BACKOFF": "10ms",
        "ORCH_MIN_FREE_MEMORY": "0",
        "ORCH_MIN_FREE_DISK": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
    })
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Test\n\temail = test@example.com\n[init]\n\tdefaultBranch = main\n")
    yield (here := Place(work, home, env))
    left = left_processes()
    described = [_describe(pid) for pid in left]
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    left_processes()
    tmpdirs = here.unit_tmpdirs()
    assert not described, f"left running: {described}"
    assert not (held := here.held_locks()), f"locks still held: {held}"
    assert not tmpdirs, f"temporary directories left: {tmpdirs}"


@pytest.fixture
def repo(place):
    """A repository with one commit on main."""
    place.git("init", "-q")
    place.write("README", "a project\n")
    place.git("add", "README")
    place.git("commit", "-q", "-m", "first")
    return place
