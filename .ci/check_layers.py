#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A file includes its own folder and lower ranks. The table is in docs/architecture.md."""
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = "docs/architecture.md"
ROW = re.compile(r"^\|\s*(\d+)\s*\|\s*([a-z_, ]+?)\s*\|", re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.M)
# On top of every layer: they may include all, and no layer includes them.
TOP = ("include/slipring/slipring.h", "src/c_api.cc")


def read_ranks(root):
    ranks = {folder.strip(): int(rank)
             for rank, folders in ROW.findall((root / TABLE).read_text())
             for folder in folders.split(",")}
    assert "base" in ranks and len(ranks) > 1, f"{TABLE} has no table | Rank | Folder | Holds |"
    return ranks


def layer_of(path):
    """The folder of a source file: 'ring', or None for the files on top."""
    parts = path.parts
    if path.as_posix() in TOP:
        return None
    if parts[:2] == ("include", "slipring"):
        return parts[2]
    return parts[1] if parts[0] == "src" else parts[0]


def included_layer(name, ranks):
    parts = Path(name).parts
    if parts[0] == "slipring":
        return parts[1] if len(parts) > 2 else "the C face"
    # A private header of src/<folder> or tools.
    return parts[0] if len(parts) > 1 and parts[0] in ranks else None


def check(root):
    ranks, wrong, seen = read_ranks(root), [], 0
    for top in ("include", "src", "tools"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            seen += 1
            path = path.relative_to(root)
            mine = layer_of(path)
            if mine is not None and mine not in ranks:
                wrong.append(f"{path}: folder {mine} has no row in {TABLE}")
                continue
            for found in INCLUDE.finditer((root / path).read_text()):
                theirs = included_layer(found[1], ranks)
                if theirs is None or mine is None or theirs == mine:
                    continue
                line = (root / path).read_text()[:found.start(1)].count("\n") + 1
                if theirs not in ranks:
                    wrong.append(f"{path}:{line}: {mine} includes {theirs} ({found[1]})")
                elif ranks[theirs] >= ranks[mine]:
                    wrong.append(f"{path}:{line}: {mine} (rank {ranks[mine]}) includes "
                                 f"{theirs} (rank {ranks[theirs]}): {found[1]}")
    assert seen, "no source found"
    return wrong


def self_test():
    cases = [  # path, include, is it allowed
        ("include/slipring/ring/lane.h", "slipring/base/error.h", True),
        ("include/slipring/ring/lane.h", "slipring/ring/layout.h", True),
        ("include/slipring/ring/lane.h", "slipring/wait/doorbell.h", False),
        ("include/slipring/wait/doorbell.h", "slipring/segment/segment.h", False),
        ("include/slipring/base/error.h", "slipring/ring/lane.h", False),
        ("src/segment/posix.cc", "slipring/channel/shm.h", False),
        ("src/segment/posix.cc", "ring/private.h", False),
        ("src/channel/shm.cc", "slipring/ring/lane.h", True),
        ("src/channel/shm.cc", "slipring/slipring.h", False),
        ("src/c_api.cc", "slipring/channel/shm.h", True),
        ("src/novel/thing.cc", "slipring/base/error.h", False),
        ("tools/main.cc", "slipring/channel/shm.h", True),
        ("tools/main.cc", "vector", True),
    ]
    for path, name, allowed in cases:
        with tempfile.TemporaryDirectory() as temp:
            root = Path(temp)
            (root / "docs").mkdir()
            (root / TABLE).write_text((ROOT / TABLE).read_text())
            (root / path).parent.mkdir(parents=True)
            (root / path).write_text(f'#pragma once\n#  include "{name}"\n')
            found = check(root)
            assert bool(found) != allowed, f"{path} includes {name}: {found}"


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    else:
        wrong = check(ROOT)
        print("".join(f"{line}\n" for line in wrong), end="")
        sys.exit(1 if wrong else 0)
