#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone, for both compilers, and without exceptions and RTTI: what does so
compiles with them, too, as the tests show."""
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILERS = (os.environ.get("CXX", "g++"), os.environ.get("CLANGXX", "clang++-14"))
WARNINGS = ("-std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion "
            "-Wold-style-cast -Wundef -Werror -fsyntax-only -fno-exceptions -fno-rtti").split()


def compile_alone(job):
    include, header, compiler = job
    # Twice: that also proves the include guard.
    text = f'#include "{header}"\n#include "{header}"\n'
    command = [compiler, *WARNINGS, "-I", str(include), "-x", "c++", "-"]
    done = subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.returncode == 0, f"{header} ({compiler}):\n{done.stdout}"


def check(include):
    headers = sorted(path.relative_to(include) for path in include.rglob("*.h"))
    assert headers, f"no header below {include}"
    jobs = [(include, header, compiler) for header in headers for compiler in COMPILERS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [said for fine, said in pool.map(compile_alone, jobs) if not fine]


def self_test():
    bad = {
        "needs_others.h": "#pragma once\ninline std::string text() { return {}; }\n",
        "no_guard.h": "inline int twice() { return 1; }\n",
        "throws.h": "#pragma once\ninline void fail() { throw 1; }\n",
        "narrows.h": "#pragma once\ninline int cut(long wide) { return wide; }\n",
    }
    for name, text in bad.items():
        with tempfile.TemporaryDirectory() as temp:
            Path(temp, name).write_text(text)
            found = check(Path(temp))
            assert len(found) >= len(COMPILERS), f"{name} passed"
            Path(temp, name).write_text("#pragma once\n#include <string>\n")
            assert not check(Path(temp)), "a good header failed"


if __name__ == "__main__":
    for compiler in COMPILERS:
        assert shutil.which(compiler), f"{compiler} is not installed: ./dev test installs it"
    if "--self-test" in sys.argv:
        self_test()
    else:
        wrong = check(ROOT / "include")
        print("\n".join(wrong), end="")
        sys.exit(1 if wrong else 0)
