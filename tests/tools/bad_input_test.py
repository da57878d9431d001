#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input gets three lines and an exit code, and nothing is left behind."""
import os
import struct
import subprocess
import tempfile

from harness import Skip, main

VERSION_AT = 0x10


def patch(path, offset, word):
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(struct.pack('<Q', word))


def case_refuses_names_that_are_no_names(t):
    for name in ['', '/', '..', '.', 'a/b', '//a', 'x' * 201, 'a b', 'a\n', b'\xff\xfe', 'ä']:
        for command in (['create'], ['send'], ['recv'], ['stat'], ['rm']):
            ended = t.run(*command, name)
            t.check_error(ended, 1, 'invalid_argument', '200')
            assert not os.path.exists(t.files), ended
    t.check_nothing_left()


def case_shows_unprintable_names_escaped(t):
    ended = t.run('create', b'a\x1b[31m\xff')
    assert b'\x1b' not in ended.err and b'\xff' not in ended.err, ended
    assert '\\x1b[31m\\xff' in ended.text(), ended


def case_takes_names_of_200_bytes_and_one_leading_slash(t):
    for name in ['x' * 200, '/a', 'A-1.b_c']:
        t.ok('create', name)
        t.ok('rm', name)
    t.check_nothing_left()


def case_refuses_capacities_and_says_the_next_one(t):
    for capacity, word in [('0', '--capacity 256K'), ('300K', '--capacity 512K'),
                           ('1', '--capacity 4K'), ('2G', '--capacity 1G'), ('3G', 'too large')]:
        for command in (['create', 'x'], ['send', 'x'], ['recv', 'x']):
            t.check_error(t.run(*command, '--capacity', capacity), 1, 'invalid_argument', word)
    for capacity in ['64X', '', 'K', '-1', '1.5', '1e3', '99999999999999999999G', '4 M']:
        ended = t.run('create', 'x', '--capacity=' + capacity)
        assert ended.code == 1, ended
    t.check_nothing_left()


def case_refuses_options_that_mean_nothing(t):
    for args, word in [(['--kind', 'foo'], 'posix, sysv and file'), (['--kind', 'memfd'], 'no name'),
                       (['--mode', '0666'], '0660'), (['--mode', '9'], 'octal'),
                       (['--group', 'no-such-group'], 'group'), (['--granule', '12'], '8, 16 or 64'),
                       (['--bell', 'eventfd'], 'descriptor'), (['--bell', 'x'], 'futex'),
                       (['--sysv-key', '0'], 'key'), (['--huge', '3K'], 'uge'),
                       (['--numa', '999'], 'NUMA')]:
        t.check_error(t.run('create', 'x', *args), 1, '', word)
    t.check_error(t.run('send', 'x', '--wait', 'hard'), 1, 'invalid_argument', 'adaptive')
    t.check_error(t.run('recv', 'x', '--timeout', '5'), 1, 'invalid_argument', 'unit')
    t.check_nothing_left()


def case_refuses_rings_of_many_senders_that_cannot_be(t):
    mpsc = ['--ring', 'mpsc']
    for args, code, words in (
            (['--ring', 'foo'], 'invalid_argument', ['spsc', 'mpsc']),
            (['--order', 'total'], 'invalid_argument', ['--ring mpsc --order total']),
            (['--senders', '4'], 'invalid_argument', ['--ring mpsc']),
            (['--ring', 'spsc', '--order', 'producer'], 'invalid_argument', ['needs --ring mpsc']),
            (mpsc + ['--order', 'fifo'], 'invalid_argument', ['producer', 'total']),
            (mpsc + ['--senders', '0'], 'invalid_argument', ['from 1']),
            (mpsc + ['--senders', '-1'], 'invalid_argument', ['from 1']),
            (mpsc + ['--senders', 'abc'], 'invalid_argument', ["'abc'"]),
            (mpsc + ['--senders', '4294967296'], 'invalid_argument', ['4294967296']),
            (mpsc + ['--senders', '5000'], 'invalid_argument', ['1 to 4096']),
            (mpsc + ['--senders', '5000', '--order', 'total'], 'invalid_argument', ['1 to 1023']),
            (mpsc + ['--capacity', '3K'], 'invalid_argument', ['--capacity 4K']),
            (mpsc + ['--order', 'total', '--capacity', '2G'], 'invalid_argument', ['too large']),
            (['--pool', '3G:1'], 'invalid_argument', ['3G:1', '256 to 1M']),
            (['--pool', '2M:1'], 'invalid_argument', ['256 to 1M']),
            (['--pool', '300:1'], 'invalid_argument', ['power of two']),
            (['--pool', '64K'], 'invalid_argument', ['SIZE:COUNT']),
            (['--pool', '64K:0'], 'invalid_argument', ['64K:0']),
            (['--pool', '64K:4:4'], 'invalid_argument', ['64K:4:4']),
            (['--pool', '64K:4,'], 'invalid_argument', ["''"]),
            (['--pool', '64K:4,64K:5'], 'invalid_argument', ['twice']),
            (['--pool', '64K:9999999'], 'invalid_argument', ['8388608'])):
        for command in (['create', 'x'], ['send', 'x'], ['recv', 'x', '--timeout', '1s']):
            t.check_error(t.run(*command, *args), 1, code, *words)
    for order in ([], ['--order', 'total']):
        t.check_error(t.run('create', 'x', *mpsc, *order, '--bell', 'posix_sem'), 1,
                      'not_supported', 'futex doorbells alone', 'without --bell')
    # What is needed counts all of it.
    t.check_error(t.run('create', 'x', '--pool', '1M:8388608'), 9, 'no_space', '8T needed',
                  'a smaller --pool')
    t.check_error(t.run('create', 'x', *mpsc, '--senders', '4096', '--capacity', '1G'), 9,
                  'no_space', '4T needed', 'fewer --senders')
    t.check_nothing_left()


def case_refuses_messages_and_policies_that_cannot_be(t):
    for args, words in ((['--full', 'later'], ['wait:TIME', 'stash:SIZE']),
                        (['--full', 'wait:'], ["'wait:'"]), (['--full', 'wait:5'], ['5ms']),
                        (['--full', 'refuse:1'], ['refuse:1']), (['--full', 'stash'], ['1M']),
                        (['--full', 'stash:0'], ['stash:0']), (['--full', 'stash:x'], ['stash:x']),
                        (['--full', 'wait', '--try'], ['--try excludes --full']),
                        (['--full', 'wait', '--timeout', '1s'], ['--timeout excludes --full']),
                        (['--try', '--timeout', '1s'], ['excludes']),
                        (['--whole', '--full', 'stash:1M'], ['--whole and --full stash']),
                        (['--message-size', '0'], ['never end']),
                        (['--message-size', 'x'], ["'x'"]),
                        (['--message-size', '1K', '--whole'], ['excludes']),
                        (['--message-size', '1K', '--lines'], ['excludes']),
                        (['--message-size', '1K', '--record', '1K'], ['excludes']),
                        (['--lines', '--whole'], ['excludes']),
                        (['--record', '1K', '--whole'], ['excludes']),
                        (['--message-size', '1M', '--full', 'stash:4M'],
                         ['1M cannot be put by', '64K in one piece'])):
        t.check_error(t.run('send', 'x', *args, data=b'x'), 1, 'invalid_argument', *words)
    t.ok('send', 'x', '--message-size', '1M', '--full', 'stash:4M', '--pool', '1M:1', data=b'')
    for args, words in ((['--message-size', '0'], ['at most 1T']), (['--message-size', 'x'], ["'x'"]),
                        (['--message-size', '2T'], ['at most 1T']), (['-c', '-1'], ['from 1']),
                        (['-c', '0'], ['from 1']), (['-c', 'x'], ["'x'"])):
        t.check_error(t.run('recv', 'x', '--timeout', '1s', *args), 1, 'invalid_argument', *words)
    t.check_error(t.run('stat', 'x', '-c', '-1'), 1, 'invalid_argument', 'from 1')
    # From one sender messages pass through, however large; that its limit does nothing is said.
    ended = t.run('recv', 'x', '--message-size', '4G', '--timeout', '1ms')
    assert ended.text().startswith('slipring: x has one sender') and ended.code == 5, ended
    t.check_nothing_left()


def case_refuses_empty_values(t):
    """Mostly of a variable that is not set."""
    for command, option in (('create', '--capacity'), ('create', '--senders'), ('send', '--pool'),
                            ('send', '--full'), ('send', '--message-size'), ('recv', '--linger'),
                            ('recv', '--wait'), ('ls', '--output'), ('stat', '--interval')):
        ended = t.run(command, 'x', option, '')
        t.check_error(ended, 1, 'invalid_argument', f'{option}: the value is empty', 'variable')
    t.check_nothing_left()


def case_explains_command_lines_that_do_not_fit(t):
    t.check_error(t.run(), 1, 'invalid_argument', 'command')
    t.check_error(t.run('sned'), 1, 'invalid_argument', 'did you mean send?')
    t.check_error(t.run('send', 'x', '--capactiy', '4M'), 1, 'invalid_argument', '--capacity?')
    t.check_error(t.run('create'), 1, 'invalid_argument', 'NAME')
    t.check_error(t.run('create', 'a', 'b'), 1, 'invalid_argument', 'too many')
    t.check_error(t.run('create', 'a', '--capacity'), 1, 'invalid_argument')
    t.check_error(t.run('send', 'a', '--lines', '--record', '4K'), 1, 'invalid_argument')
    t.check_error(t.run('ls', '-o', 'NOPE'), 1, 'invalid_argument', 'BACKLOG')
    t.check_nothing_left()


def case_refuses_records_over_a_quarter_of_the_capacity(t):
    ended = t.run('send', 'x', '--record', '128K', data=b'x')
    t.check_error(ended, 1, 'too_large', '64K', '--capacity 512K')
    ended = t.run('send', 'x', '--record', '2K', '--capacity', '4K', data=b'x')
    t.check_error(ended, 1, 'too_large', '1K', '--capacity 8K')
    t.check_error(t.run('send', 'x', '--record', '0', data=b'x'), 1, 'invalid_argument')
    t.check_nothing_left()
    t.ok('create', 'x', '--capacity', '4K')  # what exists counts, not what was asked for
    ended = t.run('send', 'x', '--record', '64K', '--capacity', '1M', data=b'x')
    t.check_error(ended, 1, 'too_large', '1K')
    t.ok('rm', 'x')


def case_finds_nothing_where_nothing_is(t):
    for args in (['stat', 'x'], ['rm', 'x'], ['rm', 'x*'], ['stat', 'x*'], ['ls', 'x'], ['ls', 'x*'],
                 ['stat', 'sysv:0x7ead0001'], ['rm', 'sysv-id:2147483647']):
        t.check_error(t.run(*args), 2, 'not_found')
    t.check_error(t.run('stat', 'sysv:0xzz'), 1, 'invalid_argument')
    t.check_error(t.run('ls', '--root', '/no/such/place', 'x'), 2, 'not_found')
    t.check_nothing_left()


def case_leaves_foreign_objects_alone(t):
    text = b'this belongs to another program\n' * 300
    with open(t.path('foreign'), 'wb') as file:
        file.write(text)
    for args in (['stat'], ['send'], ['recv'], ['rm'], ['rm', '-f']):
        ended = t.run(*args, 'foreign', data=b'x')
        t.check_error(ended, 6, 'bad_format', 'not a slipring object')
    assert [c for c in t.run('ls', '-J').json()['channels'] if c['kind'] != 'sysv'] == []
    with open(t.path('foreign'), 'rb') as file:
        assert file.read() == text
    t.check_error(t.run('create', 'foreign'), 4, 'exists')
    os.unlink(t.path('foreign'))
    t.check_nothing_left()


def case_never_waits_for_what_only_looks_like_a_segment(t):
    os.mkfifo(t.path('fifo'))
    os.symlink('/etc/passwd', t.path('link'))
    os.mkdir(t.path('dir'))
    open(t.path('empty'), 'wb').close()
    for name in ('fifo', 'link', 'dir', 'empty'):
        for command in ('stat', 'send', 'recv', 'rm'):
            t.check_error(t.run(command, name, data=b'x'), 6, 'bad_format', name)
        assert os.path.lexists(t.path(name))


def case_says_which_version_it_found(t):
    t.ok('create', 'x')
    patch(t.path('x'), VERSION_AT, 99)
    for command in ('stat', 'send', 'recv', 'rm'):
        t.check_error(t.run(command, 'x', data=b'x'), 6, 'bad_format', 'format 99', 'rm -f x')
    assert t.run('ls', 'x', '-J').json()['channels'][0]['state'] == 'other version'
    t.ok('rm', '-f', 'x')
    t.check_nothing_left()


def case_refuses_truncated_segments_of_every_file_kind(t):
    for kind, path in (('posix', t.path('x')), ('file', t.files + '/x.ring')):
        for size in (8192, 4096, 100):
            t.ok('create', 'x', '--kind', kind)
            os.truncate(path, size)
            for command in ('stat', 'send', 'recv', 'rm'):
                ended = t.run(command, 'x', data=b'x')
                t.check_error(ended, 6, 'bad_format', str(size), 'rm -f x')
            channel = t.run('ls', 'x', '-J').json()['channels'][0]
            assert channel['state'] == 'corrupt' and channel['capacity_bytes'] is None
            assert b'corrupt' in t.ok('ls', 'x').out
            t.ok('rm', '-f', 'x')
            t.check_nothing_left()


def case_refuses_damaged_headers(t):
    for word in range(0, 22):
        t.ok('create', 'x')
        patch(t.path('x'), 8 * word, 0x4142434445464748)
        ended = t.run('stat', 'x')
        assert ended.code in (1, 6) and len(ended.text().splitlines()) == 3, (word, ended)
        t.run('rm', '-f', 'x')
        if os.path.exists(t.path('x')):
            assert word == 0  # without its magic it is somebody else's
            os.unlink(t.path('x'))
    t.check_nothing_left()


def case_says_what_a_typed_lane_holds(t):
    peer = os.environ.get('SLIPRING_TYPED_PEER')
    if not peer:
        raise Skip('no typed peer was built')
    ended = subprocess.run([peer, 'x'], env=t.env, capture_output=True, timeout=20, check=False)
    text = ended.stderr.decode()
    assert ended.returncode == 6, text
    assert '32 bytes' in text and '40 bytes' in text and '(type_mismatch' in text, text
    assert 'why: ' in text and 'fix: ' in text and 'is attached' in text, text
    t.check_nothing_left()


def case_names_who_holds_the_end_that_was_wanted(t):
    first = t.start('send', 'x', stdin=subprocess.PIPE)
    t.wait_attached('x', 'producer')
    ended = t.run('send', 'x', data=b'y')
    t.check_error(ended, 4, 'in_use', f'slipring({first.pid})', 'sends already')
    receiver = t.start('recv', 'x')
    t.wait_attached('x', 'consumer')
    ended = t.run('recv', 'x')
    t.check_error(ended, 4, 'in_use', f'slipring({receiver.pid})', f'kill {receiver.pid}')
    first.stdin.close()
    first.stdin = None
    assert t.end(first).code == 0
    assert t.end(receiver).code == 0
    t.check_nothing_left()


def case_refuses_to_make_what_exists(t):
    for kind in ('posix', 'sysv', 'file'):
        t.ok('create', 'x', '--kind', kind)
        for other in ('posix', 'sysv', 'file'):
            t.check_error(t.run('create', 'x', '--kind', other), 4, 'exists', 'slipring rm x')
        t.ok('rm', 'x')
        t.check_nothing_left()


def case_says_whose_it_is_when_it_may_not_be_opened(t):
    if os.geteuid() != 0:
        raise Skip('only root can become somebody else')
    os.chmod(t.shm, 0o777)
    t.ok('create', 'x')
    env = dict(t.env, SLIPRING_DIR='/tmp/slipring-cli-nobody-%d' % os.getpid())
    try:
        probe = t.run('--version', env=env, user=65534, group=65534)
    except PermissionError as error:
        raise Skip('another user cannot reach the build folder') from error
    if probe.code != 0:
        raise Skip('another user cannot run the command')
    for command in ('stat', 'send', 'recv', 'rm'):
        ended = t.run(command, 'x', data=b'x', env=env, user=65534, group=65534)
        t.check_error(ended, 3, 'permission', 'root')
    t.ok('rm', 'x')
    with tempfile.NamedTemporaryFile() as secret:
        os.chmod(secret.name, 0)
        os.chmod(os.path.dirname(secret.name), 0o1777)
        ended = t.run('send', 'y', secret.name, env=env, user=65534, group=65534)
        t.check_error(ended, 3, 'permission', 'cannot read')
    t.check_nothing_left()


def case_reads_its_input_before_it_makes_anything(t):
    ended = t.run('send', 'x', '/no/such/file')
    t.check_error(ended, 2, 'not_found', '/no/such/file')
    t.check_error(t.run('send', 'x', '/tmp'), 9, 'system', 'tar c /tmp | slipring send')
    ended = subprocess.run(['sh', '-c', f'{t.tool} send x <&-'], env=t.env, capture_output=True,
                           check=False)
    assert ended.returncode == 9 and b'standard input' in ended.stderr, ended
    t.check_nothing_left()


def case_reports_a_full_file_system_and_leaves_nothing(t):
    script = ('mount -t tmpfs -o size=1m none "$SLIPRING_SHM_DIR" || exit 77; '
              '"$0" create x --capacity 4M; code=$?; ls -A "$SLIPRING_SHM_DIR"; '
              '"$0" send x --capacity 4M </dev/null; code2=$?; ls -A "$SLIPRING_SHM_DIR"; '
              '"$0" create x --capacity 256K -q || exit 1; exit $((code * 10 + code2))')
    ended = subprocess.run(['unshare', '-m', 'sh', '-c', script, t.tool], env=t.env,
                           capture_output=True, timeout=20, check=False)
    if ended.returncode in (1, 77) and b'slipring' not in ended.stderr:
        raise Skip('no mount namespace: ' + ended.stderr.decode().strip())
    text = ended.stderr.decode()
    assert ended.returncode == 99 and ended.stdout == b'', ended
    assert '(no_space: posix_fallocate, ENOSPC)' in text and '4M needed' in text, text
    assert '1M here' in text and '--kind file' in text, text


def case_fails_when_standard_output_does(t):
    t.ok('create', 'x')
    t.ok('send', 'x', data=b'payload')
    ended = subprocess.run(['sh', '-c', f'{t.tool} recv x >&-'], env=t.env, capture_output=True,
                           check=False)
    assert ended.returncode == 9 and b'EBADF' in ended.stderr, ended
    with open('/dev/full', 'wb') as full:
        t.check_error(t.run('recv', 'x', stdout=full), 9, 'no_space', 'standard output')
        t.check_error(t.run('ls', stdout=full), 9, 'no_space', 'standard output')
    # A pipe without a reader: the record stays. With nothing to write it is no failure.
    read, write = os.pipe()
    os.close(read)
    t.check_error(t.run('recv', 'x', stdout=write), 9, 'system', 'EPIPE')
    assert t.ok('recv', 'x', '-c', '1').out == b'payload'
    t.check_error(t.run('recv', 'x', '--timeout', '50ms', stdout=write), 5, 'timed_out')
    os.close(write)
    t.ok('rm', 'x')
    t.check_nothing_left()


def case_gives_errors_as_json(t):
    for args, code, errc in ((['stat', 'x'], 2, 'not_found'), (['create', '..'], 1, 'invalid_argument'),
                             (['create', 'x', '--nope'], 1, 'invalid_argument'),
                             (['recv', 'x', '--timeout', '1ms'], 5, 'timed_out')):
        ended = t.run(*args, '--json')
        lines = ended.err.splitlines()
        errors = [line for line in lines if b'"error"' in line]
        assert ended.code == code and len(errors) == 1, ended
        error = __import__('json').loads(errors[0])['slipring']['error']
        assert error['code'] == errc and error['what'] and error['why'] and error['fix'], error
    t.check_nothing_left()


main(globals())
