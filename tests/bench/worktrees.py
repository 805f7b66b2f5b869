# SPDX-License-Identifier: MIT
"""Case `worktrees`: what orch adds to git's own time."""

import queue
import subprocess
import threading
import time

from lib import interleave, median, spread, table, verdict

JOBS = 2


def make_repository(bench, path, files):
    path.mkdir()
    for i in range(files):
        folder = path / f"d{i % 50}" / f"e{i % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{i}.c").write_text(f"/* file {i} */\nint f{i}(void);\n" * 20)
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "start"],
                 ["gc", "-q"]):
        bench.run(["git", *argv], path)


def fresh(bench, template, name):
    """A copy of the repository, made anew outside of what is timed, its cache warm."""
    cwd = bench.place(name)
    bench.run(["cp", "-a", template, cwd / "repo"], cwd)
    bench.run(["git", "status", "--porcelain"], cwd / "repo")
    return cwd / "repo"


class GitAlone:
    """The git commands that the work cannot do without, in as many threads as there are agents;
    merges one at a time, in a worktree of their own, as there must be one order of them."""

    def __init__(self, bench, repo, count):
        self.bench, self.repo = bench, repo
        self.trees = repo.parent / "trees"
        self.trees.mkdir()
        self.todo = queue.SimpleQueue()
        for i in range(count):
            self.todo.put(i)
        self.merge_lock = threading.Lock()
        self.errors = []

    def git(self, cwd, *argv):
        done = subprocess.run(["git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0",
                               "-c", "maintenance.auto=false", *argv],
                              cwd=cwd, env=self.bench.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise RuntimeError(f"git {argv}: {done.stderr.decode()}")

    def one(self, i):
        tree = self.trees / f"t{i}"
        with self.merge_lock:  # git itself cannot make two worktrees at once
            self.git(self.repo, "worktree", "add", "-q", "--no-checkout", "--detach", str(tree),
                     "orch-integration")
        self.git(tree, "reset", "-q", "--hard")
        (tree / f"new{i}.txt").write_text(f"work of {i}\n")
        self.git(tree, "add", "-A")
        self.git(tree, "commit", "-q", "-m", f"work of {i}")
        self.git(tree, "branch", f"task-{i}")
        with self.merge_lock:
            self.git(self.trees / "merge", "merge", "-q", "--no-ff", "-m", f"merge {i}",
                     f"task-{i}")
        self.git(self.repo, "worktree", "remove", "--force", str(tree))

    def worker(self):
        try:
            while not self.errors:
                self.one(self.todo.get_nowait())
        except queue.Empty:
            pass
        except Exception as error:  # told by run()
            self.errors.append(error)

    def run(self):
        begin = time.monotonic()
        self.git(self.repo, "branch", "orch-integration")
        self.git(self.repo, "worktree", "add", "-q", str(self.trees / "merge"),
                 "orch-integration")
        threads = [threading.Thread(target=self.worker) for _ in range(JOBS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
        return time.monotonic() - begin


def plan_text(count):
    text = f"[plan]\nname = bench\nmax_agents = {JOBS}\n"
    for i in range(count):
        text += f"[task:t{i}]\ncommand = echo work of {i} > new{i}.txt\n"
    return text


def merged(bench, repo, branch):
    _, out = bench.run(["git", "ls-tree", "--name-only", branch], repo, stdout=subprocess.PIPE)
    return sum(1 for name in out.decode().split() if name.startswith("new"))


def case_worktrees(bench):
    count, files = (4, 50) if bench.smoke else (200, 5000)
    template = bench.place("worktrees") / "template"
    make_repository(bench, template, files)

    def git_alone():
        repo = fresh(bench, template, "git-alone")
        seconds = GitAlone(bench, repo, count).run()
        if merged(bench, repo, "orch-integration") != count:
            raise RuntimeError("git alone did not merge everything")
        return seconds

    def orch():
        repo = fresh(bench, template, "orch-worktrees")
        (repo.parent / "plan.ini").write_text(plan_text(count))
        seconds, _ = bench.run([bench.orch, "dispatch", "../plan.ini"], repo,
                               env={"XDG_STATE_HOME": str(repo.parent / "state")})
        if merged(bench, repo, "orch/bench/integration") != count:
            raise RuntimeError("orch did not merge everything")
        return seconds

    times = interleave(min(bench.rounds, 3), {"git alone": git_alone, "orch": orch})
    base = median(times["git alone"])
    rows = [(name, spread(t, 1000 / count, 1), f"{(median(t) / base - 1) * 100:+.0f} %")
            for name, t in times.items()]
    added = median(times["orch"]) / base - 1
    text = table((f"{count} tasks, {files:,} files", "ms a task", "added"), rows)
    return text + f"\nWanted: at most +20 %: {verdict(added, 0.20)}.\n", []
