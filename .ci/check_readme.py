#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""README's C++ is cut out of a program that a test builds and runs; this compares them.

usage: check_readme.py [--update | --self-test]"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests/adoption/app.cc"
BLOCK = re.compile(r"```cpp\n(.*?)```", re.S)


def snippet(text):
    return re.search(r"// README begin\n(.*)// README end\n", text, re.S).group(1)


def differs(readme, source):
    blocks = BLOCK.findall(readme)
    return len(blocks) != 1 or blocks[0] != snippet(source)


def main():
    readme, source = (ROOT / "README.md").read_text(), SOURCE.read_text()
    if "--self-test" in sys.argv:
        good = f"```cpp\n{snippet(source)}```\n"
        caught = differs(good.replace("claim", "clam", 1), source) and differs("", source)
        return 0 if caught and not differs(good, source) else 1
    if "--update" in sys.argv:
        fresh = f"```cpp\n{snippet(source)}```"
        (ROOT / "README.md").write_text(BLOCK.sub(lambda _: fresh, readme, count=1))
        return 0
    if differs(readme, source):
        print(f"README.md: its C++ is not what {SOURCE.relative_to(ROOT)} says; "
              "to fix: python3 .ci/check_readme.py --update")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
