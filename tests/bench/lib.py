# SPDX-License-Identifier: MIT
"""What the benchmarks share: a private place on disk, timed commands, interleaved rounds, tables."""

import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

TIMEOUT = 900  # seconds for one command; it is broken then, not slow


class Missing(Exception):
    """Something that a case needs is not there; the text says what."""


class Bench:
    """Where everything happens: one temporary directory with a home of its own."""

    def __init__(self, build, directory, rounds, smoke):
        self.build = pathlib.Path(build).resolve()
        self.rounds = rounds
        self.smoke = smoke
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="orch-bench-", dir=directory))
        self.places = 0
        self.home = self.root / "home"
        self.home.mkdir()
        self.orch = self.program("orch")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "LC_ALL": "C.UTF-8",
            "ORCH_RETRY_BACKOFF": "0s",
            "ORCH_MIN_FREE_MEMORY": "1M",
            "ORCH_MIN_FREE_DISK": "1M",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@localhost",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@localhost",
        }

    def program(self, name):
        path = self.build / name
        if not path.exists():
            raise Missing(f"'{path}' is not built")
        return str(path)

    def place(self, name):
        """A fresh directory. Earlier ones stay until the end: ext4 is slow to make files for
        seconds after many were removed, which would be on the account of whoever comes next."""
        self.places += 1
        path = self.root / f"{name}-{self.places}"
        path.mkdir()
        return path

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, argv, cwd, env=None, **kwargs):
        kwargs.setdefault("stdout", subprocess.DEVNULL)
        kwargs.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([str(a) for a in argv], cwd=cwd, env={**self.env, **(env or {})},
                                stdin=subprocess.DEVNULL, start_new_session=True, **kwargs)

    def run(self, argv, cwd, env=None, expect=0, **kwargs):
        """Runs a command to its end and returns (seconds, stdout). Another exit status is an
        error: a peer that did not do the work has no time."""
        begin = time.monotonic()
        process = self.start(argv, cwd, env, **kwargs)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        seconds = time.monotonic() - begin
        if process.returncode != expect:
            raise RuntimeError(f"{argv} ended with {process.returncode}: "
                               f"{(err or b'').decode(errors='replace')[-2000:]}")
        return seconds, out

    def json(self, argv, cwd, **kwargs):
        return json.loads(self.run(argv, cwd, stdout=subprocess.PIPE, **kwargs)[1])


def interleave(rounds, runners):
    """Runs each of {name: function -> seconds} once a round, in turn, so that what else the
    machine does hits all of them alike. Returns {name: [seconds]}."""
    times = {name: [] for name in runners}
    order = list(runners)
    for number in range(rounds):
        for name in order:
            times[name].append(runners[name]())
        order = order[1:] + order[:1]
        print(f"  round {number + 1} of {rounds}: "
              + ", ".join(f"{n} {t[-1]:.2f} s" for n, t in times.items()), flush=True)
    return times


def median(values):
    return statistics.median(values)


def spread(values, scale=1.0, digits=2):
    """ "median (fastest-slowest)" """
    return (f"{median(values) * scale:.{digits}f} "
            f"({min(values) * scale:.{digits}f}-{max(values) * scale:.{digits}f})")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def verdict(value, limit):
    return "met" if value <= limit else "**not met**"


def file_system(path):
    """The type of the file system that holds a path: fsync on a tmpfs costs nothing."""
    best = ("", "?")
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind = line.split()[:3]
        if (str(path) + "/").startswith(where.rstrip("/") + "/") and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]


def machine(bench):
    """The machine in general words."""
    model = "processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} cores ({model}), {memory} GiB, Linux "
            f"{platform.release().partition('-')[0]}, {file_system(bench.root)}; "
            f"load average {load:.1f} at the start")


def loud_skip(what):
    print(f"\n*** SKIPPED: {what}\n", flush=True)
