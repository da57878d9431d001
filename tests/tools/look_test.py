#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ls, stat, rm, help and the progress line: what is shown, and that looking changes nothing."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

from harness import main


def case_shows_help_with_an_example_for_every_command(t):
    whole = t.ok('--help').out.decode()
    for command in ('create', 'send', 'recv', 'ls', 'stat', 'rm', 'check', 'gc', 'stress'):
        assert f'\n  {command} ' in whole, whole
        text = t.ok(command, '--help').out.decode()
        assert text.startswith(f'Usage: slipring {command} [OPTIONS]') and 'Example:' in text, text
        assert t.ok('help', command).out.decode() == text
        assert max(map(len, text.splitlines())) <= 100, text
    assert re.fullmatch(rb'slipring \d+\.\d+\.\d+\n', t.ok('--version').out)
    t.check_error(t.run('help', 'nope'), 1, 'invalid_argument')


def case_lists_every_kind_with_who_and_state(t):
    for kind in ('posix', 'sysv', 'file'):
        t.ok('create', f'lane.{kind}', '--kind', kind, '--capacity', '1M')
    sender = t.start('send', 'lane.sysv', stdin=subprocess.PIPE)
    t.wait_attached('lane.sysv', 'producer')
    t.ok('send', 'lane.file', data=b'x' * 4096)
    lines = t.ok('ls', 'lane.*').out.decode().splitlines()
    assert lines[0].split() == ['NAME', 'KIND', 'RING', 'SIZE', 'IN/S', 'BACKLOG', 'USE%', 'PROD', 'CONS',
                                'STATE', 'AGE'], lines
    rows = {line.split()[0]: line.split() for line in lines[1:4]}
    assert rows['lane.posix'][1:10] == ['posix', 'lane', '1M', '0', '0', '0', '-', '-',
                                        'idle'], rows
    assert rows['lane.sysv'][7:10] == [f'slipring({sender.pid})', '-', 'waiting'], rows
    assert rows['lane.file'][1] == 'file' and rows['lane.file'][5].startswith('4'), rows
    assert lines[4] == '2 idle, 1 waiting', lines
    raw = t.ok('ls', 'lane.f*', '-nrb', '-o', 'name,size,where').out.decode()
    assert raw == f'lane.file 1048576 {t.files}/lane.file.ring\n', raw
    assert 'UUID' in t.ok('ls', '-o', '+UUID').out.decode().splitlines()[0]
    sender.stdin.close()
    sender.stdin = None
    assert t.end(sender).code == 0
    t.ok('rm', '-q', 'lane.*')
    t.check_nothing_left()


def case_gives_ls_and_stat_as_json_with_the_same_keys(t):
    t.ok('create', 'x')
    t.ok('send', 'x', data=b'12345')
    listed = t.ok('ls', 'x', '--json').json()
    shown = t.ok('stat', 'x', '--json', '--exact').json()
    assert (listed['schema'], listed['command'], shown['command']) == (1, 'ls', 'stat')
    assert listed['time_ns'] > 0
    channel = shown['channels'][0]
    assert list(channel) == list(listed['channels'][0])
    for key, value in {'name': 'x', 'kind': 'posix', 'capacity_bytes': 262144, 'messages_in': 1,
                       'bytes_in': 5, 'messages_out': 0, 'state': 'idle', 'mode': '0600',
                       'layout': 1, 'keep': True, 'exact': True, 'error': None,
                       'where': t.path('x')}.items():
        assert channel[key] == value, (key, channel)
    assert channel['backlog_bytes'] == channel['write_pos'] - channel['read_pos'] > 0
    assert channel['producer']['state'] == 'left' and channel['consumer']['pid'] is None, channel
    made = json.loads(t.ok('create', 'y', '--json').out)['slipring']['channel']
    assert made['where'] == t.path('y') and len(made['uuid']) == 32
    t.ok('rm', '-q', 'x', 'y')
    t.check_nothing_left()


def case_tells_all_about_one(t):
    t.ok('create', 'x', '--mode', '0640', '--capacity', '64K')
    text = t.ok('stat', 'x').out.decode()
    for word in ('lane of 64K, posix, in ' + t.path('x'), 'mode 0640', 'layout 1', 'uuid ', 'nobody yet',
                 'records of at most 16K', 'bell futex', 'stays'):
        assert word in text, (word, text)
    sender = t.start('send', 'x', stdin=subprocess.PIPE)
    receiver = t.start('recv', 'x')
    t.wait_attached('x', 'producer', 'consumer')
    t.wait_until(lambda: t.stat('x')['consumer']['parked'], 'a parked receiver')
    text = t.ok('stat', 'x').out.decode()
    assert f'slipring({sender.pid})' in text and 'alive, waits for records' in text, text
    sender.kill()
    assert t.end(receiver).code == 7
    text = t.ok('stat', 'x').out.decode()
    assert 'dead: the kernel reports it gone' in text and 'slipring send x' in text, text
    lines = t.ok('stat', 'x', '-i', '20ms', '-c', '3').out.decode().splitlines()
    assert len(lines) == 4 and lines[0].split()[0] == 'IN/S', lines
    assert all(line.endswith('dead') for line in lines[1:]), lines
    lines = t.ok('stat', 'x', '-i', '20ms', '-c', '2', '-J').out.splitlines()
    assert all(json.loads(line)['slipring']['channels'][0]['name'] == 'x' for line in lines), lines
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_changes_nothing_by_looking(t):
    t.ok('create', 'x')
    t.ok('send', 'x', data=b'some bytes')
    with open(t.path('x'), 'rb') as file:
        before = file.read()
    os.chmod(t.path('x'), 0o400)
    for args in (['ls'], ['stat', 'x'], ['stat', 'x', '--exact'], ['ls', '-J']):
        t.ok(*args)
    with open(t.path('x'), 'rb') as file:
        assert file.read() == before
    os.chmod(t.path('x'), 0o600)
    t.ok('rm', '-q', 'x')


def case_refuses_to_remove_what_is_in_use_unless_forced(t):
    for kind in ('posix', 'sysv', 'file'):
        sender = t.start('send', 'x', '--kind', kind, stdin=subprocess.PIPE)
        receiver = t.start('recv', 'x', '--kind', kind)
        t.wait_attached('x', 'producer', 'consumer')
        ended = t.run('rm', 'x')
        t.check_error(ended, 4, 'in_use', f'slipring({sender.pid}) and slipring({receiver.pid})',
                      'nothing removed', 'slipring rm -f x')
        assert t.stat('x')['kind'] == kind
        ended = t.ok('rm', '-f', 'x')
        assert b'go on with the old memory' in ended.err, ended
        t.check_error(t.run('stat', 'x'), 2, 'not_found')
        t.ok('create', 'x')  # newcomers get a new one
        sender.stdin.write(b'still here')
        sender.stdin.close()
        sender.stdin = None
        assert t.end(receiver).out == b'still here' and t.end(sender).code == 0
        assert t.stat('x')['messages_in'] == 0
        t.ok('rm', 'x')
        t.check_nothing_left()


def case_ends_who_waits_for_a_peer_that_cannot_come(t):
    receiver = t.start('recv', 'x')
    t.wait_attached('x', 'consumer')
    t.ok('rm', '-qf', 'x')
    t.check_error(t.end(receiver), 6, 'segment_lost', 'removed')
    with open('/dev/zero', 'rb') as zero:
        sender = t.start('send', 'y', stdin=zero)
        t.wait_attached('y', 'producer')
        t.ok('rm', '-qf', 'y')
        t.check_error(t.end(sender), 6, 'segment_lost', 'removed')
    t.check_nothing_left()


def case_lets_patterns_match_names_only(t):
    t.ok('create', 'x', '--kind', 'sysv')
    number = t.stat('x')['sysv_id']
    elsewhere = dict(t.env, SLIPRING_DIR=os.path.join(t.home, 'elsewhere'))
    assert t.run('rm', '-f', '*', env=elsewhere).code == 2
    channels = t.run('ls', '-J', '--sample', '0', env=elsewhere).json()['channels']
    assert number in [channel['sysv_id'] for channel in channels], channels
    assert t.stat('x')['sysv_id'] == number
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_says_what_it_removes_unread(t):
    t.ok('send', 'x', data=b'x' * 5000)
    ended = t.ok('rm', 'x')
    assert b'4.9K that nobody had read' in ended.err, ended
    for name in ('a.1', 'a.2', 'b'):
        t.ok('create', name)
    ended = t.run('rm', 'a.?', 'nope', 'b')
    t.check_error(ended, 2, 'not_found', 'nope')  # the others are gone all the same
    t.check_nothing_left()


def case_lists_silently_while_segments_come_and_go(t):
    done = threading.Event()

    def churn(number):
        while not done.is_set():
            for kind in ('posix', 'sysv', 'file'):
                subprocess.run([t.tool, 'create', f'c{number}.{kind}', '--kind', kind, '-q'],
                               env=t.env, check=True)
                subprocess.run([t.tool, 'rm', f'c{number}.{kind}'], env=t.env, check=True)
    threads = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(25):
            ended = t.ok('ls', '-J', '--sample', '5ms')
            assert ended.err == b'', ended
            states = {channel['state'] for channel in json.loads(ended.out)['slipring']['channels']
                      if channel['name'].startswith('c')}
            # A SysV segment goes before the link that names it: stale, for an instant.
            assert states <= {'idle', 'stale'}, ended
    finally:
        done.set()
        for thread in threads:
            thread.join()
    t.check_nothing_left()


def case_looks_into_another_root(t):
    other = os.path.join(t.home, 'other')
    os.mkdir(other)
    t.ok('create', 'x', '--root', other)
    assert os.listdir(other) == ['x'] and os.listdir(t.shm) == []
    t.check_error(t.run('stat', 'x'), 2, 'not_found')
    assert t.ok('--root', other, 'ls', 'x', '-J').json()['channels'][0]['where'] == other + '/x'
    t.ok('rm', 'x', '--root', other)
    assert os.listdir(other) == []


def case_colors_terminals_only(t):
    t.ok('create', 'x')
    assert b'\x1b' not in t.ok('ls').out
    assert b'\x1b' in t.ok('ls', '--color=always').out
    assert b'\x1b' not in t.ok('ls', '--color=never').out
    assert b'\x1b[1;31m' in t.run('stat', 'y', '--color=always').err
    t.ok('rm', 'x')


def read_terminal(primary, until_closed):
    """All that was written to the terminal, until its last user has closed it."""
    text = b''
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        if select.select([primary], [], [], 0.1)[0]:
            try:
                part = os.read(primary, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
        elif until_closed.poll() is not None:
            break
    return text.decode()


def terminal_of(columns):
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    return primary, secondary


def case_keeps_to_the_width_of_the_terminal(t):
    name = 'a.name.as.long.as.' + 'x' * 60
    t.ok('create', name, '-q')
    assert name.encode() in t.ok('ls').out  # a pipe has none
    for columns in (80, 200):
        primary, secondary = terminal_of(columns)
        child = t.start('ls', name, '--color=never', stdout=secondary)
        os.close(secondary)
        lines = read_terminal(primary, child).splitlines()
        os.close(primary)
        assert max(map(len, lines)) <= columns and 'a.name' in lines[1], lines
        assert lines[1].endswith('s') and 'idle' in lines[1], lines
        assert (name in lines[1]) == (columns == 200), lines
        child.wait()
    primary, secondary = terminal_of(60)
    sender = t.start('send', name, '--progress', stdin=subprocess.PIPE, stderr=secondary)
    os.close(secondary)
    t.feed(sender, b'x' * 1000, close=False)
    t.wait_attached(name, 'producer')
    time.sleep(0.3)
    sender.terminate()
    text = read_terminal(primary, sender)
    os.close(primary)
    draws = [draw.replace('\x1b[K', '') for draw in text.split('\r') if 'rec/s' in draw]
    assert draws and all(len(draw) < 60 for draw in draws), draws
    t.ok('rm', '-q', name)
    t.check_nothing_left()


def case_draws_a_progress_bar_on_a_terminal(t):
    path = os.path.join(t.home, 'file')
    with open(path, 'wb') as file:
        file.truncate(24 << 20)
    primary, secondary = pty.openpty()
    sender = t.start('send', 'x', path, '--progress', stderr=secondary)
    os.close(secondary)
    receiver = t.start('recv', 'x')

    def drain_slowly():
        while True:
            if not os.read(receiver.stdout.fileno(), 1 << 20):
                return
            time.sleep(0.0015)
    thread = threading.Thread(target=drain_slowly)
    thread.start()
    text = read_terminal(primary, sender)
    os.close(primary)
    thread.join()
    assert sender.wait() == 0 and receiver.wait() == 0
    draws = text.split('\r')
    bars = [draw for draw in draws if '█' in draw]
    assert len(bars) >= 2, text
    assert all('rec/s' in bar and 'backlog' in bar and ' %' in bar for bar in bars), bars
    assert any('ETA' in bar for bar in bars), bars
    shares = [int(re.search(r'(\d+) %', bar).group(1)) for bar in bars]
    assert shares == sorted(shares), shares
    assert '25 165 824 bytes, 384 records' in draws[-1] or '25 165 824 bytes' in text, text
    t.check_nothing_left()


def case_prints_one_line_of_progress_without_a_terminal(t):
    receiver = t.start('recv', 'x', '--progress')
    t.wait_attached('x', 'consumer')
    sender = t.run('send', 'x', '--progress', data=b'x' * 100000)
    receiver = t.end(receiver)
    for ended in (sender, receiver):
        assert re.fullmatch(r'x: 100 000 bytes, \d+ records, \d+\.\d\d s, [\d.]+ [kMG]?B/s\n',
                            ended.text()), ended
    t.check_nothing_left()


def case_writes_over_no_segment_when_descriptors_are_closed(t):
    t.ok('create', 'x')
    with open(t.path('x'), 'rb') as file:
        before = file.read()
    command = f'{t.tool} ls >&- 2>&- <&-; {t.tool} stat x >&- 2>&-; {t.tool} rm nope 2>&-'
    subprocess.run(['sh', '-c', command], env=t.env, check=False, timeout=20)
    with open(t.path('x'), 'rb') as file:
        assert file.read() == before
    t.ok('rm', 'x')


def case_follows_until_it_is_interrupted(t):
    t.ok('create', 'x')
    child = t.start('stat', 'x', '-i', '50ms')
    os.read(child.stdout.fileno(), 100)
    child.send_signal(signal.SIGINT)
    ended = t.end(child)
    assert ended.code == 130 and ended.err == b'', ended
    t.ok('rm', 'x')
    t.check_nothing_left()


main(globals())
