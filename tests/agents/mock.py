# SPDX-License-Identifier: MIT
"""The mock of four model APIs as a process: `with Mock(directory, rules) as mock`."""

import json
import pathlib
import subprocess
import sys

from cli_fixtures import wait_until

HERE = pathlib.Path(__file__).resolve().parent
TITLE = {"match": {"tools": False}, "reply": {"text": "Mock title"}}


class Mock:
    """Listens on loopback until the block is left. `rules` are those of mock_llm.py."""

    def __init__(self, directory, rules):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        (self.directory / "scenario.json").write_text(json.dumps({"rules": rules}))

    def __enter__(self):
        port = self.directory / "port"
        self.process = subprocess.Popen(
            [sys.executable, HERE / "mock_llm.py", "--port-file", port, "--log",
             self.directory / "log", "--scenario", self.directory / "scenario.json", "--dump",
             self.directory / "bodies"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(port.exists, what="the mock's port")
        self.port = int(port.read_text())
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self):
        try:
            lines = (self.directory / "log").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [entry for entry in map(json.loads, lines) if entry["event"] == "request"]

    def bodies(self):
        return [path.read_text() for path in sorted((self.directory / "bodies").glob("*.json"))]
