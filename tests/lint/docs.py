# SPDX-License-Identifier: MIT
"""docs.py DOCS_DIR ORCH: man pages are well-formed, completions work, and no verb is without."""

import pathlib
import re
import shutil
import subprocess
import sys

import tree

docs, orch = pathlib.Path(sys.argv[1]), sys.argv[2]
# Pages have a version; a date would have to be kept true by hand.
HARMLESS = re.compile(r"missing date, using")
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _orch; printf '%s\\n' "${COMPREPLY[@]}"
"""
report = tree.Report()


def run(*argv, **kwargs):
    return subprocess.run(argv, capture_output=True, text=True, **kwargs)


def complete(*words):
    result = run("bash", "-c", COMPLETE, "complete", docs / "orch.bash", "orch", *words)
    if result.stderr:
        report.add("orch.bash", 1, result.stderr)
    return set(result.stdout.split())


pages = sorted(docs.glob("man*/*"))
if shutil.which("mandoc"):
    for line in run("mandoc", "-T", "lint", "-W", "warning", *pages).stdout.splitlines():
        if not HARMLESS.search(line):
            report.add("mandoc", 1, line)
else:
    print("not checked: man pages, for want of mandoc")
for page in pages:
    text = tree.read(page)
    for name in re.findall(r"^\.BR (orch\S*) \(([15])\)", text, re.M):
        name = (name[0].replace("\\", ""), name[1])
        if not (docs / f"man{name[1]}" / ".".join(name)).is_file():
            report.add(page.name, 1, f"refers to {name[0]}({name[1]}), which there is not")
    if "@" in re.sub(r"\S+@\S+\.\S+", "", text):
        report.add(page.name, 1, "a placeholder was not filled in")

verbs = re.findall(r"^  ([a-z-]+) ", run(orch, "--help").stdout, re.M)
for verb in verbs:
    if not (docs / f"man1/orch-{verb}.1").is_file():
        report.add(verb, 1, "has no man page")
    if verb not in complete(verb[:2]):
        report.add(verb, 1, "is not completed by bash")
    if f" -a {verb} " not in tree.read(docs / "orch.fish"):
        report.add(verb, 1, "is not completed by fish")
    subs = re.findall(r"^  ([a-z-]+) +\S", run(orch, verb, "--help").stdout, re.M)
    for sub in subs:
        if sub not in complete(verb, sub[:2]):
            report.add(f"{verb} {sub}", 1, "is not completed by bash")
EXPECTED = {
    ("dis",): {"dispatch"},
    ("-C", "dir", "plan", "ch"): {"check"},
    ("dispatch", "--har"): {"--harness"},
    ("plan", "list", "--j"): {"--json"},
    ("-q",): {"-q"},
    ("status", "-q"): {"-q"},
    ("no-such-verb", "x"): set(),
}
for words, expected in EXPECTED.items():
    if complete(*words) != expected:
        report.add("orch.bash", 1, f"{' '.join(words)}: {complete(*words)}, expected {expected}")
for shell, name in (("bash", "orch.bash"), ("zsh", "_orch"), ("fish", "orch.fish")):
    if shutil.which(shell):
        result = run(shell, "-n", docs / name)
        if result.returncode or result.stderr:
            report.add(name, 1, result.stderr)
if shutil.which("shellcheck"):
    result = run("shellcheck", docs / "orch.bash")
    if result.returncode:
        report.add("orch.bash", 1, result.stdout)
report.finish(len(pages) + len(verbs))
