# SPDX-License-Identifier: MIT
"""Case `tasks`: many times `true`, two at a time, against programs that only run commands."""

import shutil
import subprocess
import time

from lib import Missing, interleave, median, spread, table, verdict

JOBS = 2


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"'{program}' is not installed")


def plan_text(count, command="true", extra=""):
    tasks = "".join(f"[task:t{i}]\ncommand = {command}\n" for i in range(count))
    return f"[plan]\nname = bench\nisolation = none\nmax_agents = {JOBS}\n{extra}{tasks}"


def orch(bench, count, containment):
    def run():
        cwd = bench.place("orch")
        (cwd / "plan.ini").write_text(plan_text(count))
        seconds, out = bench.run([bench.orch, "dispatch", "plan.ini", "--json"], cwd,
                                 env={"ORCH_CONTAINMENT": containment}, stdout=subprocess.PIPE)
        passed = out.count(b'"to":"passed"') + out.count(b'"to": "passed"')
        if passed != count:
            raise RuntimeError(f"orch passed {passed} of {count} tasks")
        return seconds
    return run


def bare(bench, count):
    program = bench.program("tests/bench-bare-shim")

    def run():
        cwd = bench.place("bare")
        seconds, _ = bench.run([program, count, JOBS, cwd], cwd)
        done = sum(1 for _ in cwd.glob("*/exit.json"))
        if done != count:
            raise RuntimeError(f"the bare shim kept {done} of {count}")
        return seconds
    return run


def xargs(bench, count):
    need("xargs", "seq")

    def run():
        return bench.run(["sh", "-c", f"seq {count} | xargs -P{JOBS} -I@ true"],
                         bench.place("xargs"))[0]
    return run


def ninja(bench, count):
    need("ninja")

    def run():
        cwd = bench.place("ninja")
        (cwd / "build.ninja").write_text(
            "rule r\n  command = true\n" + "".join(f"build t{i}: r\n" for i in range(count)))
        seconds, out = bench.run(["ninja", f"-j{JOBS}", "--verbose"], cwd, stdout=subprocess.PIPE)
        if out.count(b"\n") != count:
            raise RuntimeError("ninja did not run every command")
        return seconds
    return run


def task_spooler(bench, count):
    name = shutil.which("tsp") or shutil.which("ts")
    if not name:
        raise Missing("'tsp' (task-spooler) is not installed")

    def run():
        cwd = bench.place("tsp")
        env = {"TS_SOCKET": str(cwd / "socket"), "TMPDIR": str(cwd),
               "TS_MAXFINISHED": str(count), "TS_SLOTS": str(JOBS)}
        script = (f"i=0; while [ $i -lt {count} ]; do {name} true; i=$((i+1)); done;"
                  f"{name} -w $((i-1)); {name} -w $((i-2))")
        try:
            seconds, _ = bench.run(["sh", "-c", script], cwd, env=env)
            _, out = bench.run([name], cwd, env=env, stdout=subprocess.PIPE)
        finally:
            bench.run([name, "-K"], cwd, env=env)
        if out.count(b"finished") != count:
            raise RuntimeError(f"task-spooler finished {out.count(b'finished')} of {count}")
        return seconds
    return run


def nq(bench, count):
    need("nq")

    def run():
        # nq runs one job of a directory at a time: two directories, two at a time.
        cwd = bench.place("nq")
        script = (f"i=0; while [ $i -lt {count} ]; do NQDIR=q$((i%{JOBS})) nq -q true;"
                  "i=$((i+1)); done; NQDIR=q0 nq -q -w; NQDIR=q1 nq -q -w")
        for number in range(JOBS):
            (cwd / f"q{number}").mkdir()
        seconds, _ = bench.run(["sh", "-c", script], cwd)
        # The last line of a log may come a moment after `nq -w` has seen the end.
        deadline = time.monotonic() + 5
        while (done := sum("exited with status 0" in log.read_text()
                           for log in cwd.glob("q*/,*"))) != count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nq finished {done} of {count}")
            time.sleep(0.05)
        return seconds
    return run


def parallel(bench, count):
    need("parallel", "seq")

    def run():
        cwd = bench.place("parallel")
        script = (f"seq {count} | parallel -j{JOBS} --joblog joblog --results results"
                  " true '#' {}")
        seconds, _ = bench.run(["sh", "-c", script], cwd)
        lines = (cwd / "joblog").read_text().count("\n")
        if lines != count + 1:
            raise RuntimeError(f"parallel logged {lines - 1} of {count}")
        return seconds
    return run


PEERS = {  # name: (who, what it leaves behind)
    "xargs -P2": (xargs, "nothing"),
    "ninja": (ninja, "a log of what is up to date"),
    "bare fsynced shim": (bare, "three fsynced files a task"),
    "task-spooler": (task_spooler, "output in files, the rest in memory"),
    "nq": (nq, "a log file a job"),
    "GNU parallel": (parallel, "joblog and results, not fsynced"),
}


def case_tasks(bench):
    count = 12 if bench.smoke else 1000
    runners, skipped = {}, []
    for name, (make, _) in PEERS.items():
        try:
            runners[name] = make(bench, count)
        except Missing as missing:
            skipped.append(f"{name}: {missing}")
    kinds = {"orch": "auto", "orch, subreaper": "subreaper"}
    for name, containment in kinds.items():
        runners[name] = orch(bench, count, containment)
    times = interleave(bench.rounds, runners)
    reference = median(times["bare fsynced shim"])
    rows = []
    for name in sorted(times, key=lambda n: median(times[n])):
        left = PEERS[name][1] if name in PEERS else "journal, output, result and history, fsynced"
        rows.append((name, spread(times[name], 1000 / count),
                     f"{median(times[name]) / reference:.2f}", left))
    ratio = median(times["orch"]) / reference
    text = table(("", "ms a task", "of the bare shim", "what it leaves behind"), rows)
    text += f"\norch takes {ratio:.2f} times the bare shim (wanted: at most 1.5): " \
            f"{verdict(ratio, 1.5)}."
    for peer in ("nq", "task-spooler"):
        if peer in times:
            against = median(times["orch"]) / median(times[peer])
            text += f" It takes {against:.2f} times {peer} (wanted: below 1): " \
                    f"{verdict(against, 1.0)}."
    return text + "\n", skipped
