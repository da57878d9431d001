# SPDX-License-Identifier: Apache-2.0
"""Runs the command `slipring` as a user would, in places of its own, and looks what is left.

A case is a function `case_<what it shows>(t)`; main() runs those of a module and prints TAP: one
line per case, the plan, and "# N passed, N failed, N skipped".
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

CASE_SECONDS = 40


class Skip(Exception):
    """What this machine refuses, with the reason."""


class Ended:
    """How a run ended: code, out and err (bytes)."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def text(self):
        return self.err.decode('utf-8', 'replace')

    def json(self):
        """The last JSON object on stderr, or that on stdout."""
        lines = [line for line in (self.err or b'').splitlines() if line.startswith(b'{')]
        return json.loads(lines[-1] if lines else self.out)['slipring']

    def __repr__(self):
        return f'exit {self.code}, out {self.out[:300]!r}, err {self.err[-600:]!r}'


class Case:
    def __init__(self, tool):
        self.tool = tool
        shm = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
        self.shm = tempfile.mkdtemp(prefix='t.cli.', dir=shm)
        self.home = tempfile.mkdtemp(prefix='slipring-cli-')
        self.files = os.path.join(self.home, 'files')
        self.env = dict(os.environ, SLIPRING_SHM_DIR=self.shm, SLIPRING_DIR=self.files,
                        LC_ALL='C.UTF-8', TERM='xterm')
        for name in ('SLIPRING_WAIT', 'NO_COLOR'):
            self.env.pop(name, None)
        self.began = int(time.time())
        self.started = []
        self.pids = set()
        self.feeders = []
        self.drains = []
        self.groups = []  # leaders of sessions: a shell and what it started

    def start(self, *args, **more):
        more.setdefault('stdin', subprocess.DEVNULL)
        for stream in ('stdout', 'stderr'):
            more.setdefault(stream, subprocess.PIPE)
        more.setdefault('env', self.env)
        child = subprocess.Popen([self.tool, *args], **more)
        self.started.append(child)
        self.pids.add(child.pid)
        return child

    def feed(self, child, data, close=True):
        """Writes to its standard input from a thread: neither side of a pipe may wait for us."""
        stdin, child.stdin = child.stdin, None

        def write():
            try:
                stdin.write(data)
                stdin.flush()
                if close:
                    stdin.close()
            except BrokenPipeError:
                pass
        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        self.feeders.append((thread, stdin))

    def drain(self, child):
        """Reads its standard output from a thread; call the result for all of it."""
        parts = []

        def read():
            while part := os.read(child.stdout.fileno(), 1 << 20):
                parts.append(part)
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self.drains.append(thread)

        def result():
            thread.join(20)
            return b''.join(parts)
        return result

    def end(self, child, limit=20):
        out, err = child.communicate(timeout=limit)
        return Ended(child.returncode, out, err)

    def run(self, *args, data=None, limit=20, **more):
        if data is not None:
            more['stdin'] = subprocess.PIPE
        child = self.start(*args, **more)
        out, err = child.communicate(input=data, timeout=limit)
        return Ended(child.returncode, out, err)

    def ok(self, *args, **more):
        ended = self.run(*args, **more)
        assert ended.code == 0, ended
        return ended

    def stat(self, name):
        return self.ok('stat', name, '--json', '--exact', '--sample', '0').json()['channels'][0]

    def wait_until(self, ready, what, limit=15):
        give_up = time.monotonic() + limit
        while time.monotonic() < give_up:
            if ready():
                return
            time.sleep(0.005)
        raise AssertionError('never came: ' + what)

    def wait_attached(self, name, *ends):
        """Until all `ends` ("producer", "consumer") of the lane are held by living processes."""
        def attached():
            ended = self.run('ls', name, '-J', '--sample', '0')
            if ended.code != 0:
                return False
            channel = ended.json()['channels'][0]
            return all(channel[end] and channel[end]['state'] == 'alive' for end in ends)
        self.wait_until(attached, f'{ends} of {name}')

    def path(self, name):
        return os.path.join(self.shm, name)

    def left(self):
        """Names in our places, and System V segments that our children made."""
        found = os.listdir(self.shm)
        if os.path.isdir(self.files):
            found += os.listdir(self.files)
        with open('/proc/sysvipc/shm') as table:
            for row in table.readlines()[1:]:
                # Numbers of processes are used again: what is older than we are is not ours.
                if int(row.split()[4]) in self.pids and int(row.split()[13]) >= self.began:
                    found.append(f'System V segment: {" ".join(row.split())}')
        return found

    def check_nothing_left(self):
        left = self.left()
        assert not left, f'left behind: {left}'

    def check_error(self, ended, exit_code, code, *words):
        """Three lines: what (with its code), why, fix."""
        assert ended.code == exit_code, f'expected exit {exit_code}: {ended}'
        lines = ended.text().splitlines()
        assert len(lines) == 3, f'expected three lines: {ended}'
        assert lines[0].startswith('slipring: ') and f'({code}' in lines[0], ended
        assert lines[1].startswith('     why: ') and len(lines[1]) > 14, ended
        assert lines[2].startswith('     fix: ') and len(lines[2]) > 12, ended
        assert '{' not in ended.text() and '\x1b' not in ended.text(), ended
        for word in words:
            assert word in ended.text(), f'expected {word!r}: {ended}'

    def check_error_end(self, ended, exit_code, code, *words):
        """The same, behind the notes that a long run left on stderr."""
        lines = ended.err.splitlines(keepends=True)
        self.check_error(Ended(ended.code, ended.out, b''.join(lines[-3:])), exit_code, code, *words)

    def close(self):
        for child in self.started:
            if child.poll() is None:
                child.kill()
                child.wait()
        for thread in self.drains:
            thread.join(5)
        for child in self.started:
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()
        for leader in self.groups:
            if leader.poll() is None:
                os.killpg(leader.pid, signal.SIGKILL)
                leader.wait()
        for thread, stdin in self.feeders:
            thread.join(5)
            try:
                stdin.close()
            except BrokenPipeError:
                pass
        # Segments of System V outlive their names: take away what a failed case left.
        subprocess.run([self.tool, 'rm', '-qf', '*'], env=self.env, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.shm, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)


def hang(_number, _frame):
    raise AssertionError(f'hung: more than {CASE_SECONDS} s')


def main(cases):
    tool = os.path.abspath(sys.argv[1])
    wanted = sys.argv[2:]
    passed = failed = skipped = 0
    signal.signal(signal.SIGALRM, hang)
    number = 0
    for name, body in list(cases.items()):
        if not name.startswith('case_') or (wanted and name not in wanted):
            continue
        t = Case(tool)
        number += 1
        began = time.monotonic()
        signal.alarm(CASE_SECONDS)
        try:
            body(t)
            word, note, passed = 'ok', '', passed + 1
        except Skip as reason:
            word, note, skipped = 'ok', f' # SKIP {reason}', skipped + 1
        except Exception:  # pylint: disable=broad-except
            word, note, failed = 'not ok', '', failed + 1
            print('\n'.join('# ' + line for line in traceback.format_exc().splitlines()))
        signal.alarm(0)
        t.close()
        seconds = time.monotonic() - began
        print(f'{word} {number} - {name[5:].replace("_", " ")} ({seconds:.2f} s){note}', flush=True)
    print(f'1..{number}')
    print(f'# {passed} passed, {failed} failed, {skipped} skipped')
    sys.exit(1 if failed or passed == 0 else 0)
