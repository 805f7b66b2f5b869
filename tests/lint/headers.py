# SPDX-License-Identifier: MIT
"""headers.py SOURCE_DIR CC CXX: every header compiles alone, plugin_api.h in strict C11 and C++17, too."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

import tree

root = pathlib.Path(sys.argv[1]).resolve()
cc, cxx = sys.argv[2], sys.argv[3]
packages = ["sqlite3", "libuv", "jansson", "libsodium"]
cflags = subprocess.run(
    ["pkg-config", "--cflags", *packages], capture_output=True, text=True, check=True
).stdout.split()
COMMON = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{root}/include"]
HOST = ["-std=gnu17", "-D_GNU_SOURCE", f"-I{root}/core", *cflags]


def compile_alone(job):
    compiler, name, flags, language = job
    code = f"#include <{name}>\n#include <{name}>\nextern int something_follows;\n"
    result = subprocess.run(
        [compiler, *COMMON, *flags, "-x", language, "-"], input=code, capture_output=True, text=True
    )
    return job, result.stderr if result.returncode else None


jobs = []
for header in tree.sources(root, "core", "include"):
    if header.suffix == ".h":
        jobs.append((cc, header.relative_to(header.parts[0]), HOST, "c"))
jobs.append((cc, "plugin_api.h", ["-std=c11", "-Wconversion"], "c"))
jobs.append((cxx, "plugin_api.h", ["-std=c++17", "-Wconversion"], "c++"))
report = tree.Report()
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for (compiler, header, _, language), error in pool.map(compile_alone, jobs):
        if error:
            report.add(header, 1, f"does not compile alone as {language}:\n{error}")
report.finish(len(jobs))
