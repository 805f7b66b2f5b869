# SPDX-License-Identifier: MIT
"""A small world to break: a plan in a repository, an LD_PRELOAD library that strikes at the n-th
call of some programs (inject.c), and what must hold afterwards, whatever was struck.

A round is: make the world, dispatch with a fault armed, give the same command again until the plan
has ended, and compare with an undisturbed run. `violations` is everything that does not hold.

One round by hand, with its directory kept:
  ORCH_BIN=build/orch ORCH_INJECT=build/tests/inject.so python3 tests/fault/lab.py \\
      pair orch kill-before sync,rename 17
or `pair orch ENOMEM memory 1 SITE`; ORCH_FAULT_TRACE=1 leaves the sites in `trace`.
"""

import atexit
import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib.util
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

_cli = pathlib.Path(__file__).parent.parent / "cli" / "conftest.py"
_spec = importlib.util.spec_from_file_location("orch_cli_conftest", _cli)
cli = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cli)

ALL = bool(os.environ.get("ORCH_FAULT_ALL"))
CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 0x4000, 0x40000, 2
COUNTER = struct.Struct("<QQ240s")

AGENT = r"""
set -eu
say() {
	printf '{"kind":"message","data":{"text":"%s %s %s"}}\n' "$ORCH_TASK" "$ORCH_ATTEMPT" "$1" \
		>&"$ORCH_EVENT_FD"
}
exec 9>> "$LAB/busy.$ORCH_TASK"
flock -n 9 || printf '%s %s\n' "$ORCH_TASK" "$ORCH_ATTEMPT" >> "$LAB/overlaps"
printf '%s %s %s %s\n' "$ORCH_TASK" "$ORCH_ATTEMPT" "$ORCH_UNIT" "$TMPDIR" >> "$LAB/started"
used() {
	printf '{"kind":"usage","data":{"id":"m","input":%s,"output":1}}\n' "$1" >&"$ORCH_EVENT_FD"
}
say 1
used 10
say 2
used 20
[ -z "${DAWDLE:-}" ] || sleep "$DAWDLE"
{ echo "$ORCH_TASK"; for dep; do cat "$dep"; done; } > "$ORCH_TASK"
: > "$TMPDIR/left"
used 30
say 3
echo "$ORCH_TASK $ORCH_ATTEMPT is done" >&2
printf '%s %s\n' "$ORCH_TASK" "$ORCH_ATTEMPT" >> "$LAB/ended"
"""

SETUP = "setup = printf '%s\\n' \"$ORCH_UNIT\" >> $LAB/set-up\n"
INVARIANT = "[invariant:ok]\ncommand = test -e README && test ! -e broken\n"

SCENARIOS = {
    "pair": SETUP + INVARIANT + """
[task:a]
command = sh $LAB/agent
invariants = ok
[task:b]
command = sh $LAB/agent a
depends_on = a
""",
    # Its first attempt fails, one task awaits a person.
    "diamond": SETUP + INVARIANT + """
[task:top]
command = if mkdir $LAB/failed 2> /dev/null; then exit 3; fi; sh $LAB/agent
retry_max = 1
[task:left]
command = sh $LAB/agent top
depends_on = top
invariants = ok
[task:right]
command = sh $LAB/agent top
depends_on = top
gate = human_review
[task:bottom]
command = sh $LAB/agent left right
depends_on = left, right
invariants = ok
""",
    "bare": "".join(f"[task:{name}]\ncommand = sh $LAB/agent\n" for name in "abc"),
}

# Those of them that work where they are: without worktrees, commits and merges.
BARE = {"bare"}

# Refs of which there are more where more attempts were made.
OF_ATTEMPTS = ("refs/orch/demo/", "refs/heads/orch/demo/task/")

# What a command says of its own failure, as on a full disk: a retry is used.
OWN = ("agent_error: the command exited with", "spawn_failed: the set-up command failed")

# Outcomes that say nothing against the task: another attempt follows, and no retry is used.
FREE = {"lost", "interrupted"}


@dataclasses.dataclass(frozen=True)
class Fault:
    """What strikes: at the n-th of these calls of these programs. n = 0 only counts."""
    programs: str
    calls: str
    action: str = "kill-before"
    at: int = 0
    times: int = 1
    site: str = ""  # only calls that come this way

    def __str__(self):
        return f"{self.programs} {self.action} {self.calls} {self.at} {self.site}".rstrip()


def ram():
    """Where rounds are run: durability needs no disk when only processes die."""
    for path in ("/dev/shm",):
        if os.access(path, os.W_OK) and shutil.disk_usage(path).free > 1 << 30:
            return path
    return tempfile.gettempdir()


def _git_env(env):
    """What decides the repository's content."""
    return {key: env[key] for key in env if key != "GIT_CEILING_DIRECTORIES"
            and (key.startswith("GIT_") or key in ("PATH", "LC_ALL", "TZ"))}


@functools.cache
def _repository(env_key):
    """A repository to copy: making one anew takes longer."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="orch-fault-first-", dir=ram()))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    (path / "README").write_text("a project\n")
    for command in (["init", "-q", "-b", "main", "--template="], ["add", "README"],
                    ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=path, env=dict(env_key), check=True)
    return path


class World(cli.Place):
    def __init__(self, scenario, base=None):
        self.scenario = scenario
        self.small = base is not None
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="orch-fault-", dir=base or ram()))
        home, work = self.top / "home", self.top / "work"
        home.mkdir()
        work.mkdir()
        env = {key: value for key, value in os.environ.items()
               if not key.startswith(("GIT_", "ORCH_", "XDG_", "FAULT_"))}
        env.update({
            "HOME": str(home),
            "LAB": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CEILING_DIRECTORIES": str(self.top),
            "GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.com",
            "GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@example.com",
            "GIT_AUTHOR_DATE": "@1700000000 +0000", "GIT_COMMITTER_DATE": "@1700000000 +0000",
            "ORCH_SYSTEM_CONFIG": str(home / "no-system.ini"),
            "ORCH_RETRY_BACKOFF": "10ms",
            "ORCH_MIN_FREE_MEMORY": "0",
            "ORCH_MIN_FREE_DISK": "0",
            "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb",
        })
        super().__init__(work, home, env)
        (home / "agent").write_text(AGENT)
        self.bare = scenario in BARE
        self.plan_file = self.plan(SCENARIOS[scenario], max_agents=2,
                                   isolation="none" if self.bare else "worktree")
        shutil.copytree(_repository(tuple(_git_env(env).items())), work, dirs_exist_ok=True)
        self.counter = self.top / "counter"
        self.counter.write_bytes(bytes(COUNTER.size))
        self.trace = self.top / "trace"
        self.statuses = []

    def remove(self):
        shutil.rmtree(self.top, ignore_errors=True)

    @property
    def state_dir(self):
        return self.path / ".git" / "orch"

    def armed(self, fault):
        """The environment in which the fault strikes."""
        if fault is None:
            return self.env
        return {**self.env, "LD_PRELOAD": os.environ["ORCH_INJECT"],
                "FAULT_FILE": str(self.counter), "FAULT_PROGRAMS": fault.programs,
                "FAULT_CALLS": fault.calls, "FAULT_ACTION": fault.action,
                "FAULT_AT": str(fault.at), "FAULT_FOR": str(fault.times),
                **({"FAULT_SITE": fault.site} if fault.site else {}),
                # Too much for a request to the nursery: each keeper is a program of its own.
                **({"FAULT_PAD_1": "x" * 70000, "FAULT_PAD_2": "x" * 70000}
                   if "keeper" in fault.programs else {}),
                **({"FAULT_TRACE": str(self.trace)}
                   if fault.at == 0 or os.environ.get("ORCH_FAULT_TRACE") else {})}

    def reset(self):
        """For another command with a fault."""
        self.counter.write_bytes(bytes(COUNTER.size))
        self.trace.unlink(missing_ok=True)

    def calls(self):
        """What was counted: [number, program, pid, call, site, path]."""
        return [line.split(" ", 5) for line in self.trace.read_text().splitlines()]

    def counted(self):
        """(calls, strikes, what was struck first)"""
        count, fired, what = COUNTER.unpack(self.counter.read_bytes()[:COUNTER.size])
        return count, fired, what.rstrip(b"\0").decode(errors="replace").strip()

    def give(self, *args, env=None, timeout=90):
        """One command to its end, whatever end that is. Returns its Result."""
        process = self.popen(*args, env=env or self.env)
        out = err = b""
        try:
            out, err = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            status = "hung"
        result = cli.Result(args, status, out.decode(errors="replace"),
                            err.decode(errors="replace"))
        self.statuses.append(status)
        self.said = getattr(self, "said", [])
        self.said.append(result)
        return result

    def go_on(self, env=None, most=6):
        """The same command until the plan has ended by itself; a person says yes where asked."""
        for _ in range(most):
            result = self.give("dispatch", "--json", self.plan_file, env=env)
            if result.status == 0:
                return result
            if result.status == 2:
                self.give("approve", "right", env=env)
            if result.status == 1 and self.small:
                self.retry_agents()
        return result

    def retry_agents(self):
        """Agents and set-up commands fail as well where the disk is full: their own errors, with
        which a task may have no retry left."""
        failed = [task["name"] for task in self.status()["tasks"]
                  if task["status"] == "escalated" and task["reason"].startswith(OWN)]
        for name in failed:
            self.give("retry", name)
        if failed:
            self.statuses.remove(1)

    # ---- what there is afterwards ----

    def rows(self, query):
        db = sqlite3.connect(f"file:{self.state_dir}/orch.db?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()

    @functools.cached_property
    def refs(self):
        """{name: (commit, tree)} at the end; to be asked for when nothing changes any more."""
        out = self.git("for-each-ref", "--format=%(refname) %(objectname) %(tree)")
        return {name: (commit, tree) for name, commit, tree in map(str.split, out.splitlines())}

    def events(self, task, attempt):
        """(kind, what was said or used) of an attempt, as `log` tells them."""
        return [(kind, data.get("text", data.get("input"))) for kind, data in (
            (kind, json.loads(data)) for kind, data in self.rows(
                "SELECT e.kind, e.data FROM event e JOIN task t ON t.id = e.task_id"
                f" WHERE t.name = '{task}' AND e.attempt = {attempt} ORDER BY e.seq"))]

    def started(self):
        """(task, attempt, unit, tmpdir) of every agent that ever began."""
        file = self.home / "started"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def set_up(self):
        """The unit of every set-up command that ever began."""
        file = self.home / "set-up"
        return file.read_text().split() if file.exists() else []

    def ended(self):
        file = self.home / "ended"
        return [tuple(line.split()) for line in file.read_text().splitlines()] \
            if file.exists() else []

    def saved(self, commit):
        """What the halt commit says of the state, or why there is none; None where that took too
        long, which it does where the machine does."""
        if commit["result"] == "failed":
            assert commit["why"], commit
            return None if "took too long" in commit["why"] else commit["why"]
        text = self.git("show", "refs/orch/state:orch-plan.demo.ini")
        return [line for line in text.splitlines()
                if not line.startswith(("attempt =", "commit =", "tokens ="))]

    def state(self):
        """What must be the same in the end, whatever happened on the way."""
        plan = self.status()
        merged = {
            "work": [(self.path / name).read_text() for name in "abc"]} if self.bare else {
            "tree": self.refs["refs/heads/orch/demo/integration"][1],
            "merges": self.git("rev-list", "--count", "--first-parent",
                               "main..orch/demo/integration")}
        return merged | {
            "tasks": {t["name"]: (t["status"], t["outcome"], t["reason"]) for t in plan["tasks"]},
            "plan": plan["status"],
            "halt": (plan["halt"]["reason"], plan["halt"]["also"]),
            "findings": plan["findings"]["count"],
            # A merge that is found to be published is not judged once more.
            "judged": self.rows(
                "SELECT DISTINCT t.name, g.invariant, g.passed FROM gate_result g JOIN task t"
                " ON t.id = g.task_id AND t.attempt = g.attempt WHERE g.stage = 'task'"
                " ORDER BY 1, 2, 3"),
            "refs": sorted({name for name in self.refs if not name.startswith(OF_ATTEMPTS)}
                           - {"refs/orch/state"}),
            "saved": self.saved(plan["halt"]["commit"]),
            "head": (self.path / ".git" / "HEAD").read_text()
                    + (self.path / ".git" / "refs" / "heads" / "main").read_text(),
            "dirty": self.git("status", "--porcelain"),
            "files": sorted(p.name for p in self.state_dir.iterdir()
                            if not p.name.startswith("orch.db-")),
            "worktrees": sorted(p.name for p in (self.path / ".git" / "worktrees").glob("*")),
            "places": sorted(str(p.relative_to(self.home / "state"))
                             for p in (self.home / "state").glob("orch/*/*")),
        }


def _compare(world, reference, excused_save):
    state = world.state()
    return [f"{key}: {state[key]!r}, undisturbed {reference[key]!r}"
            for key in reference if state[key] != reference[key]
            and not (key == "saved" and (state[key] is None or excused_save
                                         and isinstance(state[key], str)))]


def _attempts(world, lossless, excused):
    """Attempts: numbers, outcomes, refs, retries."""
    wrong = []
    began = {(task, attempt) for task, attempt, *_ in world.started()}
    refs = {name: ref for name, ref in world.refs.items() if name.startswith(OF_ATTEMPTS)}
    for task, retries, last in world.rows("SELECT id, retries_used, attempt FROM task"):
        name = world.rows(f"SELECT name FROM task WHERE id = {task}")[0][0]
        rows = world.rows(f"SELECT number, outcome, commit_oid, ended_at FROM attempt "
                          f"WHERE task_id = {task} ORDER BY number")
        outcomes = [row[1] for row in rows]
        charged = [o for o in outcomes if o not in FREE | set(excused) and o != "ok"]
        if [row[0] for row in rows] != list(range(1, len(rows) + 1)) or last != len(rows):
            wrong.append(f"{name}: attempts are numbered {[row[0] for row in rows]}, last {last}")
        expected = ["agent_error"] if name == "top" else []
        if lossless and not excused and outcomes != expected + ["ok"]:
            wrong.append(f"{name}: outcomes {outcomes}")
        if world.small:
            charged = _own_failures(world, task)
        elif charged not in ([], expected):
            wrong.append(f"{name}: charged with {charged}")
        tokens = world.rows(f"SELECT number, tokens_input, tokens_output FROM attempt "
                            f"WHERE task_id = {task} AND outcome = 'ok'")
        if [row[1:] for row in tokens] != [(30, 1)]:
            wrong.append(f"{name}: tokens {tokens}")
        if retries != len(charged):
            wrong.append(f"{name}: {retries} retries used, outcomes {outcomes}")
        if world.bare:
            continue
        for number, outcome, commit, ended in rows:
            ref = f"refs/orch/demo/{name}/{number}"
            if ref in refs:
                if commit != refs.pop(ref)[0]:
                    wrong.append(f"{ref} is not the commit of its attempt ({commit})")
            elif (name, str(number)) in began:
                wrong.append(f"no {ref} (outcome {outcome})")
        newest, _ = refs.pop(f"refs/heads/orch/demo/task/{name}", ("nothing", None))
        if newest != rows[-1][2]:
            wrong.append(f"{name}: its branch is at {newest}, its newest attempt at {rows[-1][2]}")
    return wrong + [f"stray ref {ref}" for ref in sorted(refs)]


def _own_failures(world, task):
    """Those for which the task was charged since a person had it tried again."""
    again, = world.rows(f"SELECT coalesce(max(attempt), 0) FROM transition WHERE task_id = {task}"
                        " AND from_status = 'escalated' AND to_status = 'pending'")[0]
    return [outcome for outcome, reason in world.rows(
        f"SELECT outcome, reason FROM attempt WHERE task_id = {task} AND number > {again}"
        " ORDER BY number") if reason and reason.startswith(OWN)]


def _agents(world, lossless):
    """Who ran, and what they said."""
    wrong = []
    started = [(task, attempt) for task, attempt, _, _ in world.started()]
    ended = world.ended()
    if (overlaps := world.home / "overlaps").exists():
        wrong.append(f"two agents at once: {overlaps.read_text()!r}")
    for run in sorted(set(started)):
        if started.count(run) != 1:
            wrong.append(f"the agent of {run} began {started.count(run)} times")
    for task, attempt, unit, _ in world.started():
        run = (task, attempt)
        said = world.events(task, attempt)
        name = f"{task} {attempt}"
        whole = [("message", f"{name} 1"), ("usage", 10), ("message", f"{name} 2"), ("usage", 20),
                 ("usage", 30), ("message", f"{name} 3")]
        if said != (whole if run in ended and lossless else whole[:len(said)]):
            wrong.append(f"{run} ({'ended' if run in ended else 'cut'}) said {said}")
        if run in ended and lossless:
            output = (world.state_dir / "units" / unit / "output.log").read_text()
            if output != f"{name} is done\n":
                wrong.append(f"{run}: output {output!r}")
    return wrong


def _history(world):
    wrong = []
    last = {}
    for task, before, after in world.rows(
            "SELECT task_id, from_status, to_status FROM transition ORDER BY id"):
        if last.get(task, "pending") != before:
            wrong.append(f"history of task {task}: {last.get(task)}, then {before} -> {after}")
        last[task] = after
    for task, status in world.rows("SELECT id, status FROM task"):
        if last.get(task, "pending") != status:
            wrong.append(f"task {task} is {status}, its history ends with {last.get(task)}")
    return wrong


def _units(world):
    """Rows and directories of units: of the attempts, and of what ran beside them."""
    wrong = [f"unit {unit} has no end" for unit, in
             world.rows("SELECT id FROM unit WHERE ended_at IS NULL")]
    wrong += [f"attempt {number} of task {task} has no end" for task, number in
              world.rows("SELECT task_id, number FROM attempt WHERE ended_at IS NULL")]
    for path in world.state_dir.glob("units/*"):
        journal = path / "events.jsonl"
        began = journal.exists() and '"started"' in journal.read_text()
        if began and not (path / "exit.json").exists():
            wrong.append(f"{path} has no exit.json")
    return wrong


def _leftovers(world):
    wrong = [f"still running: {cli._describe(pid)}" for pid in cli.left_processes()]
    wrong += [f"lock held: {path}" for path in world.held_locks()]
    tmpdirs = set(world.unit_tmpdirs()) | {tmpdir for *_, tmpdir in world.started()} | {
        f"/tmp/orch-{unit[:8]}" for unit in world.set_up()}
    wrong += [f"left: {path}" for path in sorted(tmpdirs) if os.path.exists(path)]
    for path in (world.path / ".git").rglob("*.lock"):
        if path.name not in ("git.lock", "merge.lock", "shim.lock"):
            wrong.append(f"left: {path}")
    wrong += [f"left: {path}" for path in world.state_dir.glob("units/*/*.tmp")]
    wrong += [f"left: {path}" for path in world.state_dir.glob("units/*/ctl.sock")]
    for unit in {unit for *_, unit, _ in world.started()} | set(world.set_up()) | {
            path.name for path in world.state_dir.glob("units/*")}:
        wrong += [f"left: {path}" for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
                  if os.path.isdir(path := f"{root}/orch-{unit}")]
    return wrong


def violations(world, reference, lossless=True, excused=(), excused_save=False):
    """Everything that does not hold, as text. lossless: no keeper died, so no agent was lost.
    excused: outcomes that may be, and must not be held against a task. excused_save: the halt commit
    may have failed."""
    wrong = _leftovers(world)
    for check in ("integrity_check", "foreign_key_check"):
        said = world.rows(f"PRAGMA {check}")
        if said not in ([("ok",)], []):
            wrong.append(f"{check}: {said}")
    return (wrong + _compare(world, reference, excused_save) + _attempts(world, lossless, excused)
            + _agents(world, lossless) + _history(world) + _units(world))


def stopped(world, result):
    """What does not hold after a dispatch that an error has ended: it says why, nothing runs on,
    what is marked as passed is in the integration branch."""
    if result.status in (0, 2):
        return []
    wrong = [f"after exit {result.status} still running: {cli._describe(pid)}"
             for pid in cli.left_processes(grace=10)]
    if not result.err.strip():
        wrong.append(f"exit {result.status} without a word")
    try:
        passed = world.rows("SELECT name, commit_oid FROM task WHERE status = 'passed'")
    except sqlite3.OperationalError:
        return wrong  # it never came to a database
    for name, commit in passed if not world.bare else ():
        if subprocess.run(["git", "merge-base", "--is-ancestor", commit or "none",
                           "orch/demo/integration"], cwd=world.path, env=world.env,
                          capture_output=True).returncode:
            wrong.append(f"{name} is marked as passed, {commit} is not integrated")
    return wrong


# ---- rounds ----

@dataclasses.dataclass(frozen=True)
class Moment:
    """SIGKILL of engine, keepers, both, or git, so many seconds after a dispatch has begun."""
    who: str
    after: float

    def __str__(self):
        return f"{self.who} after {self.after:.4f} s"


@dataclasses.dataclass(frozen=True)
class Full:
    """The disk is full so many seconds after a dispatch has begun, until that has ended."""
    after: float

    def __str__(self):
        return f"disk full after {self.after:.4f} s"


@dataclasses.dataclass
class Round:
    """Input of one round and, when it was run, what came of it."""
    scenario: str
    fault: Fault | Moment | Full
    reference: dict
    lossless: bool = True
    allowed: tuple = (0, 2, 74, -signal.SIGKILL)
    excused: tuple = ()
    struck: str = ""
    made: int = 0  # so many of these calls
    wrong: list = dataclasses.field(default_factory=list)

    def __str__(self):
        return f"{self.scenario} {self.fault} [{self.struck}]"


def _strike(world, r):
    """Dispatches with the fault armed, and goes on until the plan has ended."""
    if isinstance(r.fault, Moment):
        _kill_at(world, r)
        world.go_on()
        return
    if isinstance(r.fault, Full):
        _fill_at(world, r)
        world.go_on()
        return
    env = world.armed(r.fault)
    if r.fault.action.startswith("E"):
        r.wrong += stopped(world, world.give("dispatch", "--json", world.plan_file, env=env))
    world.go_on(env)
    r.made, _, r.struck = world.counted()


def _kill_at(world, r):
    process = world.popen("dispatch", world.plan_file, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    time.sleep(r.fault.after)  # the moment is the input of this test
    victims = []
    for pid in cli.descendants():
        comm = cli._describe(pid).partition(": ")[2].split(" ")[0].rpartition("/")[2]
        if (r.fault.who in ("engine", "both") and pid == process.pid) or \
                (r.fault.who in ("keeper", "both") and comm == "orch-shim") or \
                (r.fault.who == "git" and comm == "git"):
            victims.append((pid, comm))
    for pid, _ in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    r.struck = " ".join(comm for _, comm in victims)
    world.statuses.append(process.wait(timeout=60))


def _fill(path):
    """Takes all room that there is; returns the file that holds it."""
    filler = path / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


def _fill_at(world, r):
    process = world.popen("dispatch", "--json", world.plan_file)
    time.sleep(r.fault.after)  # the moment is the input of this test
    filler = _fill(world.top)
    out, err = process.communicate(timeout=90)
    result = cli.Result(process.args, process.returncode, out.decode(), err.decode())
    world.statuses.append(result.status)
    r.struck = f"-> {result.status}"
    filler.unlink()
    r.wrong += stopped(world, result)


@contextlib.contextmanager
def small_disk(size):
    """A file system of its own for this process and its children; None where that is not allowed."""
    libc = cli.ctypes.CDLL(None, use_errno=True)
    path = pathlib.Path(tempfile.mkdtemp(prefix="orch-fault-disk-", dir=ram()))
    try:
        # "/" of a chroot is no mount; that of `path` may be one.
        if libc.unshare(CLONE_NEWNS) or all(
                libc.mount(b"none", top.encode(), None, MS_REC | MS_PRIVATE, None)
                for top in ("/", ram())):
            yield None
            return
        if libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, f"size={size}".encode()):
            yield None
            return
        try:
            yield path
        finally:
            libc.umount2(str(path).encode(), MNT_DETACH)
    finally:
        path.rmdir()


def run_round(r, keep=False):
    if isinstance(r.fault, Full):
        with small_disk("24m") as disk:
            return _run_round(r, keep, disk)
    if not isinstance(r.fault, Fault):
        return _run_round(r, keep)
    # No two runs are cut into the same reads and writes: where one makes fewer calls than the
    # counted one did, another is struck at its last.
    for _ in range(4):
        _run_round(r, keep)
        if r.struck or r.wrong:
            break
        r.fault = dataclasses.replace(r.fault, at=max(1, min(r.made, r.fault.at)))
    if not r.struck:
        r.wrong.append(f"was not struck in {r.made} calls")
    return r


def _run_round(r, keep=False, base=None):
    world = World(r.scenario, base)
    try:
        _strike(world, r)
        r.wrong += [f"exit status {s}" for s in world.statuses if s not in r.allowed]
        if world.statuses[-1] != 0:
            r.wrong.append(f"never came to an end: {world.statuses}")
        # Only where git was killed, or something failed; not for a death of ours.
        fails = not isinstance(r.fault, Fault) or r.fault.programs == "git" or \
            r.fault.action.startswith("E")
        r.wrong += violations(world, r.reference, r.lossless, r.excused, fails)
    except BaseException as error:  # whatever it is, it belongs to this round
        r.wrong.append(f"{type(error).__name__}: {error}")
    finally:
        if r.wrong:
            r.wrong += [f"statuses {world.statuses}", *(
                f"{line}" for said in getattr(world, "said", [])
                for line in said.err.splitlines()[-4:])]
        _kill_left()
        if keep:
            print(world.top)
        else:
            world.remove()
    return r


def _kill_left():
    for pid in cli.left_processes(grace=0):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    cli.left_processes(grace=2)


def reference(scenario):
    """What an undisturbed run leaves."""
    world = World(scenario)
    try:
        assert world.go_on().status == 0, world.said
        state = world.state()
        assert not (wrong := violations(world, state)), wrong
        return state
    finally:
        _kill_left()
        world.remove()


def trace(scenario, programs, calls):
    """Each such call that an undisturbed run makes: number, program, pid, call, site, path."""
    world = World(scenario)
    try:
        assert world.go_on(world.armed(Fault(programs, calls))).status == 0, world.said
        return world.calls()
    finally:
        _kill_left()
        world.remove()


# Calls that are many, and mostly made the same way: one stands for all that come that way.
BY_SITE = {"memory", "open"}


def faults(scenario, programs, calls, action, most=None):
    """A fault at each such call of an undisturbed run, or at so many of them, spread evenly."""
    made = trace(scenario, programs, calls)
    if calls in BY_SITE:
        again = {call[4] for call in trace(scenario, programs, calls)}
        found = [Fault(programs, calls, action, 1, site=site)
                 for site in dict.fromkeys(call[4] for call in made) if site in again]
    else:
        found = [Fault(programs, calls, action, n + 1) for n in range(len(made))]
    if most is None or ALL or len(found) <= most:
        return found
    return [found[(len(found) - 1) * i // (most - 1)] for i in range(most)]


def run_rounds(rounds):
    """Runs them on all processors; returns those in which something does not hold."""
    workers = int(os.environ.get("ORCH_FAULT_JOBS", os.cpu_count() or 1))
    # Forked before anything else of ours runs; each worker is a subreaper of its own.
    with concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("fork"), _worker) as pool:
        done = list(pool.map(run_round, rounds))
    return [r for r in done if r.wrong]


def _worker():
    cli.ctypes.CDLL(None, use_errno=True).prctl(cli.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def report(bad):
    """Text for an assertion."""
    return "\n".join([f"{len(bad)} rounds went wrong", *(
        f"{r}\n    " + "\n    ".join(r.wrong) for r in bad[:10])])


def main(argv):
    scenario, programs, action, calls, at, *site = argv
    begin = time.monotonic()
    ref = reference(scenario)
    r = run_round(Round(scenario, Fault(programs, calls, action, int(at), 1, *site), ref,
                        lossless=programs in ("orch", "git"),
                        excused=("spawn_failed",) if action[0] == "E" else ()), keep=True)
    print(r, "\n   ", "\n    ".join(r.wrong) or "holds", f"\n{time.monotonic() - begin:.1f} s")
    return 1 if r.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
