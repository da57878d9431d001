#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions per operation, by callgrind: the one measure of speed that no neighbour disturbs. More than
the tolerance above what is recorded fails; so does less, until it is recorded: instructions_test.py PROGRAM
COMPILER --update. Both are in instructions.txt, with the compiler that they are of."""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RECORDED = Path(__file__).with_name('instructions.txt')
TIMES = 4096  # operations_run.cc
CALLS = {'peek_release': 6}
ROW = re.compile(r'^\s*([\d,]+)\s+\([\s\d.]+%\)\s+\S*?:?.*?slipring::bench::Operations::(\w+)(?:<(\d+)(?:ul)?>)?\(', re.M)


def skip(reason):
    print(f'skipped: {reason}')
    sys.exit(77)


def count(program):
    with tempfile.TemporaryDirectory() as temp:
        out = Path(temp, 'out')
        ran = subprocess.run(['valgrind', '--tool=callgrind', f'--callgrind-out-file={out}', program],
                             capture_output=True, text=True)
        if ran.returncode != 0 and 'unrecognised instruction' in ran.stderr:
            skip('built for instructions that valgrind does not know')
        assert ran.returncode == 0, ran.stderr
        shown = subprocess.run(['callgrind_annotate', '--inclusive=yes', '--threshold=100', str(out)],
                               capture_output=True, text=True, check=True).stdout
    counts = {}
    for total, name, size in ROW.findall(shown):
        if name == 'make':
            continue
        operation = f'{name}<{size}>' if size else name
        calls = TIMES * CALLS.get(name, 1)
        counts[operation] = max(counts.get(operation, 0), int(total.replace(',', '')) / calls)
    return counts


def recorded():
    facts, counts = {}, {}
    for line in RECORDED.read_text().splitlines():
        if line and not line.startswith('#'):
            name, value = line.split(None, 1)
            (counts if re.fullmatch(r'[\d.]+', value) and name != 'tolerance' else facts)[name] = value
    return facts, {name: float(value) for name, value in counts.items()}


def update(compiler, counts):
    lines = ['# Instructions per operation; tests/bench/instructions_test.py compares and writes.',
             f'compiler {compiler}', 'tolerance 0.02']
    lines += [f'{name} {value:.1f}' for name, value in sorted(counts.items())]
    RECORDED.write_text('\n'.join(lines) + '\n')


def main(program, compiler, *rest):
    for tool in ('valgrind', 'callgrind_annotate'):
        if not shutil.which(tool):
            skip(f'{tool} is not installed')
    counts = count(program)
    assert len(counts) >= 9, f'operations were inlined or not found: {counts}'
    if '--update' in rest:
        update(compiler, counts)
        return 0
    facts, before = recorded()
    if facts['compiler'] != compiler:
        skip(f"recorded for {facts['compiler']}, this is {compiler}")
    wrong = []
    for name, value in sorted(counts.items()):
        was = before.get(name, 0)
        print(f'{name:20} {value:8.1f} instructions, recorded {was:.1f}')
        if abs(value - was) > float(facts['tolerance']) * was + 0.5:
            wrong.append(name)
    if wrong:
        print(f'changed: {", ".join(wrong)}; explain it in the commit, and record it with --update')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
