#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the scenes below as inputs of the targets that play them: fuzz/corpus/TARGET/SCENE.

  fuzz/make_seeds.py BUILD     BUILD has the replay programs; they write the twins of each scene

A scene is a sparse input: an operation is a byte of choice (what: 4 low bits, detail: 4 high bits), a
byte that says how many loads go by before the input is asked for a lie, and details. Its twins
SCENE_free and SCENE_sticky do the same in the other modes, where no one could write the answers to
each load by hand (docs/fuzzing.md). The numbers here are those of the switch in each target; when
they move, the replay of the corpus says which depth is no longer reached."""
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
FREE, STICKY, SPARSE, HONEST = range(4)
NO_LIE = 255
LONGEST = 4000  # twins beyond it would be cut by -max_len


class Scene:
    def __init__(self, *setup, lies=()):
        self.bytes = bytearray(setup)
        self.tell(lies)

    def do(self, what, *details, detail=0, rest=NO_LIE, lies=()):
        self.bytes += bytes([detail << 4 | what, rest])
        for one in details:
            self.bytes += one if isinstance(one, bytes) else bytes([one])
        self.tell(lies)
        return self

    def tell(self, lies):
        """Every lie but the last says that more come. What is below 192 is a pause."""
        for i, lie in enumerate(lies):
            more = 0x20 if lie[0] >= 0xc0 and i + 1 < len(lies) else 0
            self.bytes += bytes([lie[0] | more]) + lie[1:]

    def repeat(self, count, what, *details, **more):
        for _ in range(count):
            self.do(what, *details, **more)
        return self


def u16(value):
    return (value & 0xffff).to_bytes(2, "little")


def u32(value):
    return (value & 0xffffffff).to_bytes(4, "little")


def u64(value):
    return (value & (1 << 64) - 1).to_bytes(8, "little")


def word(value, as_bytes=u64):
    """The next load sees that, and so does everyone after it."""
    return bytes([0xc0]) + as_bytes(value)


def xor(byte, mask):
    return bytes([0xc8 | byte, mask])


def add(byte, value):
    return bytes([0xd0 | byte, value])


def pause(loads):
    """So many loads go by between two lies; at least one."""
    return bytes([loads - 1])


def mpsc_consumer():
    peek, keep, look, tell, join, leave, die = 0, 0, 3, 4, 5, 6, 7
    send, burst, group, epoch, poke, reattach, nonsense = 8, 10, 11, 12, 13, 14, 15
    few, crowd, lied_to = SPARSE, SPARSE | 0x20, SPARSE | 4
    dead = 2

    def scene(setup=few, tuning=3, held=2):
        return Scene(setup, tuning, held, NO_LIE)

    def lied_to_at_attach(rest, *lies, setup=0):
        return Scene(lied_to | setup, 3, 3, rest, lies=lies).do(send, 1, u16(10)).repeat(3, peek)

    yield "steady", (scene().do(send, 0, u16(100)).do(send, 1, u16(0)).do(send, 0, u16(512))
                     .repeat(4, peek).do(tell).do(look).do(nonsense, detail=1))
    yield "kept", (scene().do(send, 0, u16(9)).do(peek, detail=1).do(send, 1, u16(9))
                   .do(peek, detail=1).repeat(3, peek))
    for name, granule in (("padding", 0), ("padding_16", 1), ("padding_64", 2)):
        laps = scene(few | granule << 6)
        for _ in range(4):
            laps.do(burst, 0, u16(700)).repeat(6, peek)
        yield name, laps.do(tell)
    yield "joins", (scene(held=0).do(peek).do(join, 0).do(send, 0, u16(20)).repeat(2, peek)
                    .do(join, 2, detail=1).do(send, 2, u16(20)).do(peek).do(look).do(join, 3)
                    .do(look).repeat(2, peek))
    yield "successors", (scene(held=1).do(send, 0, u16(20)).do(leave, 0).do(join, 0)
                         .do(send, 0, u16(21)).do(die, 0).do(join, 0).do(send, 0, u16(22))
                         .repeat(4, peek).do(die, 1).do(tell))
    yield "redelivered", (scene().do(send, 0, u16(30)).do(send, 0, u16(31)).do(send, 1, u16(32))
                          .repeat(2, peek).do(reattach, detail=dead).repeat(4, peek)
                          .do(reattach, detail=4 | dead).do(peek))
    yield "redelivered_among_lies", (
        scene().do(send, 0, u16(30)).repeat(2, send, 1, u16(32)).do(peek)
        .do(reattach, detail=8 | dead, rest=60, lies=[pause(7), xor(0, 1)]).repeat(4, peek))
    refused = scene(held=1).do(poke, 2, 0x01, u64(77), detail=1)  # the geometry of lane 1
    yield "refused", (refused.do(join, 1).do(join, 2).do(look).do(send, 2, u16(50)).repeat(3, peek)
                      .do(send, 0, u16(50)).repeat(2, peek))
    poisoned = scene().do(send, 0, u16(40)).do(send, 1, u16(41)).do(send, 1, u16(42))
    yield "poisoned", (poisoned.do(peek, rest=0, lies=[xor(6, 0xff)]).repeat(3, peek)
                       .do(send, 1, u16(43)).do(send, 0, u16(44)).repeat(3, peek).do(tell))
    yield "longer_than_it_was", (scene().do(send, 0, u16(40)).do(send, 0, u16(40))
                                 .do(peek, rest=0, lies=[xor(0, 0x60)]).repeat(2, peek))
    yield "false_padding", (scene().do(send, 0, u16(40))
                            .do(peek, rest=0, lies=[word(2 << 48 | 4096), word(1 << 48 | 8)])
                            .repeat(2, peek))
    visits = scene().repeat(3, send, 0, u16(500)).do(peek).do(send, 1, u16(8))
    for _ in range(36):  # more than kVisitBytes, and never empty
        visits.do(send, 0, u16(500)).do(peek)
    yield "visits", visits
    yield "quiet", (scene(crowd, held=66).repeat(17, peek).do(send, 40, u16(10)).repeat(3, peek)
                    .do(look).repeat(2, peek))
    yield "groups", (scene().do(group, 0, u16(60), detail=5).do(group, 1, u16(900), detail=3)
                     .repeat(9, peek))
    yield "hidden_by_the_epoch", (scene(held=0).do(join, 0, detail=1).do(send, 0, u16(10))
                                  .do(epoch, u64(-1)).do(reattach).repeat(2, peek))
    block = 11  # loads of the ring's geometry; then the epoch, and for each lane its role and 14 more
    for name, rest, lie in (("magic", 0, xor(0, 1)), ("version", 1, word(2)), ("lanes", 2, word(0)),
                            ("stride", 3, word(8192)), ("lane_zero", 4, word(0)),
                            ("epoch", block, word(-1)), ("role", block + 1, word(0)),
                            ("lane_magic", block + 2, word(1)), ("consumer_magic", block + 9, word(1)),
                            ("lane_id", block + 11, word(1)), ("read_pos", block + 12, word(7)),
                            ("before_pos", block + 13, word(0))):
        yield f"attach_is_lied_to_about_{name}", lied_to_at_attach(rest, lie)
    yield "walks_among_lies", (lied_to_at_attach(block + 20, xor(0, 2), pause(9), add(2, 8), setup=dead << 3))
    yield "refused_at_a_peek", (scene(held=1).do(poke, 2, 0x01, u64(77), detail=1).do(join, 1).do(peek)
                                .do(poke, 3, 0x02, u64(77), detail=1).do(join, 2, detail=1).do(send, 0, u16(9))
                                .do(join, 3).repeat(4, peek).do(tell))


FIRST, MIDDLE, OLD, HALF, WRAP, LAST, OLD_MIDDLE, NEAR_THE_END = (i << 5 for i in range(8))
LINE = u16(56)  # a record of one granule
CLAIMED, COMMITTED, DEAD = 1, 2, 3
HELD = 5 << 2 | 1  # the role of a process that nobody here can ask about


def descriptor(lap=1, owner=1, granules=1, state=COMMITTED):
    return lap << 28 | owner << 18 | granules << 2 | state


def total_consumer():
    peek, many, look, tell, ring, backlog, send, claim, commit = 0, 2, 3, 4, 5, 6, 7, 8, 9
    abort, send_all, end, want, reattach, poke = 10, 11, 12, 13, 14, 15
    lied_to, dead, reaps = 4, 2, 8

    def scene(setup=0, tuning=3, rest=NO_LIE):
        return Scene(SPARSE | setup, tuning, rest)

    yield "steady", (scene().do(send, LINE).do(send, u16(0), detail=1).do(send, u16(600), detail=2)
                     .do(look).repeat(4, peek).do(tell).do(look).do(backlog))
    for name, start in (("padding", FIRST), ("padding_in_the_middle", MIDDLE),
                        ("padding_where_laps_wrap", WRAP), ("padding_half_way", HALF),
                        ("padding_near_the_end", NEAR_THE_END), ("padding_at_the_last", LAST)):
        laps = scene(start)
        for size in (900, 700, 300):
            laps.do(send_all, u16(size), detail=1).repeat(9, peek)
        yield name, laps.do(tell)
    yield "several", (scene().repeat(9, send, LINE).do(many, detail=3).do(many, detail=7)
                      .do(many, detail=7).do(many, detail=7).do(peek))
    yield "aborted", (scene().do(claim, u16(100)).do(claim, u16(200), detail=1).do(send, LINE, detail=2)
                      .do(look).do(abort, detail=0).do(look).do(commit, u16(20), detail=1).do(look)
                      .repeat(3, peek))
    yield "blocked", (scene().do(claim, u16(100), detail=8).do(send, LINE, detail=1).do(peek).do(look)
                      .do(many, detail=2).do(commit, u16(9999)).do(many, detail=2))
    yield "reaped", (scene().do(claim, u16(100)).do(send, LINE, detail=1).do(peek)
                     .do(end, detail=reaps).do(look).do(peek).do(end).do(send, LINE))
    yield "taken_over", (scene().do(claim, u16(100), detail=2).do(end, detail=2).do(peek).do(end, detail=2)
                         .do(send, LINE, detail=2).repeat(2, peek))
    yield "redelivered", (scene().repeat(4, send, LINE).repeat(2, peek).do(claim, LINE, detail=1)
                          .do(send, LINE).do(reattach, detail=dead).do(commit, u16(5), detail=1)
                          .repeat(6, peek).do(reattach, detail=4 | dead).do(peek))
    for name, start in (("renewed", OLD), ("renewed_in_the_middle", OLD_MIDDLE)):
        laps = scene(start)
        for _ in range(3):
            laps.do(send_all, u16(900)).repeat(5, peek).do(tell)
        yield name, laps
    yield "wants_room", scene().do(send_all, LINE).do(want).do(peek).do(tell).do(ring).do(ring)
    yield "corrupt", (scene().repeat(3, send, LINE).do(peek, rest=0, lies=[xor(0, 2)])
                      .repeat(2, peek).do(look).do(many, detail=3).do(tell))
    yield "header_too_long", (scene().repeat(3, send, LINE).do(peek, rest=1, lies=[xor(0, 0x80)])
                              .do(peek))
    yield "shorter_than_it_was", (scene().repeat(3, send, u16(200))
                                  .do(peek, rest=1, lies=[xor(0, 0x08)]).repeat(2, peek))
    yield "lap_after_lap", (scene().do(send, LINE).do(peek, rest=0, lies=[xor(3, 0x10)]).do(peek))
    nothing_but = [word(descriptor(lap=1 + i // 64, state=DEAD)) for i in range(70)]
    yield "nothing_but_dead_records", scene().do(peek, rest=0, lies=nothing_but).do(peek)
    # Attach loads eleven words before it walks.
    yield "walks_a_whole_lap", scene().do(reattach, detail=8 | dead, rest=11, lies=nothing_but).repeat(2, peek)
    yield "walk_is_overtaken", (scene().repeat(9, send, LINE).do(
        reattach, detail=8 | dead, rest=12, lies=[word(descriptor(lap=9)), word(5 * 64)]).repeat(9, peek))
    yield "walk_is_ahead_of_its_lap", scene().do(reattach, detail=8 | dead, rest=11, lies=[word(descriptor(lap=9))])
    yield "walk_meets_nonsense", scene().do(reattach, detail=8 | dead, rest=11, lies=[word(descriptor(granules=63))])
    yield "space_flag_lied", scene().do(ring, rest=0, lies=[word(5, u32)]).do(ring)
    yield "renewal_lost", (scene(OLD).do(send_all, u16(900)).repeat(4, peek)
                           .do(send_all, u16(900)).repeat(2, peek)
                           .do(tell, rest=1, lies=[xor(0, 4)]).do(peek))
    yield "poked", (scene().repeat(2, send, LINE).do(poke, 8, u64(2 << 28 | 7), detail=2)
                    .do(peek).do(poke, 16, u64(64), detail=0).do(reattach).do(peek))
    yield "lied_to_from_the_start", (scene(lied_to, rest=0).do(send, LINE).repeat(2, peek))
    yield "walks_among_lies", (scene(lied_to | dead << 3 | MIDDLE, rest=10).do(send, LINE)
                               .do(peek).do(reattach, detail=8 | dead, rest=5, lies=[pause(3), xor(0, 4)])
                               .do(send, LINE).repeat(3, peek))


def total_producer():
    claim, commit, abort, send, room, want, reap, leave = 0, 2, 3, 4, 5, 6, 7, 8
    other_sends, other_claims, other_ends, other_dies, consume, die, poke = 9, 10, 11, 12, 13, 14, 15
    commits, aborts, own_line, lied_to = 1, 2, 8, 4

    def scene(setup=0, rest=NO_LIE):
        return Scene(SPARSE | setup, rest)

    yield "steady", (scene().do(claim, LINE, detail=commits).do(claim, u16(700), detail=own_line)
                     .do(commit, u16(650)).do(send, u16(33)).do(room, LINE).do(claim, LINE, detail=aborts)
                     .do(consume, detail=5))
    for name, start in (("padding", FIRST), ("padding_in_the_middle", MIDDLE),
                        ("padding_where_laps_wrap", WRAP), ("padding_half_way", HALF),
                        ("padding_near_the_end", NEAR_THE_END), ("padding_at_the_last", LAST),
                        ("over_old_descriptors", OLD)):
        laps = scene(start)
        for size in (900, 700, 300):
            laps.repeat(6, claim, u16(size), detail=commits).do(room, u16(size)).do(consume, detail=9)
        yield name, laps
    yield "full", (scene().repeat(70, send, LINE).do(room, LINE).do(want).do(consume, detail=15)
                   .do(room, LINE).do(claim, LINE, detail=commits).do(claim, u16(961)))
    yield "hops", (scene().repeat(20, other_sends, LINE).do(claim, LINE, detail=commits)
                   .do(consume, detail=15).repeat(30, other_sends, LINE).do(send, LINE)
                   .do(consume, detail=15).do(other_claims, u16(900)).do(send, LINE).do(other_ends, u16(3))
                   .do(other_claims, LINE).do(other_ends, u16(0), detail=1).do(consume, detail=5))
    yield "reaps", (scene().do(other_claims, u16(100)).do(reap, detail=1).do(other_dies)
                    .do(reap, detail=1).do(reap, detail=1).do(reap, detail=0).do(reap, detail=9)
                    .do(claim, LINE, detail=commits).do(consume, detail=3).do(other_dies)
                    .do(other_sends, LINE).do(consume, detail=3))
    # The role gets another generation between any two loads of it: seventeen of other words lie between.
    other_hands = [add(5, 1), pause(17)] * 80
    yield "reaps_what_changes_hands", (scene().do(other_claims, u16(100))
                                       .do(reap, detail=1, rest=7 + 1 + 17, lies=other_hands))
    for name, role in (("vacant", 0), ("left", 2), ("retired", 3)):
        yield f"reaps_what_becomes_{name}", (scene().do(other_claims, u16(100)).repeat(2, reap, detail=1)
                                             .do(reap, detail=1, rest=8, lies=[word(role)]))
    yield "walk_is_overtaken", (scene().repeat(5, other_sends, LINE).do(other_claims, LINE).do(other_dies).do(
        reap, detail=1, rest=7 + 19 + 2, lies=[word(descriptor(lap=9)), word(5 * 64)]).do(consume, detail=9))
    yield "walk_is_ahead_of_its_lap", (scene().do(other_claims, LINE).do(other_dies).do(
        reap, detail=1, rest=7 + 19 + 2, lies=[word(descriptor(lap=9))]))
    yield "walks_a_whole_lap", (scene().do(other_dies).do(
        reap, detail=1, rest=7 + 19 + 2, lies=[word(descriptor(granules=16, lap=1))] * 4))
    # To leave with nothing in the ring takes ten loads, to look for an entry seven and two more.
    before_the_take = 10 + 7 + 2
    yield "entry_held_meanwhile", scene().do(leave, rest=before_the_take, lies=[word(HELD)]).do(send, LINE)
    yield "entry_changes_hands", scene().do(
        leave, rest=before_the_take, lies=[word(HELD), pause(17)] + other_hands).do(send, LINE)
    yield "entry_retired_meanwhile", scene().do(leave, rest=before_the_take, lies=[word(3)])
    one_owner = word(1 | 12 << 32 | 1 << 48)  # as the third entry is looked at
    yield "geometry_changes_while_it_takes", scene().do(die, rest=7 + 3 + 1, lies=[one_owner]).do(send, LINE)
    yield "every_entry_held", scene().do(other_dies).do(poke, 0, u64(HELD), detail=1).do(
        poke, 32, u64(HELD), detail=1).do(poke, 64, u64(HELD), detail=1).do(leave)
    yield "leaves", (scene().do(claim, LINE).do(leave).do(claim, LINE, detail=commits)
                     .do(claim, LINE).do(leave, detail=8).do(send, LINE).do(consume, detail=4))
    yield "taken_over", (scene().do(claim, u16(300)).do(die).do(claim, LINE).do(die).do(send, LINE)
                         .do(die).do(send, LINE).do(consume, detail=5))
    ahead = word(descriptor(lap=9))
    yield "corrupt_chain", (scene().do(other_sends, LINE).do(claim, LINE, rest=1, lies=[xor(0, 8)])
                            .do(claim, LINE, rest=1, lies=[xor(2, 0xf0)]).do(claim, LINE).do(room, LINE))
    yield "ahead_of_its_lap", (scene().do(claim, LINE, rest=1, lies=[ahead]).do(claim, LINE).do(send, LINE)
                               .do(room, LINE).do(leave))
    yield "loses_the_swap", (scene().do(claim, LINE, rest=2, lies=[word(descriptor(owner=2))], detail=commits)
                             .do(claim, LINE, detail=commits))
    hints = scene().repeat(9, other_sends, LINE)
    for hint in (128, 64 * 63, 1 << 40, 63, -1):
        hints.do(claim, LINE, rest=0, lies=[word(hint)], detail=commits)
    yield "false_hints", hints
    yield "read_pos_goes_back", (scene(MIDDLE).repeat(64, send, LINE)
                                 .do(claim, LINE, rest=2, lies=[word(64)]).do(claim, LINE).do(room, LINE))
    yield "read_pos_leaps", (scene().repeat(64, send, LINE).do(claim, LINE, rest=2, lies=[word(8192)])
                             .do(commit, LINE).do(room, LINE))
    yield "read_pos_is_none", (scene().repeat(64, send, LINE).do(claim, LINE, rest=2, lies=[word(8191)])
                               .do(send, LINE))
    endless = [word(descriptor(granules=16))] * 4 + [word(descriptor(lap=2))]
    yield "records_of_more_than_a_lap", scene().do(claim, LINE, rest=1, lies=endless).do(claim, LINE)
    yield "read_pos_just_behind", (scene().do(claim, LINE, rest=1, lies=endless + [word(128)], detail=commits))
    yield "overtaken", (scene().do(claim, LINE, rest=1, lies=[ahead, word(6 * 4096)], detail=commits)
                        .do(claim, LINE, detail=commits))
    yield "overtaken_again_and_again", scene().do(
        claim, LINE, rest=1, lies=[one for i in range(1, 60) for one in (
            word(descriptor(lap=3 * i + 9)), word(3 * i * 4096), pause(1))], detail=commits)
    yield "poked", (scene().do(other_sends, LINE).do(poke, 0, u64(descriptor(owner=2, state=CLAIMED)), detail=2)
                    .do(reap, detail=1).do(poke, 0, u64(3), detail=1).do(leave).do(send, LINE))
    yield "nothing_to_commit", scene().do(commit, LINE).do(abort).do(claim, LINE).do(abort).do(abort)
    for name, rest, lie in (("magic", 0, word(0)), ("geometry", 1, xor(4, 1)), ("huge", 1, xor(4, 0xff)),
                            ("data_offset", 2, xor(1, 1)), ("role", 7, word(0)), ("read_pos", 8, word(7))):
        yield f"attach_is_lied_to_about_{name}", (
            Scene(SPARSE | lied_to, rest, lies=[lie]).do(claim, LINE, detail=commits))


def pool():
    claim, lend, hold, invented, release, reclaim, peer_sends, peer_receives = 0, 1, 2, 3, 4, 5, 6, 7
    peer_ends, reap, reap_all, orphans, audit, again, poke, nonsense = 8, 9, 10, 11, 12, 13, 14, 15
    lied_to, small = 4, u16(100)
    second, keeps, to_us, to_itself = 1, 2, 4, 8          # peer_sends
    gives_back, keeps_letter, leaves = 2, 4, 2            # peer_receives, peer_ends
    dies, a_letter, to_somebody = 1, 1, 2                 # again, reclaim, lend
    list_head, table, people, header, tiny = 0, 1, 2, 3, 4  # poke

    def scene(setup=0, cached=16, rest=NO_LIE):
        return Scene(SPARSE | setup | cached << 3, rest)

    def reference(tag=0xb10c, size_class=0, index=0, generation=1, offset=0, length=8):
        return u16(tag) + bytes([size_class, 0]) + index.to_bytes(4, "little") + u64(generation) + \
            offset.to_bytes(4, "little") + length.to_bytes(4, "little")

    yield "round_trip", (scene().do(claim, small).do(lend, 0, small).do(peer_receives, 0)
                         .do(peer_receives, 0, detail=gives_back).do(peer_sends, u16(3000)).do(hold, 0)
                         .do(release, 0))
    yield "counted", (scene().do(audit).do(claim, small).do(peer_sends, small).do(audit).do(hold, 0).do(audit)
                      .do(claim, small).do(lend, 0, small).do(audit).do(peer_ends).do(audit))
    yield "from_the_cache", (scene().do(claim, small).do(claim, small).do(reclaim, 0).do(reclaim, 0)
                             .repeat(3, claim, small))
    yield "without_a_cache", (scene(cached=0).repeat(3, claim, small).repeat(3, reclaim, 0)
                              .repeat(3, claim, small).do(reclaim, 1).do(again).do(audit))
    yield "dry", (scene().repeat(11, claim, small).do(claim, u16(4000)).do(claim, u16(4097))
                  .repeat(4, reclaim, 1).do(claim, small))
    bent = scene().repeat(2, peer_sends, small).do(peer_sends, small, detail=second | to_itself)
    for field, value in ((1, u16(7)), (2, 1), (2, 200), (3, u64(5)[:4]), (4, 1), (5, u64(200)[:4]),
                         (6, u64(300)[:4]), (7, 1)):
        bent.do(hold, 0, value, detail=field)
    yield "bent_letters", bent.do(hold, 2).do(hold, 0, detail=8).repeat(2, hold, 0)
    yield "invented_references", (scene().do(peer_sends, small).do(invented, reference())
                                  .do(invented, reference(tag=1)).do(invented, reference(size_class=13))
                                  .do(invented, reference(index=5)).do(invented, reference(index=1 << 31))
                                  .do(invented, reference(offset=256, length=1))
                                  .do(invented, reference(offset=(1 << 32) - 1, length=2))
                                  .do(invented, reference(generation=1 << 63)).do(invented, bytes(24)))
    yield "lends_a_part", (scene().do(claim, small).do(lend, 0, u16(50), u16(50), detail=1)
                           .do(claim, small).do(lend, 0, u16(200), u16(100), detail=1)
                           .do(lend, 0, u16(9), detail=to_somebody).do(lend, 0, u16(9), detail=to_somebody | 3 << 2).do(reclaim, 0, detail=a_letter)
                           .do(peer_receives, 0))
    yield "to_one_alone", (scene().do(claim, small).do(lend, 0, small, detail=to_somebody | 1 << 2)
                           .do(peer_receives, 0, detail=second).do(peer_receives, 0)
                           .do(peer_sends, small, detail=to_us).do(hold, 0).do(release, 0))
    yield "addressee_left", (scene().do(claim, small).do(peer_ends, detail=leaves)
                             .do(lend, 0, small, detail=to_somebody | 1 << 2).do(audit).do(again).do(audit))
    yield "reaped", (scene().do(peer_sends, small, detail=keeps).do(peer_sends, small).do(claim, small)
                     .do(lend, 0, small).do(peer_receives, 0, detail=keeps_letter).do(reap, detail=1)
                     .do(peer_ends).do(reap, detail=1).do(reap, detail=1).do(reap, detail=9)
                     .do(reap, detail=3).do(hold, 0).do(hold, 0).do(orphans).do(audit))
    yield "reaped_with_a_list", (scene().do(peer_sends, small).do(peer_sends, small).do(claim, small)
                                 .do(lend, 0, small).do(hold, 0).do(peer_receives, 0, detail=second)
                                 .do(peer_ends).do(peer_ends, detail=second).do(reap_all).do(audit)
                                 .do(peer_ends).do(orphans).do(audit))
    yield "left_with_blocks", (scene().do(claim, small).do(peer_sends, small).do(hold, 0).do(claim, small)
                               .do(lend, 0, small).do(again).do(audit).do(orphans).do(audit))
    yield "inherited", (scene().do(claim, small).do(claim, u16(1000)).do(lend, 0, small)
                        .do(again, detail=dies).do(claim, small).do(again, detail=dies).do(audit)
                        .do(claim, small).do(peer_ends).do(again, detail=dies | 2).do(audit))
    yield "orphans", (scene().do(peer_sends, small).do(peer_sends, u16(4000)).do(peer_ends, detail=leaves)
                      .do(hold, 0).do(peer_sends, small, detail=second)
                      .do(peer_ends, detail=second | leaves).do(release, 0).do(invented, reference(index=4))
                      .do(orphans).do(audit))
    yield "nobody_has_the_letter", (scene().do(peer_sends, small).do(peer_receives, 0, detail=second)
                                    .do(peer_ends, detail=leaves).do(orphans)
                                    .do(peer_ends, detail=second | leaves).do(orphans).do(audit))
    yield "forgotten_letters", (scene().do(peer_sends, small).do(peer_receives, 0, detail=keeps_letter)
                                .do(peer_ends, detail=leaves).do(reap_all).do(peer_ends).do(orphans))
    yield "circle_in_the_list", (scene().do(claim, small).do(poke, 0, 1, detail=list_head | tiny)
                                 .do(poke, 1, 1, detail=table | tiny).repeat(6, claim, small))
    yield "ids_out_of_range", (scene().do(poke, 0, u64(0xffffff), detail=list_head).do(claim, small)
                               .do(poke, 3, 200, detail=table | tiny).do(poke, 0, 2, detail=list_head | tiny)
                               .repeat(2, claim, small))
    yield "lists_lost", (scene(cached=0).do(poke, 0, 0, detail=list_head | tiny).repeat(3, claim, small)
                         .do(reclaim, 0).repeat(2, claim, small))
    yield "odd_words", (scene().do(poke, 0, u64(7), detail=table).do(poke, 2, u64(1 << 27 | 4094 << 3 | 1), detail=table)
                        .do(poke, 4, u64(1 << 27 | 2 << 15), detail=table).repeat(6, claim, small)
                        .do(audit).do(reap_all).do(orphans).do(again).do(audit))
    yield "freed_under_its_user", (scene().do(claim, small).do(poke, 0, u64(2 << 27), detail=table)
                                   .do(lend, 0, small).do(peer_sends, small).do(hold, 0)
                                   .do(poke, 0, u64(2 << 27 | 4 << 15 | 1), detail=table).do(release, 0).do(reclaim, 0))
    yield "role_lied", (scene().do(poke, 0, u64(3), detail=people).do(reap, detail=1).do(reap_all)
                        .do(poke, 32, u64(3), detail=people).do(again).do(audit))
    yield "retired_between_two_looks", (scene().do(reap, detail=1, rest=1, lies=[word(3)])
                                        .do(reap, detail=2, rest=1, lies=[word(2)]))
    other_hands = [add(5, 1), pause(17)] * 140
    yield "reaps_what_changes_hands", scene().do(reap, detail=1, rest=1 + 1 + 17, lies=other_hands)
    for name, role in (("vacant", 0), ("left", 2), ("retired", 3)):
        yield f"reaps_what_becomes_{name}", scene().do(reap, detail=1, rest=2, lies=[word(role)])
    yield "held_under_us", (scene().do(peer_sends, small).do(hold, 0, rest=1, lies=[xor(0, 1)])
                            .do(peer_sends, small).do(hold, 1, rest=1, lies=[xor(4, 8)]).repeat(2, hold, 0))
    yield "owner_does_not_settle", (scene().do(peer_sends, small)
                                    .do(hold, 0, rest=1, lies=[xor(0, 3 << 3)] * 70).do(hold, 0))
    yield "address_does_not_settle", (scene().do(claim, small).do(lend, 0, small).do(
        reclaim, 0, detail=a_letter, rest=1, lies=[xor(2, 0x80 >> i % 2) for i in range(70)]))
    contended = [add(3, 1), pause(1)] * 70
    yield "list_contended", (scene(cached=0).do(claim, small, rest=2, lies=contended)
                             .do(reclaim, 0, rest=1, lies=contended).do(claim, small))
    yield "list_contended_by_givers", scene(cached=0).repeat(2, claim, small).do(reclaim, 0).do(
        reclaim, 0, rest=3, lies=[add(3, 1)] * 70).do(claim, small)
    held = word(5 << 2 | 1)
    yield "every_entry_held", (scene().do(poke, 96, u64(5 << 2 | 1), detail=people)
                               .do(again, detail=2, rest=10 + 20 + 2, lies=[held]))
    for name, rest, lie in (("magic", 0, word(0)), ("shape", 1, word(1)), ("count", 3, word(1 << 24)),
                            ("checksum", 19, word(1)), ("total", 16, word(1 << 40))):
        yield f"attach_is_lied_to_about_{name}", Scene(SPARSE | lied_to, rest, lies=[lie]).do(claim, small)
    yield "nonsense_given_back", (scene().do(nonsense, reference()).do(nonsense, reference(), detail=2)
                                  .do(claim, small).do(nonsense, reference(), detail=1).do(peer_sends, small)
                                  .do(hold, 0).do(nonsense, reference(), detail=3)
                                  .do(nonsense, reference(index=4, generation=9), detail=3))
    yield "header_spoiled", (scene().do(poke, 1, u64(5), detail=header).do(audit).do(claim, small).do(again))
    yield "joins_among_lies", (scene(lied_to, rest=30).do(peer_sends, small).do(hold, 0).do(claim, small)
                               .do(again, detail=dies | 2, rest=70, lies=[xor(3, 1)]).do(audit))


TARGETS = {
    "mpsc_consumer": mpsc_consumer,
    "pool": pool,
    "total_consumer": total_consumer,
    "total_producer": total_producer,
}


def twin_of(replay, mode, seed):
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([replay, "--twin", mode, seed, out.name], check=True)
        return Path(out.name).read_bytes()


def main(build):
    for target, scenes in TARGETS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        replay = Path(build) / "fuzz" / f"replay_{target}"
        for name, scene in scenes():
            seed = folder / name
            seed.write_bytes(scene.bytes)
            for mode in ("free", "sticky"):
                twin = twin_of(replay, mode, seed)
                # What was loaded of a role names a process: on another day it would mean another.
                if len(twin) <= LONGEST and twin == twin_of(replay, mode, seed):
                    (folder / f"{name}_{mode}").write_bytes(twin)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
