# SPDX-License-Identifier: MIT
"""install.py [--all]: the agents of agents.json, each at its version, into the cache directory.

A package that cannot be had is told and left out: the tests then skip that agent by name. What is
there already is not fetched again. Install scripts do not run; the native programs are in packages
of their own, which start without them.
"""

import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 170  # seconds for one package
AGENTS = json.loads((HERE / "agents.json").read_text())
MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("ORCH_AGENT_CACHE") or os.path.join(home, "orch", "agents"))


def directory(name):
    return cache() / f"{name}-{AGENTS[name]['version']}"


def program(name):
    """Where the agent's program is, or would be."""
    return directory(name) / AGENTS[name]["program"].replace("{machine}", MACHINE)


def problem_file(name):
    return cache() / f"{name}-{AGENTS[name]['version']}.problem"


def try_out(name):
    """Why it does not start with the node that is here, or None. Asked once."""
    node = shutil.which("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip() \
        if node else "none"
    marker = directory(name) / f".works-with-node-{version}"
    if marker.exists():
        return None
    with tempfile.TemporaryDirectory() as home:
        try:
            done = subprocess.run(
                [program(name), "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=120,
                env={"HOME": home, "PATH": os.environ["PATH"], "TMPDIR": home})
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"it does not start: {error}"
    if done.returncode:
        return f"it does not start with node {version}: {done.stdout.strip()[-200:]}"
    marker.touch()
    return None


def install(name):
    """Why it could not be installed, or None."""
    if program(name).exists():
        return try_out(name)
    npm = shutil.which("npm")
    if not npm:
        return "there is no npm"
    package = f"{AGENTS[name]['package']}@{AGENTS[name]['version']}"
    target = directory(name)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        done = subprocess.run(
            [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
             "--fetch-retries=1", "--fetch-timeout=30000", "--prefix", fresh, package],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=TIMEOUT)
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if "error" in line.lower()]
            return f"npm install {package} failed: {' / '.join(lines[:2]) or done.returncode}"
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        if not program(name).exists():
            return f"{package} has no {AGENTS[name]['program']}"
        return try_out(name)
    except subprocess.TimeoutExpired:
        return f"npm install {package} took more than {TIMEOUT} s"
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def main():
    cache().mkdir(parents=True, exist_ok=True)
    for name, agent in AGENTS.items():
        if agent["tier"] != "ci" and "--all" not in sys.argv:
            continue
        begin = time.monotonic()
        problem = install(name)
        problem_file(name).unlink(missing_ok=True)
        if problem:
            problem_file(name).write_text(problem + "\n")
            print(f"NOT INSTALLED, its tests are SKIPPED: {name}: {problem}", flush=True)
        else:
            print(f"{name} {agent['version']} ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
