#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check, gc and rm: what they find, what they leave alone, and that bad input changes nothing."""
import json
import os
import signal
import struct
import subprocess
import threading

from harness import Skip, main

VERSION_AT = 0x10


def start_peer(t, *args):
    peer = os.environ.get('SLIPRING_RING_PEER')
    if not peer:
        raise Skip('no ring peer was built')
    child = subprocess.Popen([peer, *args], env=t.env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    t.started.append(child)
    t.pids.add(child.pid)
    return child, child.stdout.readline().decode().strip()


def patch(path, offset, word):
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(struct.pack('<Q', word))


def contents(path):
    with open(path, 'rb') as file:
        return file.read()


def kill(child):
    child.kill()
    child.wait()


def start_sender(t, name, *args, data=b''):
    sender = t.start('send', name, *args, stdin=subprocess.PIPE)
    t.wait_attached(name, 'producer')
    if data:
        sender.stdin.write(data)
        sender.stdin.flush()
        t.wait_until(lambda: t.stat(name)['backlog_bytes'] > 0, 'a record')
    return sender


def items(ended):
    return {item['name']: item for item in ended.json()['items']}


def case_check_finds_nothing_wrong_with_rings_of_every_form(t):
    forms = {'lane': [], 'lanes': ['--ring', 'mpsc'], 'total': ['--ring', 'mpsc', '--order', 'total'],
             'pooled': ['--pool', '64K:4']}
    for name, args in forms.items():
        t.ok('create', name, *args)
        t.ok('send', name, data=b'x' * 30000)
    ended = t.ok('check')
    lines = ended.out.decode().splitlines()
    assert len(lines) == 4 and all(': sound; ' in line for line in lines), lines
    rings = {ring['name']: ring for ring in t.ok('check', '-J').json()['rings']}
    assert set(rings) == set(forms)
    for ring in rings.values():
        assert ring['sound'] and ring['error'] is None and not ring['findings'], ring
        assert ring['committed'] == ring['records'] + ring['released'] > 0, ring
    assert rings['pooled']['blocks'] == 4, rings
    assert t.ok('check', 'l*', '-q').out == b''
    t.ok('rm', '-q', '*')
    t.check_nothing_left()


def case_check_tells_of_the_dead_and_changes_nothing(t):
    sender = start_sender(t, 'x', data=b'some bytes')
    kill(sender)
    before = contents(t.path('x'))
    ended = t.run('check', 'x')
    text = ended.out.decode()
    assert ended.code == 4 and 'pending   I5' in text and str(sender.pid) in text, ended
    assert 'fix: nothing' in text, text
    assert t.run('check', 'x', '-J').json()['exit'] == 4
    assert contents(t.path('x')) == before
    t.ok('rm', '-q', 'x')
    t.check_nothing_left()


def case_check_finds_a_broken_promise(t):
    t.ok('create', 'x')
    t.ok('send', 'x', data=b'some bytes')
    write_pos = t.stat('x')['write_pos']
    path, bytes_before = t.path('x'), contents(t.path('x'))
    at = [i for i in range(0x1000, 0x5000, 8)
          if bytes_before[i:i + 8] == struct.pack('<Q', write_pos)]
    assert at, 'no word has the told position'
    patch(path, at[-1], write_pos + 4096)
    damaged = contents(path)
    ended = t.run('check', 'x')
    text = ended.out.decode()
    assert ended.code == 6 and 'violation' in text and 'fix: keep a copy' in text, ended
    ring = t.run('check', 'x', '--json').json()['rings'][0]
    assert ring['sound'] is False and ring['findings'][0]['rule'] in ('I1', 'R1', 'R4', 'I8'), ring
    assert contents(path) == damaged
    t.ok('rm', '-f', '-q', 'x')
    t.check_nothing_left()


def case_check_finds_areas_that_are_not_of_one_lane(t):
    t.ok('create', 'x')
    patch(t.path('x'), 0x1000, 0)  # the magic of the consumer's area
    before = contents(t.path('x'))
    ended = t.run('check', 'x')
    assert ended.code == 6 and b'violation format' in ended.out, ended
    assert b'nothing to collect' in t.ok('gc', 'x', '--apply', '--unread').out
    assert contents(t.path('x')) == before
    t.ok('rm', '-f', '-q', 'x')
    t.check_nothing_left()


def case_check_and_gc_refuse_what_is_no_ring_and_leave_it_alone(t):
    for command in (['check'], ['gc'], ['gc', '--apply']):
        t.check_error(t.run(*command, 'nothing'), 2, 'not_found', 'nothing')
        t.check_error(t.run(*command, 'no*'), 2, 'not_found')
        t.check_error(t.run(*command, 'a/b'), 1, 'invalid_argument', '200')
        t.check_error(t.run(*command, 'sysv:zzz'), 1, 'invalid_argument')
    foreign = t.path('foreign')
    with open(foreign, 'wb') as file:
        file.write(b'not ours' * 1024)
    os.mkfifo(t.path('fifo'))
    os.symlink(foreign, t.path('link'))
    os.mkdir(t.path('dir'))
    for command in (['check'], ['gc'], ['gc', '--apply'], ['rm'], ['rm', '-f']):
        for name in ('foreign', 'fifo', 'link', 'dir'):
            t.check_error(t.run(*command, name), 6, 'bad_format', name)
    assert contents(foreign) == b'not ours' * 1024
    t.ok('check')
    t.ok('gc', '--apply')
    for name in ('foreign', 'fifo', 'link', 'dir'):
        assert os.path.lexists(t.path(name)), name
    os.unlink(foreign)
    os.unlink(t.path('fifo'))
    os.unlink(t.path('link'))
    os.rmdir(t.path('dir'))
    t.check_nothing_left()


def case_check_and_gc_say_what_is_wrong_with_what_they_cannot_read(t):
    for kind, path in (('posix', t.path('x')), ('file', t.files + '/x.ring')):
        for damage in ('version', 'truncated', 'header'):
            t.ok('create', 'x', '--kind', kind)
            if damage == 'version':
                patch(path, VERSION_AT, 99)
            elif damage == 'truncated':
                os.truncate(path, 4096)
            else:
                patch(path, 0x58, 12345)
            before = contents(path)
            code = 'bad_format'
            t.check_error(t.run('check', 'x'), 6, code, 'x')
            ring = t.run('check', 'x', '-J').json()['rings'][0]
            assert ring['sound'] is None and ring['error']['code'] == code, ring
            for args in ([], ['--apply'], ['--apply', '--unread']):
                ended = t.ok('gc', 'x', *args)
                assert b'KEEP' in ended.out and b'rm -f' in ended.out, ended
            assert contents(path) == before, damage
            t.ok('rm', '-f', '-q', 'x')
            t.check_nothing_left()


def case_check_survives_a_file_that_is_cut_under_it(t):
    t.ok('create', 'x', '--ring', 'mpsc', '--senders', '64', '--capacity', '64K')
    size = os.path.getsize(t.path('x'))
    whole = contents(t.path('x'))
    stop = threading.Event()

    def cut():
        while not stop.is_set():
            with open(t.path('x'), 'r+b') as file:
                file.truncate(8192)
                file.truncate(size)
                file.write(whole)
    thread = threading.Thread(target=cut)
    thread.start()
    codes = set()
    try:
        for _ in range(60):
            ended = t.run('check', 'x')
            codes.add(ended.code)
            assert ended.code in (0, 6) and (ended.code == 0 or ended.out or ended.err), ended
            ended = t.run('gc', 'x')
            assert ended.code in (0, 6), ended
    finally:
        stop.set()
        thread.join()
    assert 6 in codes, 'never met the cut file'
    t.ok('rm', '-f', '-q', 'x')


def case_check_has_no_findings_while_records_flow(t):
    for args in ([], ['--ring', 'mpsc'], ['--ring', 'mpsc', '--order', 'total']):
        receiver = t.start('recv', 'x', *args, stdout=subprocess.DEVNULL)
        t.wait_attached('x', 'consumer')
        senders = [t.start('send', 'x', '--record', '200', *args, stdin=subprocess.PIPE)
                   for _ in range(2 if args else 1)]
        for sender in senders:
            t.feed(sender, b'r' * 3_000_000)
        t.wait_attached('x', 'producer')
        for _ in range(15):
            ended = t.run('check', 'x', '-J')
            if ended.code == 2:
                break  # all was sent
            ring = ended.json()['rings'][0]
            assert ended.code == 0 and ring['findings'] == [], ended
        for sender in senders:
            assert t.end(sender).code == 0
        assert t.end(receiver).code == 0
    t.check_nothing_left()


def case_gc_removes_orphans_only_on_proof_and_only_when_told(t):
    killed = start_sender(t, 'killed')
    stopped = start_sender(t, 'stopped')
    unread = start_sender(t, 'unread', data=b'some bytes')
    living = start_sender(t, 'living')
    t.ok('create', 'made')
    kept = start_sender(t, 'made')
    kill(killed)
    kill(unread)
    kill(kept)
    stopped.send_signal(signal.SIGSTOP)
    before = {name: contents(t.path(name)) for name in ('killed', 'unread', 'made')}
    for _ in range(2):  # looking changes nothing
        ended = t.run('gc', '-J', '-v')
        assert ended.code == 4, ended
        found = items(ended)
        assert found['killed']['action'] == 'remove' and found['killed']['fate'] == 'orphan', found
        assert found['killed']['dead'][0]['pid'] == killed.pid, found
        assert found['unread']['action'] == 'keep' and found['unread']['fate'] == 'unread', found
        assert found['made']['action'] == 'keep' and found['made']['fate'] == 'stays', found
        for name in ('stopped', 'living'):
            assert found[name]['action'] == 'keep' and found[name]['fate'] == 'used', found
        assert {name: contents(t.path(name)) for name in before} == before
    text = t.run('gc').out.decode()
    assert 'WOULD REMOVE killed' in text and 'slipring gc --apply' in text, text
    assert f'slipring({killed.pid}) proved dead' in text, text
    text = t.ok('gc', '--apply').out.decode()
    assert 'REMOVED  killed' in text, text
    assert not os.path.exists(t.path('killed'))
    assert b'nothing to collect' in t.ok('gc').out
    assert t.ok('recv', 'unread', '-c', '1').out == b'some bytes'
    stopped.send_signal(signal.SIGCONT)
    for sender in (stopped, living):
        sender.stdin.close()
        sender.stdin = None
        assert t.end(sender).code == 0
    t.ok('rm', '-q', 'made')
    t.ok('gc', '--apply')
    t.check_nothing_left()


def case_gc_removes_unread_orphans_only_when_asked(t):
    sender = start_sender(t, 'x', data=b'some bytes')
    kill(sender)
    assert b'KEEP' in t.ok('gc', 'x', '--apply').out
    assert t.run('gc', 'x', '--unread').code == 4
    assert b'REMOVED' in t.ok('gc', 'x', '--unread', '--apply').out
    t.ok('gc', '--apply')
    t.check_nothing_left()


def case_gc_minds_how_old_things_are(t):
    sender = start_sender(t, 'x')
    kill(sender)
    assert 'x' not in items(t.run('gc', '-J', '--older-than', '1h'))
    assert 'x' in items(t.run('gc', '-J', '--older-than', '0'))
    t.check_error(t.run('gc', '--older-than', 'old'), 1, 'invalid_argument', 'old')
    t.ok('gc', '--apply')
    t.check_nothing_left()


def case_gc_skips_what_the_dead_claimed_for_those_who_wait(t):
    t.ok('create', 'x', '--ring', 'mpsc', '--order', 'total')
    peer, said = start_peer(t, 'claim', 'x')
    assert said == 'claimed'
    t.ok('send', 'x', data=b'behind it')
    assert t.stat('x')['blocked_by'] is not None
    assert b'nothing to collect' in t.ok('gc', 'x').out  # it lives
    kill(peer)
    ended = t.run('gc', 'x')
    assert ended.code == 4 and b'WOULD REPAIR' in ended.out, ended
    assert t.stat('x')['blocked_by'] is not None
    assert b'REPAIRED' in t.ok('gc', 'x', '--apply').out
    assert t.stat('x')['blocked_by'] is None
    assert b'nothing to collect' in t.ok('gc', 'x').out
    assert t.run('recv', 'x', '-c', '1').out == b'behind it'
    t.ok('rm', '-q', 'x')
    t.check_nothing_left()


def case_gc_sees_nothing_of_a_segment_that_is_being_made(t):
    for kind in ('posix', 'sysv', 'file'):
        peer, said = start_peer(t, 'draft', kind)
        assert said == 'drafted'
        before = t.left()
        for command in (['check'], ['gc'], ['gc', '--apply']):
            assert t.run(*command).code == 0
        assert len(t.left()) == len(before)
        if kind == 'sysv':
            number = before[0].split()[4]  # "System V segment: key shmid .."
            t.check_error(t.run('check', f'sysv-id:{number}'), 6, 'bad_format')
            t.check_error(t.run('gc', f'sysv-id:{number}', '--apply'), 6, 'bad_format')
            assert len(t.left()) == 1
        kill(peer)
        if kind == 'sysv':
            # The kernel keeps its memory: its header says who began it.
            found = items(t.run('gc', '-J'))
            assert found[f'sysv id {number}']['fate'] == 'wreck', found
            assert b'was killed while it made it' in t.ok('gc', '--apply').out
        t.check_nothing_left()


def case_gc_takes_away_the_names_of_segments_that_are_gone(t):
    t.ok('create', 'x', '--kind', 'sysv')
    number = t.run('stat', 'x', '-J').json()['channels'][0]['sysv_id']
    subprocess.run(['ipcrm', '-m', str(number)], check=True)
    ended = t.run('gc')
    assert ended.code == 4 and b'WOULD REMOVE x' in ended.out, ended
    t.ok('gc', '--apply')
    t.check_nothing_left()


def case_gc_beside_users_who_come_and_go_takes_nothing_from_them(t):
    stop = threading.Event()
    failures = []

    def collect():
        while not stop.is_set():
            ended = subprocess.run([t.tool, 'gc', '--apply', '-q'], env=t.env,
                                   capture_output=True, check=False)
            if ended.returncode not in (0, 2):
                failures.append(ended)
    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for turn in range(8):
            receiver = t.start('recv', 'x')
            sender = t.run('send', 'x', '--record', '1K', data=b'%d' % turn * 20000)
            assert sender.code == 0, sender
            received = t.end(receiver)
            assert received.code == 0 and received.out == b'%d' % turn * 20000, received.err
    finally:
        stop.set()
        thread.join()
    assert not failures, failures[:3]
    t.ok('gc', '--apply')
    t.check_nothing_left()


def case_rm_says_by_whom_a_ring_is_used_while_it_is_being_made_or_left(t):
    sender = start_sender(t, 'x')
    before = contents(t.path('x'))
    t.check_error(t.run('rm', 'x'), 4, 'in_use', f'slipring({sender.pid})')
    assert contents(t.path('x')) == before
    sender.send_signal(signal.SIGSTOP)
    t.check_error(t.run('rm', 'x'), 4, 'in_use', f'slipring({sender.pid})')
    sender.send_signal(signal.SIGCONT)
    kill(sender)
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_rm_and_gc_leave_a_ring_to_whoever_has_only_a_block_of_it(t):
    t.ok('create', 'x', '--pool', '4K:4')
    peer, said = start_peer(t, 'block', 'x')
    assert said == 'claimed'
    t.check_error(t.run('rm', 'x'), 4, 'in_use', f'ring_peer({peer.pid})')
    found = items(t.ok('gc', 'x', '-J'))['x']
    assert found['fate'] == 'used' and found['living'][0]['part'] == 'participant', found
    assert t.stat('x')['pool']['classes'][0]['claimed'] == 1
    kill(peer)
    assert b'REPAIRED' in t.ok('gc', 'x', '--apply').out
    assert t.stat('x')['pool']['classes'][0]['free'] == 4
    assert b'nothing to collect' in t.ok('gc', 'x').out
    t.ok('rm', '-q', 'x')
    t.check_nothing_left()


def case_stress_refuses_what_makes_no_sense(t):
    for args, words in ((['--seed', 'x'], ['--seed 7']), (['--seed', '-1'], ['number']),
                        (['--procs', '1'], ['from 2 to 64']), (['--procs', '65'], ['from 2']),
                        (['--kill', 'often'], ['per second']), (['--kill', '-5'], ['per second']),
                        (['--kill', '1e9'], ['at most 10000']), (['--kill', 'nan'], ['per second']),
                        (['--secs', '0'], ['1ms to 240h']), (['--secs', 'x'], ['1ms']),
                        (['--round', '-1s'], ['1ms']), (['--kind', 'pipe'], ['posix, sysv']),
                        (['--ring', 'x'], ['mpsc']), (['--order', 'total'], ['--ring mpsc']),
                        (['--capacity', '3K'], ['4K']), (['--evidence', '/no/such'], ['directory'])):
        t.check_error(t.run('stress', '--secs', '1', *args) if args[0] != '--secs'
                      else t.run('stress', *args), 1, 'invalid_argument', *words)
    t.check_error(t.run('stress', '--schedule', '/no/such'), 2, 'not_found', '--save-schedule')
    path = os.path.join(t.home, 'schedule')
    for text in ('', 'x\n', '5 kill 1\n7 pause 1\n'):
        with open(path, 'w') as file:
            file.write(text)
        t.check_error(t.run('stress', '--schedule', path), 1, 'invalid_argument', path)
    t.check_error(t.run('stress', '--secs', '1', '--kill', '99', '--save-schedule', '/dev/full'), 9, '', '/dev/full')
    t.check_nothing_left()


def case_stress_repeats_a_schedule_and_leaves_nothing(t):
    path = os.path.join(t.home, 'schedule')
    args = ['--secs', '1', '--round', '300ms', '--procs', '4', '-J']
    ended = t.ok('stress', '--seed', '5', '--kill', '40', '--pause', '--fork', '--unlink',
                 '--save-schedule', path, *args)
    first = ended.json()
    assert first['exit'] == 0 and first['violations'] == [] and first['seed'] == 5, first
    assert first['kills'] > 0 and first['messages'] > 1000 and first['left'] == 0, first
    with open(path) as file:
        faults = [line.split()[1] for line in file]
    assert set(faults) <= {'kill', 'pause', 'fork', 'unlink'} and faults.count('kill') > 20, faults
    again = t.ok('stress', '--seed', '5', '--schedule', path, '--verify', *args).json()
    assert again['violations'] == [] and again['kills'] > 0, again
    ended = t.ok('stress', '--secs', '200ms', '--seed', '9', '--ring', 'mpsc', '--order', 'total')
    assert b'repeat it with: slipring stress --seed 9' in ended.err, ended
    assert b'stress: seed 9, ' in ended.out and b'lost 0' in ended.out, ended
    t.check_nothing_left()


def case_stress_ends_in_order_when_it_is_interrupted(t):
    child = t.start('stress', '--secs', '60', '--kill', '20', '--kind', 'posix')
    t.wait_until(lambda: os.listdir(t.shm), 'a ring')
    child.send_signal(signal.SIGINT)
    ended = t.end(child)
    assert ended.code == 130 and b'lost 0' in ended.out, ended
    t.check_nothing_left()


def case_gives_check_and_gc_as_json(t):
    t.ok('create', 'x')
    checked = json.loads(t.ok('check', '--json').out)['slipring']
    assert (checked['schema'], checked['command'], checked['exit']) == (1, 'check', 0), checked
    collected = json.loads(t.ok('gc', '--json').out)['slipring']
    assert collected['applied'] is False and collected['items'][0]['action'] == 'keep', collected
    error = t.run('check', 'nope', '--json').json()['error']
    assert error['code'] == 'not_found' and error['fix'], error
    t.ok('rm', '-q', 'x')
    t.check_nothing_left()


main(globals())
