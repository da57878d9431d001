#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rings of many senders: in both orders, killed, stopped, too many; who is shown, what is left."""
import json
import os
import signal
import subprocess

from harness import Skip, main

ORDERS = ('producer', 'total')
MANY = {order: ['--ring', 'mpsc', '--order', order] for order in ORDERS}


def start_peer(t, *args):
    """Another program (ring_peer.cc); returns it and the line that it says when it is there."""
    peer = os.environ.get('SLIPRING_RING_PEER')
    if not peer:
        raise Skip('no ring peer was built')
    child = subprocess.Popen([peer, *args], env=t.env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    t.started.append(child)
    t.pids.add(child.pid)
    return child, child.stdout.readline().decode().strip()


def start_sender(t, name, *args):
    """A sender that waits for its input, attached."""
    sender = t.start('send', name, *args, stdin=subprocess.PIPE)

    def attached():
        ended = t.run('stat', name, '--json')
        return ended.code == 0 and sender.pid in living(ended.json()['channels'][0])
    t.wait_until(attached, f'sender {sender.pid} at {name}')
    return sender


def living(channel):
    return [sender['end']['pid'] for sender in channel['senders']
            if sender['end']['state'] == 'alive']


def say(sender, text):
    sender.stdin.write(text)
    sender.stdin.flush()


def finish(sender):
    sender.stdin.close()
    sender.stdin = None


def numbered(sender, count):
    return b''.join(b'%d:%d\n' % (sender, number) for number in range(count))


def check_order_of_each(out, senders, count):
    lines = out.splitlines()
    assert len(lines) == senders * count, len(lines)
    for sender in range(senders):
        mine = [line for line in lines if line.startswith(b'%d:' % sender)]
        assert b'\n'.join(mine) + b'\n' == numbered(sender, count), sender


def case_carries_what_several_senders_send_whoever_comes_first(t):
    """Lanes and a small ring: 600 KB go through 12 or 4 KB, so that everybody waits for room."""
    for order in ORDERS:
        for kind in ('posix', 'sysv', 'file'):
            for first in ('recv', 'send'):
                args = MANY[order] + ['--kind', kind, '--capacity', '4K', '--senders', '3']
                receiver = None
                if first == 'recv':
                    receiver = t.start('recv', 'x', '--lines', '--linger', '2s', *args)
                    t.wait_attached('x', 'consumer')
                    out = t.drain(receiver)
                senders = [t.start('send', 'x', '--lines', *args, stdin=subprocess.PIPE)
                           for _ in range(3)]
                for index, sender in enumerate(senders):
                    t.feed(sender, numbered(index, 25000))
                if first == 'send':
                    t.wait_until(lambda: t.run('stat', 'x').code == 0 and
                                 len(living(t.stat('x'))) == 3, 'three senders')
                    receiver = t.start('recv', 'x', '--lines', '--linger', '2s', *args)
                    out = t.drain(receiver)
                ended = [t.end(sender) for sender in senders]
                assert [(e.code, e.err) for e in ended] == [(0, b'')] * 3, (order, first, ended)
                # It waits for others still; told to stop it goes at once.
                t.wait_until(lambda: t.stat('x')['backlog_bytes'] == 0, 'an empty ring')
                receiver.send_signal(signal.SIGTERM)
                assert receiver.wait(10) == 143 and receiver.stderr.read() == b''
                check_order_of_each(out(), 3, 25000)
                t.check_nothing_left()


def case_keeps_one_order_for_all_when_asked_to(t):
    t.ok('create', 'x', *MANY['total'], '-q')
    senders = [start_sender(t, 'x') for _ in range(3)]
    words = [b'w%d ' % number for number in range(30)]
    for number, word in enumerate(words):
        say(senders[number * 7 % 3], word)
        t.wait_until(lambda n=number: t.stat('x')['messages_in'] == n + 1, f'message {number}')
    for sender in senders:
        finish(sender)
        assert t.end(sender).code == 0
    assert t.ok('recv', 'x', '--linger', '0').out == b''.join(words)
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_goes_on_when_one_of_the_senders_is_killed(t):
    for order in ORDERS:
        receiver = t.start('recv', 'x', *MANY[order])
        t.wait_attached('x', 'consumer')
        first, second = start_sender(t, 'x'), start_sender(t, 'x')
        say(first, b'one ')
        assert os.read(receiver.stdout.fileno(), 100) == b'one '
        first.kill()
        first.wait()
        note = receiver.stderr.readline().decode()
        assert f'sender slipring({first.pid}) died' in note and 'died;' in note, note
        channel = t.stat('x')
        assert channel['deaths'] == 1 and living(channel) == [second.pid], channel
        assert channel['state'] == 'ok', channel
        say(second, b'two ')
        assert os.read(receiver.stdout.fileno(), 100) == b'two '
        third = start_sender(t, 'x')  # the place of the dead is free
        say(third, b'three')
        finish(third)
        finish(second)
        ended = t.end(receiver)
        t.check_error(ended, 7, 'peer_dead', '1 sender died', f'slipring({first.pid})', '13 bytes')
        assert ended.out == b'three', ended
        assert t.end(second).code == 0 and t.end(third).code == 0
        t.check_nothing_left()


def case_names_all_that_died(t):
    receiver = t.start('recv', 'x', '-J', *MANY['producer'])
    t.wait_attached('x', 'consumer')
    senders = [start_sender(t, 'x') for _ in range(6)]
    for sender in senders:
        say(sender, b'x' * 10)
    t.wait_until(lambda: t.stat('x')['messages_out'] == 6, 'six messages')
    for sender in senders:
        sender.kill()
    ended = t.end(receiver)
    summary, error = [json.loads(line)['slipring'] for line in ended.err.splitlines()]
    assert ended.code == 7 and ended.out == b'x' * 60, ended
    assert (summary['died'], summary['lost'], summary['records']) == (6, 0, 6), summary
    assert '6 senders died' in error['error']['what'] and '2 more' in error['error']['what'], error
    t.check_nothing_left()


def case_lets_a_stopped_sender_delay_nobody(t):
    for order in ORDERS:
        receiver = t.start('recv', 'x', *MANY[order])
        t.wait_attached('x', 'consumer')
        stopped, other = start_sender(t, 'x'), start_sender(t, 'x')
        stopped.send_signal(signal.SIGSTOP)
        t.wait_until(lambda: t.stat('x')['state'] == 'stopped', 'a stopped sender')
        for word in (b'a', b'b', b'c'):
            say(other, word)
            assert os.read(receiver.stdout.fileno(), 100) == word
        text = t.ok('stat', 'x').out.decode()
        assert f'kill -CONT {stopped.pid}' in text and 'blocked' not in text, text
        assert f'slipring({stopped.pid}):stopped +1' in t.ok('ls', 'x').out.decode()
        stopped.send_signal(signal.SIGCONT)
        for sender in (stopped, other):
            finish(sender)
            assert t.end(sender).code == 0
        assert t.end(receiver).code == 0
        t.check_nothing_left()


def case_holds_up_nobody_while_it_waits_for_its_input(t):
    """In one order for all, a claim that is open would: half a message has come by pipe."""
    for cut in (['--message-size', '1000'], ['--message-size', '1M'], ['--whole']):
        receiver = t.start('recv', 'x', *MANY['total'])
        t.wait_attached('x', 'consumer')
        slow = start_sender(t, 'x', *cut)
        say(slow, b'half')
        other = start_sender(t, 'x')
        say(other, b'quick')
        assert os.read(receiver.stdout.fileno(), 100) == b'quick', cut
        assert t.stat('x')['blocked_by'] is None
        finish(slow)
        assert t.end(slow).code == 0
        finish(other)
        assert t.end(receiver).out == b'half' and t.end(other).code == 0
        t.check_nothing_left()


def case_names_the_stopped_sender_whose_open_claim_all_wait_for(t):
    t.ok('create', 'x', *MANY['total'], '-q')
    receiver = t.start('recv', 'x')
    t.wait_attached('x', 'consumer')
    peer, word = start_peer(t, 'claim', 'x')
    assert word == 'claimed'
    sender = start_sender(t, 'x')
    say(sender, b'behind it')
    t.wait_until(lambda: t.stat('x')['messages_in'] == 1, 'a message')
    peer.send_signal(signal.SIGSTOP)
    t.wait_until(lambda: t.stat('x')['state'] == 'stopped', 'a stopped peer')
    channel = t.stat('x')
    index = channel['blocked_by']['sender']
    owner = [s for s in channel['senders'] if s['index'] == index][0]
    assert owner['end']['pid'] == peer.pid and owner['end']['stopped'], channel
    text = t.ok('stat', 'x').out.decode()
    assert f'by the open claim of ring_peer({peer.pid})' in text, text
    assert f'all wait for the open claim of ring_peer({peer.pid}): kill -CONT {peer.pid}' in text
    # Its death resolves it, even in the middle.
    peer.kill()
    assert os.read(receiver.stdout.fileno(), 100) == b'behind it'
    finish(sender)
    assert t.end(sender).code == 0
    t.check_error_end(t.end(receiver), 7, 'peer_dead', f'ring_peer({peer.pid})')
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_says_who_holds_the_places_when_all_are_taken(t):
    for order in ORDERS:
        t.ok('create', 'x', *MANY[order], '--senders', '2', '-q')
        senders = [start_sender(t, 'x') for _ in range(2)]
        ended = t.run('send', 'x', data=b'too many')
        t.check_error(ended, 4, 'in_use', 'all 2 places', '--senders 8',
                      *(f'slipring({sender.pid})' for sender in senders))
        assert t.ok('ls', 'x', '-nr', '-o', 'SENDERS').out == b'2/2\n'
        ended = t.run('rm', 'x')
        t.check_error(ended, 4, 'in_use', *(f'slipring({sender.pid})' for sender in senders),
                      'stop them')
        senders[0].kill()
        senders[0].wait()
        # Nobody receives, so nobody has cleared it: the newcomer takes the place all the same.
        t.ok('send', 'x', data=b'it fits')
        finish(senders[1])
        assert t.end(senders[1]).code == 0
        assert t.run('recv', 'x', '--linger', '0').out == b'it fits'
        t.ok('rm', 'x')
        t.check_nothing_left()


def case_takes_one_receiver_at_a_time(t):
    receiver = t.start('recv', 'x', *MANY['producer'])
    t.wait_attached('x', 'consumer')
    t.check_error(t.run('recv', 'x'), 4, 'in_use', f'slipring({receiver.pid}) receives already',
                  'one receiver at a time')
    receiver.send_signal(signal.SIGTERM)
    assert t.end(receiver).code == 143
    sender = start_sender(t, 'x')
    t.check_error(t.run('send', 'x', '--ring', 'mpsc', data=b'y'), 4, 'in_use',
                  f'slipring({sender.pid}) sends already', 'slipring create NEW --ring mpsc')
    finish(sender)
    assert t.end(sender).code == 0
    t.check_nothing_left()


def case_shows_what_a_sender_that_left_has_left_unread(t):
    holder = start_sender(t, 'x', *MANY['producer'])
    t.ok('send', 'x', data=b'x' * 5000)
    text = t.ok('stat', 'x').out.decode()
    assert '1 of 64 places taken' in text and 'slipring left in order; sent 1, backlog 4.9K' in text, text
    finish(holder)
    assert t.end(holder).code == 0
    assert t.ok('recv', 'x', '--linger', '0').out == b'x' * 5000
    t.check_nothing_left()


def case_says_which_options_an_existing_ring_does_not_take(t):
    t.ok('create', 'x', '--ring', 'mpsc', '--senders', '8', '--pool', '64K:2', '-q')
    args = ['--kind', 'file', '--order', 'total', '--senders', '9', '--capacity', '4K', '--pool',
            '64K:3', '--ring', 'mpsc']
    ended = t.ok('send', 'x', *args, data=b'')
    assert ended.text() == ('slipring: x exists as posix 8 lanes of 64K with 2 blocks of 64K; not '
                            'used: --order total --senders 9 --capacity 4K --pool 64K:3 --kind '
                            'file\n'), ended
    same = ['--ring', 'mpsc', '--order', 'producer', '--senders', '8', '--pool', '64K:2', '--kind',
            'posix', '--capacity', '64K']
    assert t.ok('send', 'x', *same, data=b'').err == b''
    assert t.ok('send', 'x', data=b'').err == b''
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_shows_ring_senders_pool_and_large_messages_in_columns(t):
    made = {'lane': [], 'mpsc': MANY['producer'] + ['--senders', '5'], 'total': MANY['total']}
    for name, args in made.items():
        out = t.ok('create', name, '--pool', '4K:3,64K:5', *args).out.decode()
        assert 'with 3 blocks of 4K and 5 blocks of 64K' in out, out
    t.ok('send', 'mpsc', '--message-size', '20K', data=b'x' * 40960)
    columns = ['-nr', '-o', 'NAME,RING,SENDERS,POOL,LARGE']
    rows = t.ok('ls', 'lane', 'mpsc', 'total', *columns).out.decode().splitlines()
    assert rows == ['lane lane 0/1 0/8 0', 'mpsc mpsc 0/5 2/8 0', 'total total 0/64 0/8 0'], rows
    listed = {c['name']: c for c in t.ok('ls', '-J').json()['channels'] if c['name'] in made}
    for name in made:
        shown = t.ok('stat', name, '-J').json()['channels'][0]
        assert list(shown) == list(listed[name]) and shown['ring'] == name, shown
    pool = listed['mpsc']['pool']
    assert [(c['block_bytes'], c['capacity'], c['free'], c['lent']) for c in pool['classes']] == [
        (4096, 3, 3, 0), (65536, 5, 3, 2)], pool
    assert pool['whole'] and listed['mpsc']['senders'][0]['tiers']['blocks'] == 2, listed
    # Asked for twice, a column is shown once.
    heads = t.ok('ls', '-o', '+RING,POOL').out.decode().splitlines()[0].split()
    assert heads.count('RING') == 1 and heads[-1] == 'POOL', heads
    assert len(t.ok('recv', 'mpsc', '--linger', '0').out) == 40960
    assert t.stat('mpsc')['pool']['classes'][1]['free'] == 5
    t.ok('rm', '-q', *made)
    t.check_nothing_left()


def case_finds_rings_that_have_no_name(t):
    peer, name = start_peer(t, 'memfd')
    assert name.startswith(f'fd:{peer.pid}/'), name
    listed = [c for c in t.ok('ls', '-J').json()['channels'] if c['kind'] == 'memfd']
    mine = [c for c in listed if c['name'] == name][0]
    assert mine['where'] == '/proc/' + name[3:].replace('/', '/fd/') and mine['ring'] == 'mpsc'
    assert mine['attached'][0]['pid'] == peer.pid, mine
    assert mine['attached'][0]['part'] == 'producer', mine
    assert name.encode() in t.ok('ls').out
    text = t.ok('stat', name).out.decode()
    assert f'ring_peer({peer.pid})' in text and '4 lanes of 4K, memfd' in text, text
    # send and recv reach it by the same words.
    t.ok('send', name, data=b', from elsewhere')
    receiver = t.start('recv', name)
    t.wait_attached(name, 'consumer')
    got = b''
    while len(got) < 29:
        got += os.read(receiver.stdout.fileno(), 100)
    assert sorted([got[:13], got[13:]]) == [b', from elsewhere'[:13], got[13:]] or got in (
        b'from the peer, from elsewhere', b', from elsewherefrom the peer'), got
    t.check_error(t.run('rm', name), 1, 'invalid_argument', 'no name')
    t.check_error(t.run('stat', f'fd:{peer.pid}/999'), 2, 'not_found')
    t.check_error(t.run('stat', f'fd:{os.getpid()}/0'), 6, 'bad_format')
    t.check_error(t.run('stat', 'fd:0/1'), 1, 'invalid_argument')
    finish(peer)
    assert peer.wait(10) == 0 and t.end(receiver).code == 0
    assert name.encode() not in t.ok('ls', '-q').out
    t.check_nothing_left()


def case_clears_what_the_killed_left_in_the_registry(t):
    for clear in (['rm', 'x'], ['recv', 'x', '--linger', '0'], ['send', 'x', '/dev/null']):
        t.ok('create', 'x', *MANY['producer'], '-q')
        receiver = t.start('recv', 'x')
        t.wait_attached('x', 'consumer')
        senders = [start_sender(t, 'x') for _ in range(3)]
        attached = t.stat('x')['attached']
        assert sorted(entry['pid'] for entry in attached) == sorted(
            [receiver.pid] + [sender.pid for sender in senders]), attached
        for child in senders + [receiver]:
            child.kill()
        for child in senders + [receiver]:
            child.wait()
        assert {entry['holder'] for entry in t.stat('x')['attached']} == {'dead'}
        assert len(t.left()) == 2, t.left()  # the ring, and the registry that nobody alive uses
        t.run(*clear)
        assert [name for name in t.left() if 'registry' in name] == [], t.left()
        t.run('rm', '-q', 'x')
        t.check_nothing_left()


def case_removes_what_killed_sleepers_slept_on(t):
    def semaphores():
        with open('/proc/sysvipc/sem', encoding='ascii') as table:
            return len(table.readlines())
    before = semaphores()
    t.ok('create', 'x', '--bell', 'sysv_sem', '-q')
    receiver = t.start('recv', 'x')
    t.wait_until(lambda: t.stat('x')['consumer']['parked'], 'a parked receiver')
    assert semaphores() == before + 1
    receiver.kill()
    receiver.wait()
    t.ok('rm', 'x')
    assert semaphores() == before
    t.check_nothing_left()


def case_survives_senders_that_come_go_and_die_all_the_time(t):
    """Two of four are killed in each round, wherever they are; the others lose nothing."""
    for order in ORDERS:
        receiver = t.start('recv', 'x', '--lines', *MANY[order], '--capacity', '4K', '--senders', '5')
        t.wait_attached('x', 'consumer')
        out = t.drain(receiver)
        stays = start_sender(t, 'x')  # with nobody left, a death would be the end
        for round_number in range(4):
            senders = [t.start('send', 'x', '--lines', stdin=subprocess.PIPE) for _ in range(4)]
            for index, sender in enumerate(senders):
                t.feed(sender, numbered(4 * round_number + index, 4000))
            t.wait_until(lambda n=round_number: t.stat('x')['messages_in'] > 3000 * n, 'messages')
            for sender in senders[:2]:
                sender.kill()
            for sender in senders[2:]:
                ended = t.end(sender)
                assert ended.code == 0 and ended.err == b'', (order, ended)
            for sender in senders[:2]:
                sender.wait()
        finish(stays)
        assert t.end(stays).code == 0
        assert receiver.wait(20) in (0, 7), receiver.returncode
        lines = out().splitlines()
        for sender in range(16):
            mine = [line for line in lines if line.startswith(b'%d:' % sender)]
            whole = numbered(sender, 4000).splitlines()
            assert mine == (whole if sender % 4 >= 2 else whole[:len(mine)]), sender
        t.check_nothing_left()


main(globals())
