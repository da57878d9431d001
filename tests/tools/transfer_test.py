#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""send and recv: in either order, over every kind, killed, stopped and told to stop."""
import filecmp
import hashlib
import os
import random
import signal
import subprocess
import time

from harness import main

KINDS = ('posix', 'sysv', 'file')
MIB = 1 << 20


def some_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


def make_tree(root):
    """About 6 MB in files of 0 B to 2 MB."""
    sizes = [0, 1, 511, 512, 4096, 65535, 65536, 65537, 2 * MIB, 2 * MIB + 3] + [3000] * 300
    for index, size in enumerate(sizes):
        folder = os.path.join(root, f'd{index % 7}')
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f'f{index}'), 'wb') as file:
            file.write(some_bytes(size, index))


def same_trees(left, right):
    compared = filecmp.dircmp(left, right)
    if compared.left_only or compared.right_only or compared.diff_files or compared.funny_files:
        return False
    return all(same_trees(os.path.join(left, sub), os.path.join(right, sub))
               for sub in compared.common_dirs)


def case_carries_a_directory_in_either_order_over_every_kind(t):
    tree = os.path.join(t.home, 'tree')
    make_tree(tree)
    send = f'tar c -C {tree} . | {t.tool} send x --kind $KIND'
    for kind in KINDS:
        for first in ('send', 'recv'):
            target = os.path.join(t.home, f'{kind}-{first}')
            os.mkdir(target)
            recv = f'{t.tool} recv x --kind $KIND | tar x -C {target}'
            env = dict(t.env, KIND=kind)
            commands = (send, recv) if first == 'send' else (recv, send)
            running = []
            for index, command in enumerate(commands):
                shell = ['bash', '-o', 'pipefail', '-c', command]
                running.append(subprocess.Popen(shell, env=env, stderr=subprocess.PIPE,
                                                start_new_session=True))
                t.groups.append(running[-1])
                if index == 0:
                    t.wait_attached('x', 'producer' if first == 'send' else 'consumer')
            for child in running:
                err = child.communicate(timeout=30)[1]
                assert child.returncode == 0 and err == b'', (kind, first, err)
            assert same_trees(tree, target), (kind, first)
            t.check_nothing_left()


def case_carries_a_file_identically_at_every_geometry(t):
    data = some_bytes(3 * MIB + 17)
    path = os.path.join(t.home, 'file')
    with open(path, 'wb') as file:
        file.write(data)
    for args in (['--capacity', '4K'], ['--capacity', '4K', '--record', '1'], ['--record', '999'],
                 ['--capacity', '1M', '--record', '256K'], ['--wait', 'spin'], ['--wait', 'park']):
        size = 20000 if args[-1] == '1' else len(data)
        with open(path, 'r+b') as file:
            file.truncate(size)
            file.seek(0)
            file.write(data[:size])
        sender = t.start('send', 'x', path, '-J', *args)
        # Whoever comes first makes the lane: both ask for the same capacity.
        shared = args[:2] if args[0] in ('--capacity', '--wait') else []
        out = t.ok('recv', 'x', '--linger', '0', *shared).out
        summary = t.end(sender).json()
        assert out == data[:size], args
        assert summary['bytes'] == size and summary['exit'] == 0, summary
        if args[-1] == '999':
            assert summary['records'] == -(-size // 999), summary
        t.check_nothing_left()


def case_says_in_json_what_went_through(t):
    sender = t.end(t.start('send', 'x', '/dev/null', '--json'))
    assert sender.json()['left'] == 'removed', sender
    t.check_nothing_left()
    receiver = t.start('recv', 'x', '--json')
    t.wait_attached('x', 'consumer')
    sender = t.run('send', 'x', '--json', data=b'0123456789' * 1000)
    receiver = t.end(receiver)
    for ended, command in ((sender, 'send'), (receiver, 'recv')):
        summary = ended.json()
        assert summary['schema'] == 1 and summary['command'] == command, summary
        assert summary['bytes'] == 10000 and summary['kind'] == 'posix', summary
        assert summary['records'] >= 1 and summary['seconds'] > 0 and 'parks' in summary, summary
    assert receiver.json()['left'] == 'removed' and receiver.out == b'0123456789' * 1000
    t.check_nothing_left()


def case_carries_lines_one_per_record(t):
    lines = [b'', b'a', b'x' * 4000, b'', b'\xff\x00b'] + [b'line %d' % i for i in range(20000)]
    for tail in (b'\n', b''):
        sender = t.start('send', 'x', '--lines', '-J', stdin=subprocess.PIPE)
        t.feed(sender, b'\n'.join(lines) + tail)
        receiver = t.ok('recv', 'x', '--lines', '-J')
        sender = t.end(sender)
        assert sender.json()['records'] == len(lines), sender
        assert receiver.json()['records'] == len(lines), receiver
        assert receiver.out == b'\n'.join(lines) + b'\n'
        t.check_nothing_left()


def case_names_the_line_that_is_too_long(t):
    data = b'short\n' * 41 + b'x' * (64 * 1024 + 1) + b'\nnever\n'
    t.check_error(t.run('send', 'x', '--lines', data=data), 1, 'too_large', 'line 42', '65 536')
    assert t.ok('recv', 'x', '--lines', '--linger', '0').out == b'short\n' * 41
    t.ok('send', 'x', '--lines', data=b'x' * 64 * 1024 + b'\n')  # just fits
    assert len(t.ok('recv', 'x', '--linger', '0').out) == 64 * 1024
    t.check_nothing_left()


def case_passes_on_what_a_pipe_gives_at_once(t):
    sender = t.start('send', 'x', stdin=subprocess.PIPE)
    receiver = t.start('recv', 'x')
    for word in (b'one', b'two', b'three'):
        sender.stdin.write(word)
        sender.stdin.flush()
        assert os.read(receiver.stdout.fileno(), 100) == word
    assert t.stat('x')['aborted'] == 0
    sender.stdin.close()
    sender.stdin = None
    assert t.end(receiver).code == 0 and t.end(sender).code == 0
    t.check_nothing_left()


def case_keeps_what_nobody_has_read_until_somebody_does(t):
    ended = t.run('send', 'x', '-J', data=b'for later')
    assert ended.code == 0 and ended.json()['left'] == 'unread', ended
    channel = t.stat('x')
    assert channel['messages_in'] == 1 and channel['state'] == 'idle', channel
    assert t.ok('recv', 'x').out == b'for later'
    t.check_nothing_left()


def case_takes_senders_one_after_another_within_the_linger(t):
    receiver = t.start('recv', 'x', '--linger', '3s')
    t.wait_attached('x', 'consumer')
    for word in (b'a', b'b', b'c'):
        t.ok('send', 'x', data=word)
    began = time.monotonic()
    assert t.end(receiver).out == b'abc' and time.monotonic() - began > 1
    t.check_nothing_left()


def case_ends_after_a_count_and_leaves_the_rest(t):
    t.ok('send', 'x', '--lines', data=b'1\n2\n3\n4\n5\n')
    assert t.ok('recv', 'x', '--lines', '-c', '2').out == b'1\n2\n'
    assert t.ok('recv', 'x', '--lines').out == b'3\n4\n5\n'
    t.check_nothing_left()


def case_takes_no_end_from_before_it_came_for_its_own(t):
    """A lane that `create` made is used three times, by whoever comes first."""
    t.ok('create', 'x')
    data = some_bytes(MIB)
    for first in ('recv', 'recv', 'send', 'send'):
        receiver = None
        if first == 'recv':
            receiver = t.start('recv', 'x')
            t.wait_attached('x', 'consumer')
            time.sleep(0.1)  # it has seen the sender that is gone, and waits for another
        sender = t.start('send', 'x', stdin=subprocess.PIPE)
        t.feed(sender, data)
        if first == 'send':
            # It has seen the receiver that is gone, with the lane full.
            t.wait_until(lambda: t.stat('x')['backlog_bytes'] > 131072, 'a full lane')
            time.sleep(0.1)
        receiver = receiver or t.start('recv', 'x')
        assert t.end(receiver).out == data, first
        assert t.end(sender).code == 0, first
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_waits_for_room_only_as_long_as_it_may(t):
    big = some_bytes(MIB)
    t.check_error(t.run('send', 'x', '--try', data=big), 5, 'full', 'nobody receives')
    t.check_error(t.run('send', 'x', '--timeout', '50ms', data=big), 5, 'timed_out')
    t.ok('rm', 'x', '-q')
    t.check_error(t.run('recv', 'x', '--timeout', '50ms'), 5, 'timed_out', 'nobody sends')
    t.check_nothing_left()


def case_closes_in_order_when_told_to_stop(t):
    for number in (signal.SIGINT, signal.SIGTERM):
        receiver = t.start('recv', 'x')
        t.wait_attached('x', 'consumer')
        receiver.send_signal(number)
        ended = t.end(receiver)
        assert ended.code == 128 + number and ended.err == b'', ended
        t.check_nothing_left()
        sender = t.start('send', 'x', stdin=subprocess.PIPE)
        t.wait_attached('x', 'producer')
        sender.send_signal(number)
        sender.wait(timeout=10)
        assert sender.returncode == 128 + number
        t.check_nothing_left()
    # Full, nobody receives: the wait for room ends as well, and what was sent stays.
    with open('/dev/zero', 'rb') as zero:
        sender = t.start('send', 'x', stdin=zero)
        t.wait_until(lambda: t.run('stat', 'x').code == 0 and t.stat('x')['backlog_bytes'] > 131072,
                     'a full lane')
        sender.send_signal(signal.SIGTERM)
        assert t.end(sender).code == 143
    assert t.stat('x')['producer']['state'] == 'left'
    t.ok('rm', 'x', '-q')
    t.check_nothing_left()


def case_prints_what_it_got_when_the_sender_is_killed(t):
    for kind in KINDS:
        data = some_bytes(2 * MIB)
        sender = t.start('send', 'x', '--kind', kind, stdin=subprocess.PIPE)
        receiver = t.start('recv', 'x', '--kind', kind)
        t.feed(sender, data, close=False)
        got = b''
        while len(got) < MIB:
            got += os.read(receiver.stdout.fileno(), 65536)
        sender.kill()
        sender.wait()
        ended = t.end(receiver)
        got += ended.out
        t.check_error(ended, 7, 'peer_dead', f'sender slipring({sender.pid}) died after',
                      'bytes in')
        assert data.startswith(got) and len(got) >= MIB
        number = ended.text().split('died after ')[1].split(' bytes')[0].replace(' ', '')
        assert int(number) == len(got), (number, len(got))
        # Usable again at once.
        receiver = t.start('recv', 'x', '--kind', kind)
        t.ok('send', 'x', '--kind', kind, data=b'again')
        ended = t.end(receiver)
        assert ended.code == 0 and ended.out == b'again', ended
        t.check_nothing_left()


def case_gives_the_rest_to_a_new_receiver_when_one_is_killed(t):
    data = some_bytes(2 * MIB)
    path = os.path.join(t.home, 'file')
    with open(path, 'wb') as file:
        file.write(data)
    for kind in KINDS:
        receiver = t.start('recv', 'x', '--kind', kind)  # nobody reads its output: it blocks
        sender = t.start('send', 'x', path, '--kind', kind, '-J')
        got = b''
        while len(got) < 100000:
            got += os.read(receiver.stdout.fileno(), 65536)
        receiver.kill()
        receiver.wait()
        ended = t.end(sender)
        got += receiver.stdout.read()
        assert ended.code == 7 and b'"peer_dead"' in ended.err, ended
        summary = ended.json()
        if summary.get('error'):
            summary = __import__('json').loads(ended.err.splitlines()[0])['slipring']
        assert summary['left'] == 'unread' and data.startswith(got), summary
        rest = t.ok('recv', 'x', '--linger', '0').out
        begin = summary['bytes'] - len(rest)
        # Nothing is missing; what was not released yet comes once more.
        assert 0 <= begin <= len(got) and rest == data[begin:summary['bytes']], (begin, len(got))
        t.check_nothing_left()


def case_reports_a_receiver_that_closes_too_early(t):
    receiver = t.start('recv', 'x', '-c', '1')
    t.wait_attached('x', 'consumer')
    ended = t.run('send', 'x', data=some_bytes(MIB))
    assert t.end(receiver).code == 0
    t.check_error(ended, 7, 'closed', 'before all was sent', 'sent so far')
    t.ok('rm', 'x', '-q')
    t.check_nothing_left()


def case_does_not_take_a_stopped_sender_for_dead(t):
    sender = t.start('send', 'x', stdin=subprocess.PIPE)
    receiver = t.start('recv', 'x', '--linger', '0')
    sender.stdin.write(b'before ')
    sender.stdin.flush()
    assert os.read(receiver.stdout.fileno(), 100) == b'before '
    sender.send_signal(signal.SIGSTOP)
    t.wait_until(lambda: t.stat('x')['state'] == 'stopped', 'a stopped sender')
    time.sleep(0.3)
    assert receiver.poll() is None
    assert b'stopped' in t.ok('ls', 'x').out
    sender.send_signal(signal.SIGCONT)
    sender.stdin.write(b'after')
    sender.stdin.close()
    sender.stdin = None
    assert t.end(receiver).out == b'after' and t.end(sender).code == 0
    t.check_nothing_left()


def case_needs_no_cpu_while_it_waits(t):
    receiver = t.start('recv', 'x')
    sender = t.start('send', 'x', stdin=subprocess.PIPE)  # waits for its pipe
    t.wait_attached('x', 'producer', 'consumer')

    def ticks(pid):
        with open(f'/proc/{pid}/stat') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(0.1)
    before, began = ticks(receiver.pid), time.monotonic()
    time.sleep(2)
    used = (ticks(receiver.pid) - before) / os.sysconf('SC_CLK_TCK')
    share = used / (time.monotonic() - began)
    # A tick is 10 ms: one may be charged for less.
    assert used <= 0.0201, f'{100 * share:.1f} % of a CPU'
    assert t.stat('x')['consumer']['parked']
    sender.stdin.close()
    sender.stdin = None
    assert t.end(receiver).code == 0
    t.check_nothing_left()


def case_uses_system_v_segments_by_key_and_id(t):
    key = '0x%x' % (0x51000000 | os.getpid())
    t.ok('create', 'x', '--kind', 'sysv', '--sysv-key', key)
    by_id = t.stat('x')['sysv_id']
    t.check_error(t.run('create', 'y', '--kind', 'sysv', '--sysv-key', key), 4, 'exists', 'key')
    for selector in (f'sysv:{key}', f'sysv-id:{by_id}', 'shm:x', '/x', 'shm:/x'):
        assert t.stat(selector)['sysv_id'] == by_id
        t.ok('send', selector, data=selector.encode())
        assert t.ok('recv', selector, '--linger', '0').out == selector.encode()
    t.ok('rm', f'sysv:{key}')
    t.run('rm', '-fq', 'x')
    t.check_nothing_left()


def case_sends_a_large_file_with_the_same_hash(t):
    path = os.path.join(t.home, 'large')
    chunk = some_bytes(MIB)
    whole = hashlib.sha256()
    with open(path, 'wb') as file:
        for index in range(64):
            part = index.to_bytes(8, 'little') + chunk[8:]
            file.write(part)
            whole.update(part)
    for kind in KINDS:
        sender = t.start('send', 'x', path, '--kind', kind)
        digest = subprocess.run(f'{t.tool} recv x --linger 0 | sha256sum', shell=True, env=t.env,
                                capture_output=True, timeout=30, check=True).stdout.split()[0]
        assert digest.decode() == whole.hexdigest() and t.end(sender).code == 0, kind
        t.check_nothing_left()


main(globals())
