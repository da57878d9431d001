#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every sync point has both ends in the source, a row in docs/sync-points.md and a test.

A tag is `SYNC name (release -> acquire in B):` or `SYNC name (acquire <- release in A):`; a pair of
fences says `(light fence <-> heavy fence in B)` and the reverse. It may wrap over comment lines."""
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTER = "docs/sync-points.md"
NAME = r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+"
TAG = re.compile(rf"\bSYNC\s+({NAME})\s*\(([^()]*(?:\(\)[^()]*)*)\)")
SIDES = re.compile(r"^(.*?)\s*(<->|->|<-)\s*(.*?)\s+in\s+(.+)$")
GIVES = ("release", "light fence", "seq_cst fence", "acq_rel")
TAKES = ("acquire", "heavy fence", "seq_cst fence", "acq_rel")


def sources(root):
    return sorted(path for folder in ("include", "src", "tools")
                  for path in (root / folder).rglob("*") if path.suffix in (".h", ".cc"))


def identifiers(text):
    """The last parts of the functions named: 'take_role and RoleWatch::look' -> take_role, look."""
    return [word.split("::")[-1] for word in re.findall(r"[A-Za-z_][\w:]*\w", text)
            if word not in ("and", "or", "tools")]  # tools: whoever looks on from outside


def read_tags(root):
    """Tags by name: (where, gives, takes, functions named); and what is wrong with their form."""
    tags, wrong = {}, []
    for path in sources(root):
        where = path.relative_to(root).as_posix()
        text = re.sub(r"\n[ \t]*//+[ \t]*", " ", path.read_text())
        for name, inside in TAG.findall(text):
            sides = SIDES.match(re.sub(r"\s+", " ", inside).strip())
            if not sides:
                wrong.append(f"{where}: SYNC {name} ({inside}): say (release -> acquire in B), "
                             "(acquire <- release in A) or (light fence <-> heavy fence in B)")
                continue
            mine, arrow, _, partner = sides.groups()
            gives = mine.startswith(GIVES) and arrow != "<-"
            takes = mine.startswith(TAKES) and arrow != "->"
            if not gives and not takes:
                wrong.append(f"{where}: SYNC {name} ({inside}): the arrow goes from release to acquire")
            tags.setdefault(name, []).append((where, gives, takes, identifiers(partner)))
    return tags, wrong


def read_rows(root):
    register = root / REGISTER
    if not register.exists():
        return {}, [f"{REGISTER} is missing: it has a row | name | release side | acquire side | "
                    "what it protects | test | for each sync point"]
    rows, wrong = {}, []
    for number, line in enumerate(register.read_text().splitlines(), 1):
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or not re.fullmatch(NAME, cells[0]):
            continue
        if len(cells) != 5:
            wrong.append(f"{REGISTER}:{number}: {cells[0]} has {len(cells)} cells, not 5")
        elif cells[0] in rows:
            wrong.append(f"{REGISTER}:{number}: {cells[0]} stands twice")
        else:
            rows[cells[0]] = cells
    return rows, wrong


def check_test(root, name, cell):
    found = re.match(r"`?(tests/[\w./-]+)`?(?::\s*`?(.+?)`?)?$", cell)
    if not found:
        return [f"{REGISTER}: {name}: the test cell is tests/FILE or tests/FILE: TestName, not {cell!r}"]
    file, test = root / found[1], found[2]
    if not file.exists():
        return [f"{REGISTER}: {name}: {found[1]} does not exist"]
    if test and test.split(".")[-1] not in file.read_text():
        return [f"{REGISTER}: {name}: {found[1]} has no test {test}"]
    return []


def check(root):
    tags, wrong = read_tags(root)
    rows, broken = read_rows(root)
    wrong += broken
    everything = "\n".join(path.read_text() for path in sources(root))
    known = set(re.findall(r"\w+", re.sub(r"//[^\n]*", "", everything)))
    for name, ends in sorted(tags.items()):
        at = ", ".join(sorted({where for where, *_ in ends}))
        if name not in rows:
            wrong.append(f"{at}: SYNC {name} has no row in {REGISTER}")
        if not any(gives for _, gives, _, _ in ends):
            wrong.append(f"{at}: SYNC {name} has no release side in the source")
        if not any(takes for _, _, takes, _ in ends):
            wrong.append(f"{at}: SYNC {name} has no acquire side in the source")
        if len(ends) < 2:
            wrong.append(f"{at}: SYNC {name} stands only once: it wants a tag at both ends")
        for where, _, _, named in ends:
            for word in (word for word in named if word not in known):
                wrong.append(f"{where}: SYNC {name} names {word}, which does not exist")
    for name, cells in sorted(rows.items()):
        if name not in tags:
            wrong.append(f"{REGISTER}: {name} has no SYNC tag in the source")
        for word in (w for cell in cells[1:3] for w in identifiers(cell) if w not in known):
            wrong.append(f"{REGISTER}: {name} names {word}, which does not exist")
        wrong += check_test(root, name, cells[4])
    return wrong


GOOD = {
    "src/ring/a.cc": "void commit() {\n  // SYNC lane.publish (release -> acquire in\n"
                     "  //   Consumer::try_peek): why\n}\n",
    "src/ring/b.cc": "void Consumer::try_peek() {\n  // SYNC lane.publish (acquire <- release in commit):\n}\n",
    "tests/ring/lane_test.cc": "TEST(Lane, Publishes) {}\n",
    REGISTER: "| lane.publish | commit | Consumer::try_peek | payload | tests/ring/lane_test.cc: Publishes |\n",
}
BAD = [  # file, from, to: each must be caught
    ("src/ring/b.cc", "SYNC", "sync"),
    ("src/ring/b.cc", "acquire <- release in commit", "acquire <- release in publish_it"),
    ("src/ring/b.cc", "acquire <- release", "release -> acquire"),
    ("src/ring/b.cc", "acquire <- release", "acquire -> release"),
    ("src/ring/b.cc", "acquire <- release in commit", "somehow"),
    ("src/ring/a.cc", "lane.publish", "lane.reclaim"),
    (REGISTER, "lane.publish", "lane.other"),
    (REGISTER, "lane_test.cc", "no_such_test.cc"),
    (REGISTER, ": Publishes", ": Reclaims"),
    (REGISTER, "| payload ", ""),
    (REGISTER, "Consumer::try_peek", "Consumer::peek_it"),
]


FENCES = [  # changes that keep it good: a pair of fences, and a reader outside
    ("release -> acquire in", "light fence <-> heavy fence in", "acquire <- release", "heavy fence <-> light fence"),
    ("Consumer::try_peek)", "Consumer::try_peek and tools)", "acquire <- release", "acquire <- release"),
]


def self_test():
    for change in FENCES:
        with tempfile.TemporaryDirectory() as temp:
            for name, text in GOOD.items():
                file = Path(temp, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text.replace(*change[:2]).replace(*change[2:]))
            assert not check(Path(temp)), f"{change}: {check(Path(temp))}"
    for change in [None, *BAD]:
        with tempfile.TemporaryDirectory() as temp:
            for name, text in GOOD.items():
                file = Path(temp, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                if change and change[0] == name:
                    assert change[1] in text, change
                    text = text.replace(change[1], change[2])
                file.write_text(text)
            found = check(Path(temp))
            assert bool(found) == bool(change), f"{change}: {found}"


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    else:
        wrong = check(ROOT)
        print("".join(f"{line}\n" for line in wrong), end="")
        sys.exit(1 if wrong else 0)
