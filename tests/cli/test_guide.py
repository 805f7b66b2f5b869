# SPDX-License-Identifier: MIT
"""The harness of docs/plugin-guide.md: taken from the page, compiled against the header alone, and
dispatched to."""

import os
import pathlib
import re
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


def test_the_guides_harness_runs_a_task(repo):
    page = (TOP / "docs" / "plugin-guide.md").read_text()
    block = re.search(r"```c\n(.*?)```", page, re.S).group(1)
    assert len(block.splitlines()) < 60
    source = repo.home / "guide.c"
    source.write_text(block)
    include = repo.home / "include"
    include.mkdir()
    (include / "plugin_api.h").write_text((TOP / "include" / "plugin_api.h").read_text())
    name = re.search(r"orch-harness-([a-z0-9]+)\.so", page).group(1)
    plugins = repo.home / "plugins"
    plugins.mkdir()
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared",
                    "-fPIC", "-I", include, source, "-o", plugins / f"orch-harness-{name}.so"],
                   check=True)
    listed = repo.orch("harness", "list", env={"ORCH_PLUGIN_PATH": str(plugins)}).out
    assert name in listed
    agent = repo.home / "agent"
    agent.write_text("#!/bin/sh\ngrep 'made by the guide' > made\necho it is done\n")
    agent.chmod(0o755)
    config = repo.home / "config" / "orch"
    config.mkdir(parents=True)
    (config / "orch.ini").write_text(f"[harness:{name}]\nprogram = {agent}\n")
    repo.orch("dispatch", f"--harness={name}", "--prompt=made by the guide",
              env={"ORCH_PLUGIN_PATH": str(plugins)})
    task = repo.status()["tasks"][0]
    assert (task["status"], task["harness"]) == ("passed", name)
    messages = [e["data"]["text"] for e in repo.orch("log", task["name"], "--json").lines
                if e["kind"] == "message"]
    assert "it is done" in messages
