#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`slipring bench` measures what it can, says what it leaves out, and refuses what makes no sense. No
figure is asserted: only that there is one."""
import ctypes
import json
import os
import platform
import shutil
import struct

from harness import Skip, main

SHORT = ('--rounds', '1', '--seconds', '0.005')


def refuse(*calls):
    """For preexec_fn: the kernel answers these system calls with EPERM, as in a strict container."""
    if platform.machine() != 'x86_64':
        raise Skip('numbers of system calls are those of x86-64')
    code = [(0x20, 0, 0, 0)]  # load the number of the call
    for number in calls:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050001)]  # equal: EPERM
    code += [(0x06, 0, 0, 0x7fff0000)]  # all others: allowed
    filters = b''.join(struct.pack('<HBBI', *step) for step in code)

    def apply():
        libc = ctypes.CDLL(None, use_errno=True)
        held = ctypes.create_string_buffer(filters)
        program = ctypes.create_string_buffer(
            struct.pack('<HxxxxxxQ', len(code), ctypes.addressof(held)))
        if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
            os._exit(96)
        if libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) != 0:  # PR_SET_SECCOMP
            os._exit(97)
    return apply


def on_one_cpu():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def need_two_cpus():
    if len(os.sched_getaffinity(0)) < 2:
        raise Skip('one CPU only')


def medians(ended, scenario, figure):
    """Contender -> figure, of everybody who has one."""
    found = {}
    for cell in json.loads(ended.out)['cells']:
        for of_class in cell['classes'].values():
            if cell['scenario'] == scenario and figure in of_class['figures']:
                found[cell['name']] = of_class['figures'][figure][1]
    return found


def case_measures_itself_and_a_rival_and_says_all_of_it_as_json(t):
    need_two_cpus()
    ended = t.ok('bench', '--vs', 'pipe', '--size', '64', '--json', '--rounds', '3', '--seconds', '0.005')
    run = json.loads(ended.out)
    assert run['schema'] == 1 and run['environment']['kernel'], run['environment']
    rows = [row for row in run['rows'] if 'void' not in row]
    assert len(rows) == len(run['rows']), run['rows']
    names = {run['cells'][row['cell']]['name'] for row in rows}
    assert {'slipring', 'pipe'} <= names, names
    assert all(row.get('mps', 1) > 0 and row.get('rtt_ns', 1) > 0 for row in rows), rows
    assert all(c['raw_ns'] > 0 and c['bulk_4k_gbs'] > 0 for c in run['calibrations']), run['calibrations']
    t.check_nothing_left()


def case_counts_latency_from_the_intended_time_when_given_a_rate(t):
    need_two_cpus()
    ended = t.ok('bench', '--vs', 'none', '--rate', '10k', '--json', '--rounds', '1', '--seconds', '0.05')
    run = json.loads(ended.out)
    assert {c['scenario'] for c in run['cells']} == {'open_loop'}, run['cells']
    assert all(row['max_ns'] >= row['p50_ns'] > 0 for row in run['rows']), run['rows']


def case_shows_a_table_with_what_it_was_measured_on(t):
    need_two_cpus()
    text = t.ok('bench', '--vs', 'unix', *SHORT).out.decode()
    for word in ('# cpu: ', '# kernel: ', '# class of the CPUs: ', 'round_trip size=64', 'throughput size=64',
                 'slipring.claim', 'unix.stream', 'unix.seqpacket'):
        assert word in text, text


def case_refuses_cpus_that_do_not_exist(t):
    for cpus in ('0,4095', '4095', '1000000,0'):
        t.check_error(t.run('bench', '--cpus', cpus), 2, 'not_found', 'no CPU', '--cpus')


def case_refuses_requests_that_mean_nothing(t):
    for args, word in ((['--size', '7'], '8 bytes'), (['--size', '65M'], '64M'), (['--size', 'x'], 'sizes'),
                       (['--rate', '0'], 'per second'), (['--rate', '1x'], 'per second'),
                       (['--rounds', '0'], 'from 1'), (['--rounds', '1.5'], 'from 1'),
                       (['--seconds', '0'], '0.001'), (['--ring', '300K'], 'power of two'),
                       (['--cpus', '0,1,2'], 'CPUs'), (['--cpus', '-1'], 'CPUs')):
        t.check_error(t.run('bench', *args), 1, 'invalid_argument', word)
    t.check_error(t.run('bench', '--vs', 'pigeon'), 2, 'not_found', 'pigeon', 'pipe', '--list')
    assert t.run('bench', '--vs', 'pigeon', '--json').json()['error']['code'] == 'not_found'


def case_goes_on_with_one_cpu_and_says_what_that_leaves_out(t):
    ended = t.ok('bench', '--vs', 'pipe', *SHORT, preexec_fn=on_one_cpu)
    assert b'one CPU only: left out' in ended.out and b'class of the CPUs: one-cpu' in ended.out, ended
    ended = t.ok('bench', '--vs', 'pipe', '--json', *SHORT, preexec_fn=on_one_cpu)
    assert medians(ended, 'round_trip', 'rtt_ns').keys() >= {'slipring', 'pipe'}, ended
    listed = t.ok('bench', '--list', preexec_fn=on_one_cpu).out.decode()
    assert 'slipring.spin                left out: it polls' in listed, listed


def case_goes_on_without_rivals_and_says_which(t):
    listed = t.ok('bench', '--list').out.decode()
    missing = [line for line in listed.splitlines() if 'left out: not built in' in line]
    if not any('zeromq' in line for line in missing):
        raise Skip('every rival was built in')
    assert 'libzmq3-dev' in listed, listed
    need_two_cpus()
    ended = t.ok('bench', '--vs', 'zeromq,pipe', *SHORT)
    assert b'left out: zeromq: not built in: libzmq3-dev' in ended.out, ended


def case_goes_on_where_it_may_neither_pin_nor_lock_memory(t):
    need_two_cpus()
    sched_setaffinity, mlock, mlock2 = 203, 149, 325
    ended = t.ok('bench', '--vs', 'none', *SHORT, preexec_fn=refuse(sched_setaffinity))
    assert b'not pinned: ' in ended.out and b'not locked: ' not in ended.out, ended
    ended = t.ok('bench', '--vs', 'none', *SHORT, preexec_fn=refuse(mlock, mlock2))
    assert b'not locked: ' in ended.out and b'not pinned: ' not in ended.out, ended


def case_says_how_to_get_the_benchmark_when_it_is_not_there(t):
    alone = os.path.join(t.home, 'slipring')
    shutil.copy(t.tool, alone)
    folder = os.path.join(os.path.dirname(t.tool), '..', 'src')
    env = dict(t.env, LD_LIBRARY_PATH=folder)
    if os.path.exists('/usr/local/libexec/slipring/slipring-bench'):
        raise Skip('it is installed on this machine')
    tool, t.tool = t.tool, alone
    try:
        t.check_error(t.run('bench', env=env), 2, 'not_found', './dev bench')
    finally:
        t.tool = tool


if __name__ == '__main__':
    main(globals())
