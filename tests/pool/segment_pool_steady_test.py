#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A steady phase of both pools makes no create, unlink, mmap or munmap, and in fact almost no
system call at all.

usage: segment_pool_steady_test.py EXE
exit:  0 passed, 1 failed, 77 strace is missing or refused
"""
import re
import shutil
import subprocess
import sys
import tempfile

# brk and its like may come once when the heap grows; they do not grow with the turns.
FORBIDDEN = re.compile(r"^(?:open|openat|creat|shm\w+|memfd_create|link|linkat|unlink|unlinkat|mmap"
                       r"|munmap|mremap|ftruncate|fallocate|close|fcntl|fstat|newfstatat|kill|pidfd_open)\(")


def main(exe):
    if not shutil.which("strace"):
        print("strace is not installed")
        return 77
    with tempfile.NamedTemporaryFile("r") as log:
        run = subprocess.run(["strace", "-f", "-o", log.name, exe], timeout=300)
        lines = [re.sub(r"^\d+\s+", "", line) for line in log.read().splitlines()]
    if run.returncode != 0:
        if not lines or any("Operation not permitted" in line for line in lines[:1]):
            print("strace cannot trace here")
            return 77
        print(f"{exe}: exit {run.returncode}")
        return 1
    marks = [i for i, line in enumerate(lines) if line.startswith("prctl(PR_SET_NAME")]
    if len(marks) != 2:
        print(f"{len(marks)} marks, not 2")
        return 1
    hot = lines[marks[0] + 1:marks[1]]
    before = lines[:marks[0]]
    if not any(line.startswith("mmap(") for line in before):
        print("self-test: not even the start maps anything")
        return 1
    bad = [line for line in hot if FORBIDDEN.match(line)]
    print(f"SYSTEM_CALLS turns=10000 calls={len(hot)} forbidden={len(bad)}")
    print("".join(f"{line}\n" for line in bad[:10]), end="")
    return 1 if bad or len(hot) > 10 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
