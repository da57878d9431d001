#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md and its plots, from the JSON of one run: report.py FILE [--docs DIR] [--text].

The page is text between generated sections; only what stands between <!-- begin NAME --> and
<!-- end NAME --> is written. Statistics were made where the figures were: here they are shown.
--text prints the lines of the targets instead."""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KIB, MIB = 1024, 1024 * 1024
RING = 256 * KIB
WORDS = 8  # bytes of a commit word
LINE = 64


def size_text(size):
    return f'{size // MIB} MiB' if size >= MIB else f'{size // KIB} KiB' if size >= KIB else f'{size} B'


def table(head, rows):
    if not rows:
        return '*Not measured in this run.*'
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows])


def number(value):
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


class Run:
    def __init__(self, path):
        self.data = json.loads(Path(path).read_text())
        self.of_class = self.data['class']
        self.cells = [c for c in self.data['cells'] if self.of_class in c['classes']]

    def figures(self, cell):
        return cell['classes'][self.of_class]['figures']

    def median(self, cell, name):
        found = self.figures(cell).get(name)
        return found[1] if found else None

    def pick(self, **wanted):
        return [c for c in self.cells if all(c.get(k) == v for k, v in wanted.items())]

    def label(self, cell):
        threads = ' (threads)' if cell.get('threads') else ''
        return cell.get('what', cell['name']) + threads

    def best(self, cells, figure, smallest=False):
        """Of those that differ in their pause alone, the better one; in order of what they reach."""
        found = {}
        for cell in cells:
            value = self.median(cell, figure)
            if value is None:
                continue
            known = found.get(cell['name'])
            if known is None or (value < self.median(known, figure)) == smallest:
                found[cell['name']] = cell
        return sorted(found.values(), key=lambda c: self.median(c, figure), reverse=not smallest)

    # --- sections ---------------------------------------------------------------------------

    def machine(self):
        where, data = self.data['environment'], self.data
        facts = [('CPU', f"{where['cpu']} (family/model {where['cpu_family_model']}), caches {where['caches']}"),
                 ('Kernel', f"{where['kernel']}, governor {where['governor']}, clock {where['clock_source']}"),
                 ('Compiler', f"{where['compiler']}, {where['flags']}; wide stores {where['wide_stores']}"),
                 ('Ring', f"{RING // KIB} KiB unless said otherwise; pages of {where['page_bytes']} B, "
                          f"{'' if where['locked'] else 'not '}locked"),
                 ('Pinning', f"CPUs {data['cpus'][0]} and {data['cpus'][1]}" if where['pinned'] else 'refused'),
                 ('Run', f"{data['plan']}, {data['rounds']} rounds, {data['seconds'] / 60:.0f} min, commit {where['commit']}"),
                 ('Noise', f"{data['steal_s']:.1f} s stolen, {where['involuntary_switches']:.0f} involuntary switches, "
                           f"{data['dropped']} of {data['groups']} groups dropped"),
                 ('Class', f"**{self.of_class}**: raw round trip {number(self.calibrated('raw_ns')[1])} ns in the median")]
        notes = [f'- {note}' for note in data['notes']]
        notes += [f"- left out: {out['name']}: {out['why']}" for out in data['left_out']]
        return table(['', ''], [[k, v] for k, v in facts]) + ('\n\n' + '\n'.join(notes) if notes else '')

    def calibrated(self, name):
        values = sorted(c[name] for c in self.data['calibrations'] if c.get(name) is not None)
        if not values:
            return None, None, None
        at = lambda q: values[int(q * (len(values) - 1) + 0.5)]
        return at(0.25), at(0.5), at(0.75)

    def calibration(self):
        names = [('raw_ns', 'one line there and back', 'ns'), ('bulk_256_gbs', 'stream, blocks of 256 B', 'GB/s'),
                 ('bulk_1k_gbs', 'stream, blocks of 1 KiB', 'GB/s'), ('bulk_4k_gbs', 'stream, blocks of 4 KiB', 'GB/s'),
                 ('bulk_64k_gbs', 'stream, blocks of 64 KiB', 'GB/s'),
                 ('bulk_4m_ring_gbs', 'the same through 4 MiB', 'GB/s'), ('copy_64k_gbs', 'copied stream, 64 KiB', 'GB/s'),
                 ('memcpy_64k_gbs', 'memcpy on one core, 64 KiB', 'GB/s'), ('memcpy_1m_gbs', 'memcpy, 1 MiB', 'GB/s'),
                 ('memcpy_64m_gbs', 'memcpy, 64 MiB', 'GB/s'), ('futex_ns', 'futex there and back, across CPUs', 'ns'),
                 ('futex_one_cpu_ns', 'the same on one CPU', 'ns'), ('pipe_ns', 'pipe, across CPUs', 'ns'),
                 ('eventfd_ns', 'eventfd, across CPUs', 'ns'), ('clock_ns', 'CLOCK_MONOTONIC, one reading', 'ns'),
                 ('ticks_ns', 'time-stamp counter, one reading', 'ns'),
                 ('offset_ns', 'counters of the two CPUs apart', 'ns'),
                 ('hiccup_ns', 'largest gap in an idle loop of 50 ms', 'ns')]
        rows = []
        for name, what, unit in names:
            low, median, high = self.calibrated(name)
            if median is not None:
                rows.append([what, f'{number(median)} {unit}', f'{number(low)} to {number(high)}'])
        return table(['floor or limit', 'median', 'quartiles'], rows)

    def targets(self):
        rows = [[t['id'], t['name'], t['figure'], t['wanted'], f"**{t['verdict']}**", t['detail']]
                for t in self.data['targets']]
        return table(['', 'target', 'median [quartiles]', 'wanted', '', 'who'], rows)

    def across_sizes(self, scenario, figure, smallest=False, **wanted):
        cells = [c for c in self.pick(scenario=scenario, ring=RING, one_cpu=False, **wanted)
                 if c['producers'] == 1]
        sizes = sorted({c['bytes'] for c in cells})
        names = []
        for size in sizes:
            for cell in self.best([c for c in cells if c['bytes'] == size], figure, smallest):
                if cell['name'] not in names:
                    names.append(cell['name'])
        names.sort(key=lambda n: not n.startswith('slipring'))  # stable: the best come first
        rows = []
        for name in names:
            row, label = [], name
            for size in sizes:
                found = self.best([c for c in cells if c['bytes'] == size and c['name'] == name], figure, smallest)
                row.append(number(self.median(found[0], figure)) if found else '-')
                label = self.label(found[0]) if found else label
            rows.append([label] + row)
        return table([''] + [size_text(s) for s in sizes], rows)

    def throughput(self):
        return ('Millions of messages per second, single calls:\n\n' + self.across_sizes('throughput', 'mps', group=1) +
                '\n\nThe same as GB/s:\n\n' + self.across_sizes('throughput', 'gbs', group=1))

    def groups(self):
        return self.across_sizes('throughput', 'mps', group=32)

    def rings(self):
        cells = [c for c in self.pick(scenario='throughput', group=1) if c['producers'] == 1]
        rings = sorted({c['ring'] for c in cells})
        pairs = sorted({(c['bytes'], c['name']) for c in cells if c['ring'] != RING})
        rows = []
        for size, name in pairs:
            row = [size_text(size), name]
            for ring in rings:
                found = self.best([c for c in cells if (c['bytes'], c['name'], c['ring']) == (size, name, ring)], 'mps')
                row.append(number(self.median(found[0], 'mps')) if found else '-')
            rows.append(row)
        return table(['message', ''] + [size_text(r) for r in rings], rows)

    def latency(self):
        text = ('Multiples of the raw round trip, mean:\n\n' +
                self.across_sizes('round_trip', 'x_raw', True, depth=1))
        rows = []
        for cell in self.best(self.pick(scenario='round_trip', bytes=64, depth=1), 'rtt_ns', True):
            rows.append([self.label(cell)] + [number(self.median(cell, n)) for n in
                                              ('rtt_ns', 'p50_ns', 'p99_ns', 'p999_ns', 'max_ns')])
        text += '\n\nAt 64 B, in ns; the medians over the rounds:\n\n'
        return text + table(['', 'mean', 'p50', 'p99', 'p99.9', 'max'], rows)

    def depths(self):
        cells = [c for c in self.pick(scenario='round_trip', bytes=64)]
        depths = sorted({c['depth'] for c in cells})
        if depths == [1]:
            return table([''], [])
        rows = []
        for name in dict.fromkeys(c['name'] for c in cells if c['depth'] > 1):
            row = [name]
            for depth in depths:
                found = [c for c in cells if c['name'] == name and c['depth'] == depth]
                row.append(number(self.median(found[0], 'rtt_ns') / depth) if found else '-')
            rows.append(row)
        return table(['ns per message, under way at a time'] + [str(d) for d in depths], rows)

    def open_loop(self):
        rows = []
        for cell in self.pick(scenario='open_loop'):
            rate = cell['rate']
            of = f'{-rate * 100:.0f} % of saturation' if rate < 0 else f'{rate:,.0f}/s'.replace(',', ' ')
            rows.append([of, self.label(cell)] + [number(self.median(cell, n)) for n in
                        ('p50_ns', 'p90_ns', 'p99_ns', 'p999_ns')] +
                        [number(cell['classes'][self.of_class].get('max_ns')),
                         number(self.median(cell, 'receiver_cpu_ns'))])
        return table(['rate', '', 'p50', 'p90', 'p99', 'p99.9', 'max', 'receiver CPU per message'], rows)

    def wake(self):
        rows = []
        for cell in self.best_of_each([c for c in self.cells if c['scenario'] == 'wake']):
            where = 'one CPU' if cell['one_cpu'] else 'two CPUs'
            gap = f", idle {cell['gap_ns'] / 1e3:.0f} us before" if cell['gap_ns'] else ''
            rows.append([where + gap, self.label(cell), number(self.median(cell, 'rtt_ns') / 1e3),
                         number(self.median(cell, 'x_futex'))])
        return table(['', '', 'us', 'x raw futex'], rows)

    def best_of_each(self, cells):
        return sorted(cells, key=lambda c: (c['one_cpu'], c['gap_ns'], self.median(c, 'rtt_ns')))

    def many(self):
        cells = [c for c in self.pick(scenario='throughput', bytes=16, group=1)]
        counts = sorted({c['producers'] for c in cells})
        rows = []
        for name in dict.fromkeys(c['name'] for c in cells if c['producers'] > 1):
            row, label = [], name
            for count in counts:
                found = self.best([c for c in cells if c['name'] == name and c['producers'] == count], 'mps')
                row.append(number(self.median(found[0], 'mps')) if found else '-')
                label = self.label(found[0]) if found else label
            rows.append([label] + row)
        text = table(['M messages/s of 16 B, all together'] + [f'{c} producer{"s" * (c > 1)}' for c in counts], rows)
        idle = [[str(c['idle']), number(self.median(c, 'burst_ns')), number(self.median(c, 'x_alone'))]
                for c in self.pick(scenario='idle')]
        return text + '\n\n' + table(['idle producers', 'a burst of 32, ns', 'x without them'], idle)

    def hand_over(self):
        rows = [[size_text(c['bytes']), number(self.median(c, 'rtt_ns')), number(self.median(c, 'x_raw'))]
                for c in self.pick(scenario='hand_over')]
        return table(['filled block', 'round trip, ns', 'x raw'], rows)

    # --- the model: lines on paper, and as counted --------------------------------------------

    def lines(self):
        rows = []
        for counted in self.data.get('lines', []):
            granule = 64 if counted['form'].endswith('lines') else 8
            predicted = predicted_lines(counted['bytes'], granule, counted['visit'], 64 * KIB)
            rows.append([counted['form'], size_text(counted['bytes']), str(counted['visit']),
                         f"{predicted[0]:.2f} + {predicted[1]:.2f}",
                         f"{counted['upgrades']:.2f} + {counted['reads']:.2f}",
                         f"{counted['upgrades'] + counted['reads'] - sum(predicted):+.2f}"])
        return table(['form', 'message', 'messages a visit', 'predicted U + R', 'counted U + R', 'more than predicted'], rows)

    def scaling(self):
        """Messages per second that the transfers alone allow, on this machine."""
        _, stream, _ = self.calibrated('bulk_4k_gbs')
        _, raw, _ = self.calibrated('raw_ns')
        if not stream or not raw:
            return table([''], [])
        per_line = LINE / stream  # ns
        rows = []
        for size in (8, 64, 256, 1024, 4096):
            up, read = predicted_lines(size, 8, 64, RING)
            paced = 1e3 / (per_line * (up + read) / 2)
            near_empty = 1e3 / (raw / 2 + per_line * (up + read) / 2)
            best = self.best([c for c in self.pick(scenario='throughput', bytes=size, ring=RING, group=1)
                              if c['family'] == 'slipring' and c['producers'] == 1], 'mps')
            rows.append([size_text(size), f'{up + read:.2f}', number(paced), number(near_empty),
                         number(self.median(best[0], 'mps')) if best else '-'])
        return table(['message', 'transfers', 'M/s if the sides keep apart', 'M/s with one hand-over each',
                      'M/s measured'], rows)

    # --- plots --------------------------------------------------------------------------------

    def plots(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.plot_sizes(folder / 'throughput.svg', 'mps', 'million messages per second', 1)
        self.plot_sizes(folder / 'bandwidth.svg', 'gbs', 'GB/s', 1, limits=True)
        self.plot_curves(folder / 'round-trip.svg', 'round trip of 64 B, ns',
                         self.best(self.pick(scenario='round_trip', bytes=64, depth=1), 'rtt_ns', True)[:8])
        for rate, name in ((1e5, 'open-loop-100k.svg'), (1e6, 'open-loop-1m.svg')):
            self.plot_curves(folder / name, f'ns from when it was due, {rate / 1e3:.0f}k/s',
                             self.best(self.pick(scenario='open_loop', rate=rate), 'p50_ns', True)[:8])
        self.plot_rounds(folder / 'rounds.svg')

    def plot_sizes(self, path, figure, what, group, limits=False):
        cells = [c for c in self.pick(scenario='throughput', group=group, ring=RING) if c['producers'] == 1]
        ours = [n for n in ('slipring', 'slipring.claim', 'slipring.block') if any(c['name'] == n for c in cells)]
        rivals = [c['name'] for c in self.best([c for c in cells if c['family'] != 'slipring' and c['bytes'] == 64],
                                               'mps')]
        series = []
        for name in ours + rivals[:7]:
            points = []
            for size in sorted({c['bytes'] for c in cells}):
                found = self.best([c for c in cells if c['name'] == name and c['bytes'] == size], figure)
                if found:
                    low, median, high = self.figures(found[0])[figure]
                    points.append((size, median, low, high))
            series.append((name, points))
        if limits:
            points = [(size, *(self.calibrated(f'bulk_{key}_gbs')[i] for i in (1, 0, 2)))
                      for size, key in ((256, '256'), (1024, '1k'), (4096, '4k'), (65536, '64k'))]
            series.append(('limit of a stream', [p for p in points if p[1]]))
        sizes = [8, 64, 256, KIB, 4 * KIB, 64 * KIB, MIB]
        tics = ', '.join(f'"{size_text(size)}" {size}' for size in sizes)
        gnuplot(path, series, what, 'message', f'set logscale xy; set xrange [6:2e6]; set xtics ({tics})',
                '1:2:3:4 with yerrorlines')

    def plot_curves(self, path, what, cells):
        series = []
        for cell in cells:
            curve = cell['classes'][self.of_class].get('curve', [])
            series.append((cell['name'], [(1 / (1 - q), ns) for q, ns in curve if q >= 0.25]))
        tics = 'set xtics ("50 %%" 2, "90 %%" 10, "99 %%" 100, "99.9 %%" 1000, "99.99 %%" 10000, "99.999 %%" 100000)'
        gnuplot(path, series, what, 'share of messages', f'set logscale xy; {tics}',
                '1:2 with linespoints')

    def plot_rounds(self, path):
        """What the CPUs did meanwhile: each raw round trip, and who was measured beside it."""
        points = [(i, row['raw_ns']) for i, row in enumerate(self.data['rows']) if row.get('raw_ns')]
        gnuplot(path, [('raw round trip', points)], 'ns', 'measurements, in the order they were made',
                'set yrange [0:*]', '1:2 with dots lw 3')


def predicted_lines(size, granule, visit, capacity):
    """Transfers of cache lines per message by the format alone: U (taken to be written), R (fetched).

    A record is a commit word and its payload, rounded up to the granule; from 512 bytes on the
    payload starts on a line of its own. Each line is taken once and fetched once per lap. A visit
    ends with a look at the word behind the last record, so the line of that word is taken and
    fetched once more. read_pos moves once per eighth of the capacity at most."""
    if size >= 512:
        record = LINE + -(-size // LINE) * LINE
    else:
        record = -(-(WORDS + size) // granule) * granule
    each = record / LINE + 1 / visit + record / (capacity / 8)
    return each, each


def gnuplot(path, series, y, x, setup, how):
    series = [(name, points) for name, points in series if points]
    if not series:
        path.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory() as temp:
        parts = []
        for i, (name, points) in enumerate(series):
            data = Path(temp, f'{i}.dat')
            data.write_text('\n'.join(' '.join(f'{v:.6g}' for v in point) for point in points) + '\n')
            width = 3 if name.startswith('slipring') else 1.5
            style = how if 'dots' in how else f'{how} lw {width} pt {i + 4} ps 0.6'
            parts.append(f'"{data}" using {style} title "{name}" noenhanced')
        script = (f'set terminal svg size 860,480 dynamic font "sans,13" background "white"\n'
                  f'set output "{path}"\nset key outside right top\nset grid lc rgb "#dddddd"\n'
                  f'set xlabel "{x}"\nset ylabel "{y}"\n{setup}\nplot {", ".join(parts)}\n')
        subprocess.run(['gnuplot', '-'], input=script, text=True, check=True)
    # Names of temporary files and dates have no place in a file that is compared.
    path.write_text(path.read_text().replace('\r', ''))


def write_page(page, run):
    text = page.read_text()
    for name in ('machine', 'targets', 'calibration', 'throughput', 'groups', 'rings', 'latency', 'depths',
                 'open_loop', 'wake', 'many', 'hand_over', 'lines', 'scaling'):
        begin, end = f'<!-- begin {name} -->\n', f'<!-- end {name} -->'
        assert begin in text and end in text, f'{page} has no section {name}'
        head, rest = text.split(begin, 1)
        _, tail = rest.split(end, 1)
        text = head + begin + getattr(run, name)() + '\n' + end + tail
    page.write_text(text)


def main(arguments):
    if not arguments or arguments[0].startswith('-'):
        print(__doc__, file=sys.stderr)
        return 1
    run = Run(arguments[0])
    if '--text' in arguments:
        for t in run.data['targets']:
            print(f"{t['id']:4} {t['name']:46} {t['figure']:26} {t['wanted']:10} {t['verdict']}: {t['detail']}")
        return 0
    docs = Path(arguments[arguments.index('--docs') + 1]) if '--docs' in arguments else ROOT / 'docs'
    write_page(docs / 'performance.md', run)
    if shutil.which('gnuplot'):
        run.plots(docs / 'performance')
    else:
        print('report: no plots: gnuplot is not installed (gnuplot-nox)', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
