#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts test cases, not test programs, over all runners of ./dev test.

  sum_tests.py clean BUILD                    before a run: forget the last one
  sum_tests.py collect BUILD LABEL RESULTS    after it: one row per case into RESULTS/LABEL.tsv
  sum_tests.py total RESULTS LABEL...         the table, what failed, and the last line
  sum_tests.py self-test

A row is status, name, reason; status is passed, failed or skipped. A program that crashed, hung or
wrote nothing is one failed case, and so is a runner that left no row at all."""
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

SKIPPED = 77


def listed_tests(build):
    text = subprocess.run(["meson", "introspect", "--tests", str(build)], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    return {test["name"]: test for test in json.loads(text)}


def xml_of(build, test):
    return Path(test.get("workdir") or build) / f"{test['name']}.xml"


def clean(build):
    (build / "meson-logs/testlog.json").unlink(missing_ok=True)
    for test in listed_tests(build).values():
        if test["protocol"] == "gtest":
            xml_of(build, test).unlink(missing_ok=True)


def gtest_cases(xml):
    for case in ET.parse(xml).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None:
            reason = (case.find("failure").get("message") or "").split("\n")
            yield "failed", name, " ".join(reason)[:200]
        elif skipped is not None:
            yield "skipped", name, " ".join((skipped.get("message") or "").split("\n")[-1:])
        elif case.get("status") == "run":
            yield "passed", name, ""


def tap_cases(text):
    for line in text.splitlines():
        found = re.match(r"(not ok|ok)\b[ \d]*(?:- )?([^#]*)(#\s*skip\b.*)?", line, re.I)
        if found:
            status = "skipped" if found[3] else "passed" if found[1] == "ok" else "failed"
            yield status, found[2].strip(), (found[3] or "").lstrip("# ")
        elif re.match(r"1\.\.0\b.*#\s*skip", line, re.I):
            yield "skipped", "all", line.split("#", 1)[1].strip()


def cases_of(build, entry, test):
    """The rows of one program: its cases, or the program itself where it tells nothing."""
    result, code = entry["result"], entry["returncode"]
    ended = f"{result.lower()}, exit status {code}"
    rows = []
    if test["protocol"] == "gtest":
        xml = xml_of(build, test)
        try:
            rows = list(gtest_cases(xml)) if xml.exists() else []
        except ET.ParseError:
            rows = []  # died while it wrote
    elif test["protocol"] == "tap":
        rows = list(tap_cases(entry.get("stdout") or ""))
    elif result == "OK":
        return [("passed", "", "")]
    if code == SKIPPED and not any(status == "failed" for status, _, _ in rows):
        said = (entry.get("stdout") or entry.get("stderr") or "").strip().splitlines()
        return rows or [("skipped", "", said[-1] if said else "says no reason")]
    if result in ("OK", "EXPECTEDFAIL", "SKIP") and rows:
        return rows
    if any(status == "failed" for status, _, _ in rows) and result == "FAIL":
        return rows
    # Crashed, timed out, a sanitizer's report after the last case, or success without a word.
    return rows + [("failed", "", ended if result != "OK" else "reported no case")]


def collect(build, label, results):
    rows = []
    log = build / "meson-logs/testlog.json"
    tests = listed_tests(build)
    for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
        entry = json.loads(line)
        name = entry["name"].split(" / ")[-1]
        test = tests.get(name, {"name": name, "protocol": "exitcode"})
        for status, case, reason in cases_of(build, entry, test):
            rows.append((status, " ".join(filter(None, (f"{label}: {name}", case))), reason))
    if not rows:
        rows.append(("failed", f"{label}: the runner", f"no test result in {log}"))
    with open(results / f"{label}.tsv", "a") as out:
        for row in rows:
            print(*(re.sub(r"\s+", " ", field) for field in row), sep="\t", file=out)
    return 1 if any(row[0] == "failed" for row in rows) else 0


def total(results, labels):
    sums = {"passed": 0, "failed": 0, "skipped": 0}
    seconds = 0
    told = []
    print(f"\n{'step':10}{'seconds':>9}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for label in labels:
        file, clock = results / f"{label}.tsv", results / f"{label}.seconds"
        rows = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
        if not rows:
            rows = [["failed", f"{label}: the step", "produced no result"]]
        took = int(clock.read_text()) if clock.exists() else 0
        counts = {status: sum(row[0] == status for row in rows) for status in sums}
        assert sum(counts.values()) == len(rows), f"{file}: a row without a known status"
        for status in sums:
            sums[status] += counts[status]
        seconds += took
        told += [row for row in rows if row[0] != "passed"]
        print(f"{label:10}{took:9}{counts['passed']:8}{counts['failed']:8}{counts['skipped']:9}")
    print(f"{'all':10}{seconds:9}{sums['passed']:8}{sums['failed']:8}{sums['skipped']:9}\n")
    for status in ("skipped", "failed"):
        for _, name, reason in (row for row in told if row[0] == status):
            print(f"{status}: {name}{': ' + reason if reason else ''}")
    print(f"{sums['passed']} passed, {sums['failed']} failed, {sums['skipped']} skipped", flush=True)
    return 1 if sums["failed"] or not sums["passed"] else 0


XML = """<testsuites><testsuite>
<testcase classname="A" name="Works" status="run" result="completed"/>
<testcase classname="A" name="Fails" status="run" result="completed"><failure message="no&#xA;1"/></testcase>
<testcase classname="A" name="Skips" status="run" result="skipped"><skipped message="f:1&#xA;old kernel"/></testcase>
<testcase classname="A" name="DISABLED_Off" status="notrun" result="suppressed"/>
</testsuite></testsuites>"""
GREEN = XML.replace('<failure message="no&#xA;1"/>', "")
SELF_TESTS = [  # protocol, meson's result, exit status, XML or stdout: passed, failed, skipped
    ("gtest", "OK", 0, GREEN, (2, 0, 1)),
    ("gtest", "FAIL", 1, XML, (1, 1, 1)),
    ("gtest", "FAIL", 66, GREEN, (2, 1, 1)),      # a sanitizer's report at the end
    ("gtest", "FAIL", -11, None, (0, 1, 0)),      # crashed: wrote nothing
    ("gtest", "FAIL", -6, XML[:200], (0, 1, 0)),  # crashed while it wrote
    ("gtest", "TIMEOUT", -9, None, (0, 1, 0)),
    ("gtest", "OK", 0, None, (0, 1, 0)),          # success without a word
    ("gtest", "SKIP", 77, None, (0, 0, 1)),
    ("exitcode", "OK", 0, "", (1, 0, 0)),
    ("exitcode", "FAIL", 1, "", (0, 1, 0)),
    ("exitcode", "SKIP", 77, "needs root", (0, 0, 1)),
    ("exitcode", "TIMEOUT", -15, "", (0, 1, 0)),
    ("tap", "OK", 0, "1..2\nok 1 - a\nok 2 - b # SKIP no b\n", (1, 0, 1)),
    ("tap", "FAIL", 1, "1..2\nok 1 - a\nnot ok 2 - b\n", (1, 1, 0)),
    ("tap", "SKIP", 0, "1..0 # SKIP nothing here\n", (0, 0, 1)),
    ("tap", "ERROR", 1, "1..2\nok 1 - a\n", (1, 1, 0)),
    (None, None, 0, None, (0, 1, 0)),             # the runner left no log
]


def self_test():
    global listed_tests
    for protocol, result, code, text, wanted in SELF_TESTS:
        with tempfile.TemporaryDirectory() as temp:
            build = Path(temp)
            (build / "meson-logs").mkdir()
            listed_tests = lambda _: {"a/b": {"name": "a/b", "protocol": protocol}}
            if protocol == "gtest" and text is not None:
                (build / "a").mkdir()
                (build / "a/b.xml").write_text(text)
            if protocol:
                entry = {"name": "p:unit / a/b", "result": result, "returncode": code, "stdout": text}
                (build / "meson-logs/testlog.json").write_text(json.dumps(entry) + "\n")
            collect(build, "x", build)
            rows = [row.split("\t")[0] for row in (build / "x.tsv").read_text().splitlines()]
            got = tuple(map(rows.count, ("passed", "failed", "skipped")))
            assert got == wanted, f"{protocol} {result} {code}: {got}, not {wanted}"
            with contextlib.redirect_stdout(io.StringIO()) as said:
                status = total(build, ["x", "y"])  # y never ran
            assert status == 1, "a step that never ran went unnoticed"
            last = said.getvalue().splitlines()[-1]
            assert last == f"{wanted[0]} passed, {wanted[1] + 1} failed, {wanted[2]} skipped", last
    return 0


def main(arguments):
    match arguments:
        case ["clean", build]:
            return clean(Path(build))
        case ["collect", build, label, results]:
            return collect(Path(build), label, Path(results))
        case ["total", results, *labels] if labels:
            return total(Path(results), labels)
        case ["self-test"]:
            return self_test()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
