#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Messages of any size: by record, block and chunks, cut short at either end, and without room."""
import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import time

from harness import main

RINGS = {'lane': [], 'mpsc': ['--ring', 'mpsc'], 'total': ['--ring', 'mpsc', '--order', 'total']}
# In which a sender gets the place of the one before.
ONE_PLACE = {name: args + (['--senders', '1'] if args else []) for name, args in RINGS.items()}
MANY = {name: args for name, args in RINGS.items() if name != 'lane'}
MIB = 1 << 20


def some_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


def write_file(t, data, name='file'):
    path = os.path.join(t.home, name)
    with open(path, 'wb') as file:
        file.write(data)
    return path


def make_full(t, *args):
    """A ring of 64K with a pool of two blocks, and no room for as much as a byte."""
    t.ok('create', 'x', '--capacity', '64K', '--pool', '32K:2', '-q', *args)
    for record in ('1K', '1'):
        assert t.run('send', 'x', '--record', record, '--try', data=b'f' * MIB).code == 5


def counts(t, index=0):
    """What a sender counted about a full ring."""
    sender = t.stat('x')['senders'][index]
    return {key: sender['full'][key]
            for key in ('waits', 'timeouts', 'refused', 'stashed', 'dropped')}


def more(before, **by):
    return {key: value + by.get(key, 0) for key, value in before.items()}


def say(child, data):
    child.stdin.write(data)
    child.stdin.flush()


def half_of_a_message(t, ring, *args):
    """A receiver and a sender, 300 000 bytes into a message of unknown size."""
    receiver = t.start('recv', 'x', *args, *RINGS[ring])
    t.wait_attached('x', 'consumer')
    sender = t.start('send', 'x', '--whole', stdin=subprocess.PIPE)
    t.wait_attached('x', 'producer')
    out = t.drain(receiver)
    t.feed(sender, b'h' * 300000, close=False)
    t.wait_until(lambda: t.stat('x')['bytes_in'] >= 300000 and t.stat('x')['backlog_bytes'] == 0,
                 'half a message')
    return receiver, sender, out


def case_carries_every_size_around_records_blocks_and_rings(t):
    """A record takes 16K, a block 32K, the ring 64K."""
    data = some_bytes(210000)
    path = write_file(t, data)
    sizes = (7000, 8191, 8192, 16384, 16385, 32768, 32769, 65536, 65537, 209999, 210000, 300000)
    for ring, args in RINGS.items():
        for pool in ([], ['--pool', '32K:3,4K:2']):
            t.ok('create', 'x', '--capacity', '64K', '-q', *args, *pool)
            for size in sizes:
                for file in (path, '-'):
                    sender = t.start('send', 'x', file, '--message-size', str(size), '-J',
                                     stdin=subprocess.PIPE)
                    t.feed(sender, data if file == '-' else b'')
                    got = t.ok('recv', 'x', '--linger', '0', '-J')
                    sent, received = t.end(sender).json(), got.json()
                    what = (ring, pool, size, file)
                    assert got.out == data, what
                    assert sent['exit'] == received['lost'] == 0, (what, sent, received)
                    expected = -(-len(data) // size)
                    assert sent['records'] == received['records'] == expected, (what, sent, received)
            channel = t.stat('x')
            assert channel['large']['open'] == 0 and channel['backlog_bytes'] == 0, channel
            if pool:
                assert all(c['free'] == c['capacity'] for c in channel['pool']['classes']), channel
                assert sum(s['tiers']['blocks'] for s in channel['senders']) > 0, channel
            assert sum(s['tiers']['streams'] for s in channel['senders']) > 0, channel
            t.ok('rm', 'x')
            t.check_nothing_left()


def case_carries_all_of_an_input_as_one_message(t):
    for ring, args in RINGS.items():
        for data in (b'', b'small', some_bytes(2 * MIB)):
            path = write_file(t, data)
            for file in (path, '-'):
                receiver = t.start('recv', 'x', '-J', '--linger', '0', *args)
                t.wait_attached('x', 'consumer')
                sender = t.start('send', 'x', file, '--whole', '-J', stdin=subprocess.PIPE)
                t.feed(sender, data if file == '-' else b'')
                got, sent = t.end(receiver), t.end(sender).json()
                assert got.code == 0 and got.out == data, (ring, len(data), file)
                assert sent['records'] == 1 and sent['bytes'] == len(data), sent
                assert got.json()['records'] == 1, got
                t.check_nothing_left()


def case_ends_a_message_at_the_end_of_lines_and_counts(t):
    receiver = t.start('recv', 'x', '--lines', '-c', '2')
    t.wait_attached('x', 'consumer')
    sender = t.start('send', 'x', '--message-size', '100000', stdin=subprocess.PIPE)
    t.feed(sender, b'm' * 200000)
    assert t.end(receiver).out == (b'm' * 100000 + b'\n') * 2
    assert t.end(sender).code == 0
    t.check_nothing_left()


def case_sends_nothing_for_no_input_when_messages_have_a_size(t):
    """/dev/null cannot say that it is at its end, before it is read."""
    for source in ('/dev/null', '/proc/self/environ'):
        for cut in (['--message-size', '1M'], ['--message-size', '100'], []):
            env = {'SLIPRING_SHM_DIR': t.shm} if source != '/dev/null' else t.env
            ended = t.run('send', 'x', source, '-J', *cut, env=env)
            expected = 0 if source == '/dev/null' else len(f'SLIPRING_SHM_DIR={t.shm}') + 1
            assert ended.code == 0 and ended.json()['bytes'] == expected, (source, cut, ended)
            if expected:
                assert len(t.run('recv', 'x', '--linger', '0', env=env).out) == expected
            t.check_nothing_left()


def case_needs_little_memory_for_a_large_message(t):
    """200 MiB in one message: each process grows by less than 64 MiB."""
    path = os.path.join(t.home, 'large')
    whole = hashlib.sha256()
    with open(path, 'wb') as file:
        for _ in range(25):
            part = os.urandom(8 * MIB)
            file.write(part)
            whole.update(part)

    def peak(child):
        try:
            with open(f'/proc/{child.pid}/status', encoding='ascii') as status:
                found = re.search(r'VmHWM:\s+(\d+) kB', status.read())
        except ProcessLookupError:
            found = None
        return int(found.group(1)) << 10 if found else 0

    receiver = t.start('recv', 'x', '--linger', '0')
    t.wait_attached('x', 'consumer')
    idle = peak(receiver)
    assert idle > 0
    sender = t.start('send', 'x', path, '--whole')
    got, size, most = hashlib.sha256(), 0, {receiver: 0, sender: 0}
    while part := os.read(receiver.stdout.fileno(), MIB):
        got.update(part)
        size += len(part)
        for child in most:
            most[child] = max(most[child], peak(child))
    assert t.end(sender).code == 0 and t.end(receiver).code == 0
    assert size == 200 * MIB and got.digest() == whole.digest(), size
    for child, bytes_ in most.items():
        assert 0 < bytes_ < idle + 64 * MIB, (child.args, bytes_, idle)
    t.check_nothing_left()


def case_shows_how_much_of_a_known_size_has_come(t):
    """The receiver knows it from the message, and draws it on a terminal."""
    path = write_file(t, b'p' * (6 * MIB))
    primary, secondary = pty.openpty()
    receiver = t.start('recv', 'x', '--progress', stderr=secondary)
    os.close(secondary)
    sender = t.start('send', 'x', path, '--whole')
    shown = b''
    while part := os.read(receiver.stdout.fileno(), 1 << 18):
        time.sleep(0.01 if part else 0)
        if select.select([primary], [], [], 0)[0]:
            shown += os.read(primary, 65536)
    while select.select([primary], [], [], 0.2)[0]:
        try:
            shown += os.read(primary, 65536)
        except OSError:
            break
    os.close(primary)
    assert sender.wait(10) == 0 and receiver.wait(10) == 0
    shares = [int(share) for share in re.findall(r'(\d+) %', shown.decode())]
    assert len(shares) >= 2 and shares == sorted(shares) and 0 < shares[0] < 100, shown
    assert 'ETA' in shown.decode() and '6 291 456 bytes, 1 record, ' in shown.decode(), shown
    t.check_nothing_left()


def case_counts_no_time_before_and_behind_the_transfer(t):
    receiver = t.start('recv', 'x', '--linger', '500ms', '-J')
    t.wait_attached('x', 'consumer')
    time.sleep(0.3)
    t.ok('send', 'x', data=b'x' * 100000)
    assert 0 < t.end(receiver).json()['seconds'] < 0.5
    t.check_nothing_left()


def case_drops_what_is_larger_than_it_takes_and_goes_on(t):
    big, small = write_file(t, some_bytes(2 * MIB), 'big'), write_file(t, b'small', 'small')
    for ring, args in MANY.items():
        receiver = t.start('recv', 'x', '--message-size', '1M', *args)
        t.wait_attached('x', 'consumer')
        for path in (big, small, big):
            t.ok('send', 'x', path, '--whole')
        ended = t.end(receiver)
        assert ended.out == b'small', ring
        notes = ended.text().splitlines()[:-3]
        assert len(notes) == 2 and all('dropped: a message is larger' in line for line in notes)
        t.check_error_end(ended, 1, 'too_large', 'larger than 1M', '--message-size 4M',
                          '2 messages were lost in all')
        receiver = t.start('recv', 'x', '--message-size', '2M', '--linger', '0', *args)
        t.wait_attached('x', 'consumer')
        t.ok('send', 'x', big, '--whole')
        ended = t.end(receiver)
        assert ended.code == 0 and len(ended.out) == 2 * MIB, ended
        t.check_nothing_left()


def case_takes_large_messages_of_all_senders_at_once(t):
    """Together they are far beyond what one of them may have."""
    receiver = t.start('recv', 'x', '--message-size', '40M', '--linger', '1s', '--ring', 'mpsc')
    t.wait_attached('x', 'consumer')
    out = t.drain(receiver)
    senders = [t.start('send', 'x', '--whole', stdin=subprocess.PIPE) for _ in range(8)]
    for sender in senders:
        t.feed(sender, b'a' * (36 * MIB), close=False)
    t.wait_until(lambda: t.stat('x')['large']['open_bytes'] > 280 * MIB, 'much that is open')
    assert t.stat('x')['large']['open'] == 8
    assert t.ok('ls', 'x', '-nr', '-o', 'LARGE').out == b'8\n'
    for thread, stdin in t.feeders:
        thread.join()
        stdin.close()
    for sender in senders:
        assert sender.wait(20) == 0
    assert receiver.wait(20) == 0 and len(out()) == 8 * 36 * MIB
    t.check_nothing_left()


def case_says_when_a_sender_is_killed_in_the_middle_of_a_message(t):
    for ring in RINGS:
        receiver, sender, out = half_of_a_message(t, ring)
        sender.kill()
        assert receiver.wait(20) == 7
        text = receiver.stderr.read().decode()
        assert f'slipring({sender.pid}) died' in text and '(peer_dead)' in text, text
        if ring == 'lane':  # parts are passed on as they come
            assert out() == b'h' * 300000 and len(text.splitlines()) == 3, text
            assert 'died in the middle of a message, after 300 000 bytes in 0 records' in text
        else:
            assert out() == b'' and '1 message dropped: its sender ended in the middle' in text
            assert 'but 1 message that never became whole' in text, text
        t.check_nothing_left()


def case_says_when_a_sender_gives_a_message_up(t):
    for ring in RINGS:
        receiver, sender, out = half_of_a_message(t, ring, '-J')
        sender.send_signal(signal.SIGTERM)
        assert sender.wait(20) == 143 and receiver.wait(20) == 7
        summary, error = [json.loads(line)['slipring'] for line in receiver.stderr]
        assert error['error']['code'] == 'cancelled', error
        assert (summary['lost'], summary['died'], summary['records']) == (1, 0, 0), summary
        assert len(out()) == (300000 if ring == 'lane' else 0)
        t.check_nothing_left()


def case_says_when_a_sender_gives_up_with_no_room_to_say_so(t):
    """The receiver's output stands still, so that the ring is full when its sender ends."""
    receiver = t.start('recv', 'x')
    with open('/dev/zero', 'rb') as zero:
        sender = t.start('send', 'x', '--whole', stdin=zero)
        t.wait_until(lambda: t.run('stat', 'x').code == 0 and
                     t.stat('x')['producer']['parked'], 'a full ring')
        sender.send_signal(signal.SIGTERM)
        assert sender.wait(20) == 143
    ended = t.end(receiver)
    t.check_error(ended, 7, 'cancelled', f'{len(ended.out):,}'.replace(',', ' ') + ' bytes of it')
    t.check_nothing_left()


def case_drops_the_rest_when_a_receiver_ends_in_the_middle(t):
    data = some_bytes(3 * MIB)
    path = write_file(t, data)
    for ring, args in RINGS.items():
        receiver = t.start('recv', 'x', '--message-size', '1T', '-q', *args)
        t.wait_attached('x', 'consumer')
        with open('/dev/zero', 'rb') as zero:
            sender = t.start('send', 'x', '--whole', stdin=zero)
            t.wait_until(lambda: t.stat('x')['messages_out'] > 2, 'a beginning')
            receiver.kill()
            receiver.wait()
            ended = t.end(sender)
        t.check_error(ended, 7, 'peer_dead', 'drops what is there of it; then send it again')
        ended = t.run('recv', 'x', '--linger', '0')
        assert ended.out == b'', ring
        t.check_error_end(ended, 7, 'cancelled', 'the beginning of a message is not there')
        t.check_nothing_left()
        # It is over with that.
        receiver = t.start('recv', 'x', '--linger', '0', *args)
        t.wait_attached('x', 'consumer')
        sender = t.start('send', 'x', path, '--whole')
        assert t.end(receiver).out == data and t.end(sender).code == 0
        t.check_nothing_left()


def case_ends_soon_while_chunks_keep_coming(t):
    for ring, args in MANY.items():
        receiver = t.start('recv', 'x', '--message-size', '1G', *args)
        t.wait_attached('x', 'consumer')
        with open('/dev/zero', 'rb') as zero:
            sender = t.start('send', 'x', '--whole', stdin=zero)
            t.wait_until(lambda: t.stat('x')['large']['open_bytes'] > MIB, 'chunks')
            receiver.send_signal(signal.SIGTERM)
            ended = t.end(receiver)
            assert ended.code == 143 and ended.err == b'' and ended.out == b'', (ring, ended)
            t.check_error(t.end(sender), 7, 'closed', 'sent so far')
        assert t.run('recv', 'x', '--linger', '0').code == 7
        t.check_nothing_left()


def case_without_room_waits_so_long_or_refuses(t):
    for args in ONE_PLACE.values():
        make_full(t, *args)
        before = counts(t)
        assert (before['refused'], before['waits']) == (2, 0), before
        for cut in (['--record', '1K'], ['--message-size', '32K'], ['--whole'], ['--lines']):
            # Each by its own sender, in the place of the one before.
            for flags in (['--full', 'wait:60ms'], ['--timeout', '60ms']):
                ended = t.run('send', 'x', *cut, *flags, data=b'x' * 900)
                t.check_error(ended, 5, 'timed_out', 'nobody receives', 'slipring recv x')
                before = more(before, waits=1, timeouts=1)
                assert counts(t) == before, (cut, counts(t), before)
            for flags in (['--full', 'refuse'], ['--try']):
                ended = t.run('send', 'x', *cut, *flags, data=b'x' * 900)
                t.check_error(ended, 5, 'full', 'nobody receives', '--full wait')
                before = more(before, refused=1)
                assert counts(t) == before, (cut, counts(t), before)
        t.ok('rm', '-q', 'x')
        t.check_nothing_left()


def case_waits_for_room_by_default(t):
    for ring, args in ONE_PLACE.items():
        make_full(t, *args)
        full = t.stat('x')['bytes_in']
        sender = t.start('send', 'x', '--full', 'wait', '-J', stdin=subprocess.PIPE)
        t.feed(sender, b'late')
        t.wait_until(lambda: counts(t)['waits'] == 1, 'a sender that waits')
        time.sleep(0.2)  # longer than it waits in one go; it is one wait all the same
        assert counts(t)['waits'] == 1
        assert t.ok('recv', 'x', '--linger', '0').out == b'f' * full + b'late', ring
        assert t.end(sender).json()['exit'] == 0
        t.ok('rm', 'x')
        t.check_nothing_left()


def case_puts_by_what_finds_no_room_and_sends_it_later(t):
    data = (b'put by ' * 100 + b'\n') * 60
    for ring, args in ONE_PLACE.items():
        for cut in (['--record', '1K'], ['--lines'], ['--message-size', '20K']):
            make_full(t, *args)
            full = t.stat('x')['bytes_in']
            sender = t.start('send', 'x', *cut, '--full', 'stash:100K', '-J',
                             stdin=subprocess.PIPE)
            t.feed(sender, data)
            t.wait_until(lambda: counts(t)['waits'] == 1, 'the end of the input')
            stashed = counts(t)['stashed']
            assert stashed >= 1 and counts(t)['dropped'] == 0, counts(t)
            expected = data if cut[0] != '--lines' else data.replace(b'\n', b'')
            assert t.ok('recv', 'x', '--linger', '0').out == b'f' * full + expected, (ring, cut)
            sent = t.end(sender).json()
            assert (sent['bytes'], sent['dropped'], sent['exit']) == (len(expected), 0, 0), sent
            assert all(c['free'] == c['capacity'] for c in t.stat('x')['pool']['classes'])
            t.ok('rm', 'x')
            t.check_nothing_left()


def case_says_what_it_had_put_by_and_lost(t):
    make_full(t)
    sender = t.start('send', 'x', '--record', '1K', '--full', 'stash:1M', stdin=subprocess.PIPE)
    t.feed(sender, b'p' * 10240)
    t.wait_until(lambda: counts(t)['waits'] == 1, 'the end of the input')
    sender.send_signal(signal.SIGTERM)
    ended = t.end(sender)
    assert ended.code == 143 and ended.text() == (
        'slipring: 10 messages put by and not sent: no room was made\n'), ended
    assert counts(t)['dropped'] == counts(t)['stashed'] == 10
    # Too much for the stash ends it; what was put by goes with it, and is counted in no total.
    ended = t.run('send', 'x', '--record', '1K', '--full', 'stash:5K', '-J', data=b'q' * 10240)
    summary, error = [json.loads(line)['slipring'] for line in ended.err.splitlines()]
    assert ended.code == 5 and error['error']['code'] == 'full', ended
    assert (summary['bytes'], summary['records'], summary['dropped']) == (0, 0, 4), summary
    assert counts(t)['dropped'] == 14 and counts(t)['refused'] == 3, counts(t)
    t.ok('rm', '-q', 'x')
    t.check_nothing_left()


def case_finishes_a_message_that_has_begun_whatever_the_policy(t):
    """Larger than the ring: refusing in the middle would leave half of it."""
    data = some_bytes(MIB)
    path = write_file(t, data)
    for ring, args in RINGS.items():
        receiver = t.start('recv', 'x', '--linger', '0', *args)
        t.wait_attached('x', 'consumer')
        sender = t.start('send', 'x', path, '--whole', '--full', 'refuse')
        got = b''
        while len(got) < MIB:
            time.sleep(0.002)  # it fills up again and again
            part = os.read(receiver.stdout.fileno(), 65536)
            assert part, (ring, len(got))
            got += part
        assert got == data and t.end(receiver).code == 0 and t.end(sender).code == 0, ring
        t.check_nothing_left()
        # Where nobody receives, nobody would get the rest.
        ended = t.run('send', 'x', path, '--whole', '--full', 'refuse', *args)
        t.check_error(ended, 5, 'full', 'nobody receives')
        assert t.run('recv', 'x', '--linger', '0').code == 7
        t.check_nothing_left()


def case_asks_for_no_more_room_than_a_pipe_has(t):
    t.ok('create', 'x', '--capacity', '4K', '-q')
    t.ok('send', 'x', '--record', '500', data=b'f' * 3500)  # what is left takes no whole record
    for ring_full in (b'few', b'bytes'):
        t.ok('send', 'x', '--try', data=ring_full)
    assert t.ok('recv', 'x', '--linger', '0').out == b'f' * 3500 + b'fewbytes'
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_goes_another_way_when_the_pool_is_dry(t):
    """Two blocks, and messages that fit no record: the third one finds none."""
    data = some_bytes(30000 * 20)
    path = write_file(t, data)
    for ring, args in RINGS.items():
        t.ok('create', 'x', '--capacity', '64K', '--pool', '32K:2', '-q', *args)
        ended = t.run('send', 'x', path, '--message-size', '30000', '--full', 'wait:200ms')
        t.check_error(ended, 5, 'timed_out')
        channel = t.stat('x')
        tiers = channel['senders'][0]['tiers']
        assert tiers['blocks'] == 2 and channel['pool']['classes'][0]['free'] == 0, channel
        # Not asked for again and again while there was no room.
        assert channel['pool']['exhausted'] < 100, channel
        t.run('recv', 'x', '--linger', '0')
        sender = t.start('send', 'x', path, '--message-size', '30000')
        ended = t.run('recv', 'x', '--linger', '0')
        assert ended.out.endswith(data) or ended.out == data, ring
        assert t.end(sender).code == 0
        assert t.stat('x')['pool']['classes'][0]['free'] == 2
        t.ok('rm', 'x')
        t.check_nothing_left()


def case_gets_back_the_blocks_of_the_killed(t):
    for ring, args in RINGS.items():
        t.ok('create', 'x', '--pool', '64K:3', '-q', *args)
        receiver = t.start('recv', 'x', *args)  # nobody reads its output: it holds a block
        t.wait_attached('x', 'consumer')
        senders = []
        for _ in range(1 if ring == 'lane' else 2):
            senders.append(t.start('send', 'x', '--message-size', '60000', stdin=subprocess.PIPE))
            t.feed(senders[-1], b'b' * 250000, close=False)

        def blocks():
            return t.stat('x')['pool']['classes'][0]
        t.wait_until(lambda: blocks()['held'] == 1 and blocks()['lent'] >= 1, 'blocks in use')
        for child in senders + [receiver]:
            child.kill()
        for child in senders + [receiver]:
            child.wait()
        t.run('recv', 'x', '--linger', '0', '--timeout', '1s')
        assert blocks()['free'] == 3 and t.stat('x')['pool']['whole'], (ring, blocks())
        t.ok('rm', 'x')
        t.check_nothing_left()


main(globals())
