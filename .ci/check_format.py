#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every source is as clang-format-14 would write it. --fix writes it so; --self-test tests this."""
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("include", "src", "tests", "tools", "fuzz", "bench")
TOOL = "clang-format-14"


def sources():
    return sorted(path for folder in FOLDERS for suffix in ("h", "cc")
                  for path in (ROOT / folder).rglob(f"*.{suffix}"))


def differs(paths):
    return subprocess.run([TOOL, "--dry-run", "-Werror", "--style=file", *map(str, paths)]).returncode


def self_test():
    with tempfile.TemporaryDirectory(dir=ROOT / ".ci") as temp:  # beneath .clang-format
        bad, good = Path(temp, "bad.cc"), Path(temp, "good.cc")
        bad.write_text("int  main( ){return 0 ;}\n")
        good.write_text("int main() { return 0; }\n")
        seen = subprocess.run([TOOL, "--dry-run", "-Werror", "--style=file", str(bad)],
                              stderr=subprocess.DEVNULL).returncode
        assert seen != 0, "a badly formatted file passed"
        assert differs([good]) == 0, "a well formatted file failed"


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    elif "--fix" in sys.argv:
        subprocess.run([TOOL, "-i", "--style=file", *map(str, sources())], check=True)
    else:
        assert sources(), "no source found"
        sys.exit(1 if differs(sources()) else 0)
