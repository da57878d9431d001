#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of reliability: from the tests that measure them to the documents, and held to bounds.

  check_reliability.py collect TIER BUILD     the lines of a run in BUILD, checked, into BUILD/reliability.run
  check_reliability.py publish RUN            makes RUN the published one and writes the documents anew
  check_reliability.py check                  do the documents say what the published run says?
  check_reliability.py self-test

A test prints  RELIABILITY test=T12 case=watched_16M tier=push key=value ..  and nobody else prints or
types such a figure. .ci/reliability_bounds.txt lists the keys and their bounds."""
import contextlib
import fnmatch
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUNDS = ROOT / ".ci/reliability_bounds.txt"
PUBLISHED = ROOT / "docs/reliability.run"
PAGES = {ROOT / "docs/reliability.md": "figures", ROOT / "README.md": "promises"}
BEGIN, END = "<!-- reliability: {} -->\n", "<!-- reliability: end -->\n"
OPS = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b}


@dataclass
class Section:
    test: str
    case: str
    file: str
    name: str
    shows: str
    rules: list = field(default_factory=list)  # (tier, key, op, value)

    def keys(self):
        return list(dict.fromkeys(key for _, key, _, _ in self.rules))


@dataclass
class Bounds:
    sections: list
    optional: set
    promises: list  # (text, [(test, case, [keys])])

    def of(self, test, case):
        return next((s for s in self.sections if s.test == test and fnmatch.fnmatch(case, s.case)), None)


def parse_bounds(text):
    bounds = Bounds([], set(), [])
    section = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if found := re.fullmatch(r"\[(\S+) (\S+)\] (\S+): (\w+) \| (.+)", line):
            section = Section(*found.groups())
            bounds.sections.append(section)
        elif found := re.fullmatch(r"\[optional\] (.+)", line):
            bounds.optional |= set(found[1].split())
        elif line == "[promises]":
            section = "promises"
        elif section == "promises":
            text_of, proofs = line.rsplit(" | ", 1)
            parsed = [re.fullmatch(r"(\S+) (\S+): ([\w ]+)", p.strip()) for p in proofs.split(";")]
            assert all(parsed), f"{BOUNDS.name}:{number}: no proof: {proofs}"
            bounds.promises.append((text_of, [(p[1], p[2], p[3].split()) for p in parsed]))
        elif found := re.fullmatch(r"(push|nightly|both)\s+(\w+) (any|(?:>=|<=|==) (\d+))", line):
            assert isinstance(section, Section), f"{BOUNDS.name}:{number}: a bound of nothing"
            op = found[3].split()[0]
            section.rules.append((found[1], found[2], op, int(found[4]) if found[4] else None))
        else:
            raise AssertionError(f"{BOUNDS.name}:{number}: not understood: {line}")
    return bounds


def parse_lines(text):
    """(test, case, tier, {key: value}) of each line; the last one of a test and case counts."""
    rows = {}
    for line in text.splitlines():
        found = re.search(r"\bRELIABILITY (.*)", line)
        if not found:
            continue
        words = dict(word.split("=", 1) for word in found[1].split() if "=" in word)
        test, case, tier = (words.pop(key, "") for key in ("test", "case", "tier"))
        if tier != "nightly" and rows.get((test, case), ("", "", ""))[2] == "nightly":
            continue  # a nightly run has the push tier in it
        rows[test, case] = (test, case, tier, {key: int(value) for key, value in words.items()})
    return list(rows.values())


def findings(bounds, rows, tier, must_run):
    wrong = []
    seen = set()
    for test, case, of_tier, figures in rows:
        name = f"{test} {case}"
        section = bounds.of(test, case)
        if section is None:
            wrong.append(f"{name}: no section of {BOUNDS.name} has it")
            continue
        seen.add(id(section))
        if of_tier != tier:
            wrong.append(f"{name}: of tier {of_tier or 'none'}, not {tier}")
        wrong += [f"{name}: unknown key {key}" for key in figures
                  if key not in section.keys() and key not in bounds.optional]
        for rule_tier, key, op, value in section.rules:
            if rule_tier not in (tier, "both"):
                continue
            if key not in figures:
                wrong.append(f"{name}: no {key}")
            elif op != "any" and not OPS[op](figures[key], value):
                wrong.append(f"{name}: {key} is {figures[key]}, not {op} {value}")
    if must_run:
        wrong += [f"{s.test} {s.case}: not run" for s in bounds.sections if id(s) not in seen]
    return wrong


def context():
    def first(command):
        try:
            return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL).stdout.splitlines()[0].strip()
        except (OSError, subprocess.CalledProcessError, IndexError):
            return "unknown"
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {"commit": first(["git", "describe", "--always", "--dirty"]),
            "compiler": first([os.environ.get("CXX", "g++"), "--version"]),
            "kernel": platform.release(), "cpu": f"{os.cpu_count()} x {cpu}"}


def collect(tier, build):
    log = build / "meson-logs/testlog.json"
    entries = [json.loads(line) for line in log.read_text(errors="replace").splitlines()]
    said = "\n".join(entry.get("stdout") or "" for entry in entries)
    rows = parse_lines(said)
    # A test that was skipped prints no figure; the documents then say so, and never an older one.
    wrong = findings(parse_bounds(BOUNDS.read_text()), rows, tier, must_run=False)
    out = [f"# {key}: {value}" for key, value in context().items()]
    out += [" ".join(["RELIABILITY", f"test={test}", f"case={case}", f"tier={of_tier}"]
                     + [f"{key}={value}" for key, value in figures.items()])
            for test, case, of_tier, figures in rows]
    (build / "reliability.run").write_text("\n".join(out) + "\n")
    for line in wrong:
        print(f"reliability: {line}")
    print(f"reliability: {len(rows)} lines of figures, {len(wrong)} out of bounds or unknown")
    return 1 if wrong or not rows else 0


def grouped(value):
    return f"{value:,}".replace(",", " ")


def figures_page(bounds, run):
    rows = parse_lines(run)
    told = dict(re.findall(r"^# (\w+): (.+)$", run, re.M))
    text = "Run: " + ", ".join(f"{key} {value}" for key, value in told.items()) + "\n"
    for section in bounds.sections:
        mine = [row for row in rows if bounds.of(row[0], row[1]) is section]
        text += f"\n**{section.test} {section.case}**: {section.shows} (`{section.file}`: `{section.name}`)\n\n"
        if not mine:
            text += "not run\n"
            continue
        keys = [key for key in section.keys() + sorted(bounds.optional)
                if any(key in figures for _, _, _, figures in mine)]
        if len(mine) == 1:
            _, _, tier, figures = mine[0]
            text += f"| {tier} | | must be |\n|---|---:|---|\n"
            for key in keys:
                must = ", ".join(f"{op} {grouped(value)}" for of, k, op, value in section.rules
                                 if k == key and value is not None and of in (tier, "both"))
                text += f"| {key} | {grouped(figures[key])} | {must} |\n"
            continue
        text += "| | " + " | ".join(keys) + " |\n|---|" + "---:|" * len(keys) + "\n"
        for _, case, _, figures in mine:
            cells = [grouped(figures[key]) if key in figures else "-" for key in keys]
            text += f"| {case} | " + " | ".join(cells) + " |\n"
    return text


def promises_page(bounds, run):
    rows = {(test, case): figures for test, case, _, figures in parse_lines(run)}
    text = "| Promise | Proved by | In the last published run |\n|---|---|---|\n"
    for promise, proofs in bounds.promises:
        tests, said = [], []
        for test, case, keys in proofs:
            section = bounds.of(test, case)
            tests.append(f"{test} `{section.name}`")
            figures = rows.get((test, case))
            said += ([f"{key} {grouped(figures[key])}" for key in keys if key in figures]
                     if figures else [f"{test} not run"])
        text += f"| {promise} | {', '.join(dict.fromkeys(tests))} | {', '.join(dict.fromkeys(said))} |\n"
    return text


def with_block(text, name, block):
    begin = BEGIN.format(name)
    assert text.count(begin) == 1 and text.count(END) == 1, f"one block {begin.strip()} is needed"
    head, rest = text.split(begin)
    return head + begin + block + END + rest.split(END)[1]


def pages(bounds, run):
    blocks = {"figures": figures_page(bounds, run), "promises": promises_page(bounds, run)}
    return {path: with_block(path.read_text(), name, blocks[name]) for path, name in PAGES.items()}


def publish(run):
    bounds = parse_bounds(BOUNDS.read_text())
    text = run.read_text()
    rows = parse_lines(text)
    wrong = findings(bounds, rows, rows[0][2] if rows else "push", must_run=False)
    if wrong:
        print("\n".join(wrong))
        return 1
    for path, page in pages(bounds, text).items():
        path.write_text(page)
    if run.resolve() != PUBLISHED:
        PUBLISHED.write_text(text)
    return 0


def check():
    bounds = parse_bounds(BOUNDS.read_text())
    wrong = []
    for section in bounds.sections:
        source = ROOT / section.file
        if not source.is_file() or not re.search(rf"\b{section.name}\b", source.read_text()):
            wrong.append(f"{BOUNDS.name}: {section.test} {section.case}: no test {section.name} in {section.file}")
        if not section.rules:
            wrong.append(f"{BOUNDS.name}: {section.test} {section.case}: no bound")
    for promise, proofs in bounds.promises:
        for test, case, keys in proofs:
            section = bounds.of(test, case)
            missing = [key for key in keys if section is None or key not in section.keys()]
            wrong += [f"{BOUNDS.name}: no {test} {case} has {key}: {promise}" for key in missing]
    if not wrong:
        run = PUBLISHED.read_text()
        rows = parse_lines(run)
        wrong = findings(bounds, rows, rows[0][2] if rows else "push", must_run=False)
        wrong += [f"{path.relative_to(ROOT)}: not what {PUBLISHED.name} says"
                  for path, page in pages(bounds, run).items() if path.read_text() != page]
    print("".join(f"{line}\n" for line in wrong), end="")
    return 1 if wrong else 0


def self_test():
    bounds = parse_bounds("[T5 a*] t.cc: Name | shows\npush n >= 5\nnightly n >= 9\nboth lost == 0\n"
                          "both seed any\n[optional] p999\n[promises]\nIt works | T5 ab: n lost\n")
    good = "RELIABILITY test=T5 case=ab tier=push n=7 lost=0 seed=3"
    for line, tier, count in ((good, "push", 0), (good + " p999=1", "push", 0),
                              (good.replace("n=7", "n=4"), "push", 1), (good, "nightly", 2),
                              (good.replace("lost=0", "lost=1"), "push", 1),
                              (good.replace(" seed=3", ""), "push", 1), (good + " x=1", "push", 1),
                              (good.replace("ab", "b"), "push", 2)):
        found = findings(bounds, parse_lines("12: " + line), tier, must_run=True)
        assert len(found) == count, (line, tier, found)
    assert "not run" in figures_page(bounds, "# kernel: 6") and "T5 not run" in promises_page(bounds, "")
    assert "| n | 7 | >= 5 |" in figures_page(bounds, good), figures_page(bounds, good)
    assert "n 7, lost 0" in promises_page(bounds, good)
    for bad in ("push n >= 1\n", "[T5 a] t.cc: N | s\nboth n > 1\n", "[promises]\nx | y\n"):
        try:
            parse_bounds(bad)
        except AssertionError:
            continue
        raise AssertionError(f"accepted: {bad}")
    with tempfile.TemporaryDirectory() as temp:
        (Path(temp) / "meson-logs").mkdir()
        (Path(temp) / "meson-logs/testlog.json").write_text(json.dumps({"stdout": "nothing"}) + "\n")
        with contextlib.redirect_stdout(io.StringIO()):
            assert collect("push", Path(temp)) == 1, "a run without figures passed"
    return 0


def main(arguments):
    match arguments:
        case ["collect", tier, build]:
            return collect(tier, Path(build))
        case ["publish", run]:
            return publish(Path(run))
        case [] | ["check"]:
            return check()
        case ["self-test"] | ["--self-test"]:
            return self_test()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
