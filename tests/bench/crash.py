# SPDX-License-Identifier: MIT
"""Case `crash`: what each program keeps after its own SIGKILL. Six jobs, two at a time; the program
is killed while two run and others are done; then the same command is given again. It is tried, not
looked up."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

from lib import Missing, table

COUNT = 6
JOB_SECONDS = 0.5
JOB = """#!/bin/sh
echo "start $1" >>"$JOBLOG"
sleep {seconds}
echo "end $1" >>"$JOBLOG"
: >"out$1"
"""


class Peer:
    """How to start a program on the jobs, which process to kill, and what it knows afterwards."""

    needs = ()

    def __init__(self, bench, cwd):
        self.bench, self.cwd = bench, cwd
        (cwd / "job").write_text(JOB.format(seconds=JOB_SECONDS))
        (cwd / "job").chmod(0o755)
        self.env = {"JOBLOG": str(cwd / "log")}
        for name in self.needs:
            if not shutil.which(name):
                raise Missing(f"'{name}' is not installed")
        self.prepare()

    def prepare(self):
        pass

    def argv(self):
        raise NotImplementedError

    def start(self):
        self.process = self.bench.start(self.argv(), self.cwd, self.env,
                                        stderr=subprocess.DEVNULL)

    def victim(self):
        return self.process.pid

    def known(self):
        """How many ended jobs the program has a result of."""
        return 0

    def again(self):
        process = self.bench.start(self.argv(), self.cwd, self.env, stderr=subprocess.DEVNULL)
        process.communicate(timeout=60)

    def close(self):
        self.process.communicate()


class Xargs(Peer):
    needs = ("xargs",)

    def argv(self):
        return ["sh", "-c", f"seq {COUNT} >jobs; exec xargs -a jobs -P2 -n1 ./job"]


class Ninja(Peer):
    needs = ("ninja",)

    def prepare(self):
        (self.cwd / "build.ninja").write_text(
            "rule r\n  command = ./job $n\n" +
            "".join(f"build out{i}: r\n  n = {i}\n" for i in range(1, COUNT + 1)))

    def argv(self):
        return ["ninja", "-j2"]

    def known(self):
        log = self.cwd / ".ninja_log"
        return log.read_text().count("\tout") if log.exists() else 0


class TaskSpooler(Peer):
    needs = ("tsp",)

    def prepare(self):
        self.env.update(TS_SOCKET=str(self.cwd / "socket"), TMPDIR=str(self.cwd), TS_SLOTS="2")

    def argv(self):
        return ["sh", "-c", f"for i in $(seq {COUNT}); do tsp ./job $i; done;"
                f"tsp -w {COUNT - 1}; tsp -w {COUNT - 2}"]

    def victim(self):
        socket = str(self.cwd / "socket").encode()
        for entry in os.listdir("/proc"):
            try:
                if (entry.isdigit() and pathlib.Path("/proc", entry, "comm").read_text() == "tsp\n"
                        and socket in pathlib.Path("/proc", entry, "environ").read_bytes()
                        and os.getsid(int(entry)) == int(entry)
                        and self.listens(int(entry))):
                    return int(entry)
            except OSError:
                continue
        raise RuntimeError("the server of task-spooler was not found")

    def listens(self, pid):
        """The server, not one of its clients: it holds the listening socket."""
        inodes = {line.split()[6] for line in pathlib.Path("/proc/net/unix").read_text().splitlines()
                  if line.endswith(str(self.cwd / "socket")) and line.split()[3] == "00010000"}
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(fd).removeprefix("socket:[").rstrip("]") in inodes:
                return True
        return False

    def known(self):
        # A client that was waiting has started another server, with nothing in it.
        self.bench.run(["tsp", "-K"], self.cwd, self.env)
        (self.cwd / "socket").unlink(missing_ok=True)
        out = self.bench.run(["tsp"], self.cwd, self.env, stdout=subprocess.PIPE)[1]
        return out.count(b"finished")

    def close(self):
        super().close()
        self.bench.run(["tsp", "-K"], self.cwd, self.env)


class Nq(Peer):
    needs = ("nq",)

    def argv(self):
        return ["sh", "-c", f"for i in $(seq {COUNT}); do mkdir -p q$((i%2));"
                "NQDIR=q$((i%2)) nq -q ./job $i; done; NQDIR=q0 nq -q -w; NQDIR=q1 nq -q -w"]

    def victim(self):
        """There is no one process: that which keeps the job that started last."""
        number = (self.cwd / "log").read_text().split("start ")[-1].split()[0]
        for entry in os.listdir("/proc"):
            try:
                line = pathlib.Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
                if (entry.isdigit() and line[:1] == [b"nq"] and line[-3:-1] ==
                        [b"./job", number.encode()] and
                        os.readlink(f"/proc/{entry}/cwd") == str(self.cwd)):
                    return int(entry)
            except OSError:
                continue
        raise RuntimeError("the keeper of the job was not found")

    def known(self):
        return sum("exited with status 0" in p.read_text() for p in self.cwd.glob("q*/,*"))

    def again(self):
        for number in range(2):
            self.bench.run(["nq", "-q", "-w"], self.cwd, {**self.env, "NQDIR": f"q{number}"})


class Parallel(Peer):
    needs = ("parallel",)

    def argv(self):
        return ["parallel", "-j2", "--resume", "--joblog", "joblog", "--results", "results",
                "./job", ":::", *range(1, COUNT + 1)]

    def known(self):
        log = self.cwd / "joblog"
        return max(0, log.read_text().count("\n") - 1) if log.exists() else 0


class Orch(Peer):
    def prepare(self):
        (self.cwd / "plan.ini").write_text(
            "[plan]\nname = crash\nisolation = none\nmax_agents = 2\n" +
            "".join(f"[task:t{i}]\ncommand = ./job {i}\n" for i in range(1, COUNT + 1)))
        # What is the job's own is not of the ORCH_* that are kept from agents.
        self.env["ORCH_LOG_LEVEL"] = "error"

    def argv(self):
        return [self.bench.orch, "dispatch", "plan.ini"]

    def known(self):
        return sum(1 for _ in self.cwd.glob(".orch/units/*/exit.json"))


PEERS = {"xargs -P2": Xargs, "ninja": Ninja, "task-spooler": TaskSpooler, "nq": Nq,
         "GNU parallel": Parallel, "orch": Orch}


def starts_and_ends(cwd):
    try:
        words = [line.split() for line in (cwd / "log").read_text().splitlines()]
    except FileNotFoundError:
        return [], []
    return ([n for w, n in words if w == "start"], [n for w, n in words if w == "end"])


def wait_for(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come")
        time.sleep(0.01)


def quiet(cwd):
    """Until nothing was started or ended for longer than a job takes."""
    last, since = None, time.monotonic()
    while time.monotonic() - since < 3 * JOB_SECONDS:
        now = starts_and_ends(cwd)
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.02)


def try_peer(bench, name, make):
    cwd = bench.place("crash")
    peer = make(bench, cwd)
    peer.start()
    try:
        wait_for(lambda: len(starts_and_ends(cwd)[0]) >= 4 and len(starts_and_ends(cwd)[1]) >= 2,
                 f"{name}: the second pair of jobs")
        os.kill(peer.victim(), signal.SIGKILL)
        begun, ended = starts_and_ends(cwd)
        under_way = set(begun) - set(ended)
        quiet(cwd)
        after = starts_and_ends(cwd)
        survived = len(under_way & set(after[1]))
        known = peer.known()
        went_on = len(set(after[0]) - set(begun))
        peer.again()
        quiet(cwd)
        begun, ended = starts_and_ends(cwd)
    finally:
        peer.close()
    twice = len(begun) - len(set(begun))
    return (name, f"{survived} of {len(under_way)}", f"{known} of {len(set(after[1]))}",
            "yes" if went_on else "no", twice, COUNT - len(set(ended)))


def case_crash(bench):
    rows, skipped = [], []
    for name, make in PEERS.items():
        print(f"  {name}", flush=True)
        try:
            rows.append(try_peer(bench, name, make))
        except Missing as missing:
            skipped.append(f"{name}: {missing}")
    text = table(("", "running jobs that came to their end", "ended jobs with a result",
                  "the rest went on by itself", "run twice after the same command again",
                  "never run to the end"), rows)
    return text + ("\nKilled: the program that was started; for task-spooler its server, for nq, "
                   "which has no such program, the process that keeps one of the running jobs. "
                   "`parallel` is given `--resume`. nq is not given its jobs again, only waited "
                   "for.\n"), skipped
