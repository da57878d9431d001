#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Words that belong in one place stay there. Comments and string literals do not count, except for
the rules about the text of the whole repository.

An exception is an entry (path prefix, reason) at its rule, where a reviewer sees it."""
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ("include/", "src/")
PRODUCT = ("include/", "src/", "tools/")
CODE = ("include/", "src/", "tools/", "tests/", "bench/", "fuzz/")


@dataclass
class Rule:
    name: str
    pattern: str
    where: tuple          # path prefixes that the rule looks at
    instead: str          # what to write instead
    bad: tuple            # (path, text): each must be caught
    good: tuple = ()      # (path, text): none may be caught
    allow: tuple = ()     # (path prefix, reason)
    at_most: tuple = ()   # (path prefix, count, reason)
    whole_text: bool = False
    regex: re.Pattern = field(init=False)

    def __post_init__(self):
        self.regex = re.compile(self.pattern)


RULES = [
    Rule("volatile", r"(?<!\basm )(?<!__asm__ )\bvolatile\b", CODE,
         "it orders nothing; use an Access policy, or std::atomic in tools and tests",
         bad=(("src/ring/x.cc", "volatile int stop;"), ("tests/x.cc", "int volatile x;")),
         good=(("src/ring/x.cc", "// volatile is no fence"),
               ("src/ring/x.cc", 'const char* s = "volatile";'),
               ("bench/x.cc", 'asm volatile("" ::: "memory");'),
               ("include/slipring/base/shared_access.h", "volatile int x;")),
         allow=(("include/slipring/base/shared_access.h", "against double fetches, there alone"),)),
    Rule("atomics", r"\bstd::atomic|\b__(?:atomic|sync)_\w+|\bmemory_order|#\s*include\s*<atomic>",
         LIBRARY, "take an Access policy and its ordered operations: base/shared_access.h",
         bad=(("src/ring/x.cc", "std::atomic<int> n;"), ("src/ring/x.cc", "__atomic_load_n(p, 0)"),
              ("include/slipring/ring/x.h", "std::atomic_ref<int> r(x);"),
              ("src/wait/x.cc", "x.load(std::memory_order_relaxed)"),
              ("src/base/x.cc", "#include <atomic>")),
         good=(("tests/x.cc", "std::atomic<int> n;"), ("tools/x.cc", "std::atomic<bool> stop;"),
               ("include/slipring/wait/fence.h", "std::atomic_thread_fence"),
               ("src/wait/fence.cc", "std::atomic<int> mode;")),
         allow=(("include/slipring/base/shared_access.h", "it is the accessor"),
                ("include/slipring/wait/fence.", "it is the fence"),
                ("src/wait/fence.", "it is the fence"),
                ("src/wait/futex.cc", "whether the kernel has futex_waitv: no shared memory"),
                ("src/wait/signal.cc", "signal numbers that this process uses: no shared memory"))),
    Rule("policy_address", r"\bpolicy_address\b", CODE,
         "name the word and let the Access policy reach it",
         bad=(("src/ring/x.cc", "*w.policy_address() = 1;"), ("tools/x.cc", "w.policy_address()")),
         good=(("src/wait/futex.cc", "futex(w.policy_address())"), ("tests/x.h", "w.policy_address()")),
         allow=(("include/slipring/base/shared_access.h", "defines it"),
                ("include/slipring/wait/", "the kernel takes the address of a futex word"),
                ("src/wait/", "the kernel takes the address of a futex word"),
                ("tests/", "Access policies of the tests, and pokes at bytes"),
                ("fuzz/", "Access policies of the fuzz targets"))),
    Rule("futex", r"\bSYS_futex\w*|\b__NR_futex\w*|\bFUTEX\w*_\w+|<linux/futex\.h>", PRODUCT,
         "use a doorbell (include/slipring/wait)",
         bad=(("src/ring/x.cc", "syscall(SYS_futex, p, FUTEX_WAKE)"),
              ("tools/x.cc", "#include <linux/futex.h>"), ("src/channel/x.cc", "SYS_futex_waitv")),
         good=(("src/wait/futex.cc", "syscall(SYS_futex, p)"),
               ("include/slipring/wait/doorbell.h", "///   P5  FUTEX_WAKE(bell)")),
         allow=(("src/wait/", "doorbells are made there"),)),
    Rule("makers of shared memory", r"\b(?:shm_open|shmget|memfd_create)\s*\(|\bO_TMPFILE\b", PRODUCT,
         "create and open segments through segment/segment.h (creation order, room reserved)",
         bad=(("src/ring/x.cc", "shm_open(n, 0, 0)"), ("tools/x.cc", "::shmget (k, 1, 0)"),
              ("src/channel/x.cc", "open(p, O_TMPFILE | O_RDWR)"),
              ("src/channel/x.cc", "memfd_create(n, 0)")),
         good=(("src/segment/posix.cc", "shm_open(n, 0, 0)"),
               ("tools/x.cc", 'explain("shm_open(3)");'), ("tests/x.cc", "shm_open(n, 0, 0)")),
         allow=(("src/segment/", "backends are made there"),)),
    Rule("clocks", r"\bCLOCK_(?!MONOTONIC\b|\w+_CPUTIME_ID\b)[A-Z]\w*|\bsystem_clock\b"
         r"|\bhigh_resolution_clock\b|\bgettimeofday\b|::time\s*\(|\btime\s*\(\s*(?:NULL|nullptr|0)\s*\)",
         CODE, "CLOCK_MONOTONIC through base/deadline.h: wall time jumps",
         bad=(("src/wait/x.cc", "clock_gettime(CLOCK_REALTIME, &t);"),
              ("tests/x.cc", "std::chrono::system_clock::now()"), ("tests/x.cc", "time(nullptr)"),
              ("bench/x.cc", "CLOCK_MONOTONIC_RAW"),
              ("src/segment/x.cc", "CLOCK_REALTIME; CLOCK_REALTIME")),
         good=(("src/base/deadline.cc", "clock_gettime(CLOCK_MONOTONIC, &t);"),
               ("src/segment/x.cc", "clock_gettime(CLOCK_REALTIME, &t);"),
               ("tests/x.cc", "CLOCK_PROCESS_CPUTIME_ID")),
         at_most=(("src/segment/", 1, "a segment says for people when it was created"),
                  ("tools/", 1, "and ls says how long ago that was"))),
    Rule("one clock, one place", r"\bclock_gettime\b|\bsteady_clock\b", PRODUCT,
         "monotonic_ns() and Deadline of base/deadline.h",
         bad=(("src/wait/x.cc", "clock_gettime(CLOCK_MONOTONIC, &t);"),
              ("include/slipring/wait/x.h", "std::chrono::steady_clock::now()")),
         good=(("src/base/deadline.cc", "clock_gettime(CLOCK_MONOTONIC, &t);"),
               ("tests/x.cc", "std::chrono::steady_clock::now()")),
         allow=(("src/base/deadline.cc", "it is the place"),),
         at_most=(("src/segment/", 1, "creation time, as above"), ("tools/", 1, "age, as above"))),
    Rule("waits by the wall clock", r"\bsem_timedwait\b|\bpthread_\w+_timed\w*lock\b", PRODUCT,
         "sem_clockwait, pthread_mutex_clocklock with CLOCK_MONOTONIC",
         bad=(("src/wait/posix_sem.cc", "sem_timedwait(s, &t)"),
              ("src/wait/condvar.cc", "pthread_mutex_timedlock(m, &t)")),
         good=(("src/wait/posix_sem.cc", "sem_clockwait(s, CLOCK_MONOTONIC, &t)"),)),
    Rule("printing", r"\b(?:v?f?printf|puts|fputs|putchar|fputc|perror)\s*\(|\bstd::(?:cout|cerr|clog)\b"
         r"|\b(?:std::|fmt::)print(?:ln)?\s*\(", LIBRARY,
         "return an Error; only tools and bench print",
         bad=(("src/ring/x.cc", 'std::fprintf(stderr, "x");'), ("src/ring/x.cc", "std::cerr << 1;"),
              ("include/slipring/ring/x.h", 'printf("x");'), ("src/base/x.cc", 'fmt::print("x");')),
         good=(("src/base/x.cc", "std::snprintf(b, n, f);"), ("tools/x.cc", 'std::printf("x");'))),
    Rule("ends of the process",
         r"\bthrow\b|(?<![\w.>:])(?:std::|::)(?:abort|exit|_exit|_Exit|quick_exit|terminate)\s*\("
         r"|(?<![\w.>:])(?:exit|_exit|_Exit|quick_exit)\s*\(",
         LIBRARY, "return an Error: the library neither throws nor exits",
         bad=(("src/ring/x.cc", "throw 1;"), ("src/ring/x.cc", "std::abort();"),
              ("src/ring/x.cc", "if (bad) ::_exit(1);")),
         good=(("src/ring/x.cc", "claim.abort();"), ("src/ring/x.cc", "void commit() noexcept;"),
               ("tests/x.cc", "std::abort();"), ("src/ring/x.cc", "producer->abort();"),
               ("src/ring/x.cc", "void LaneProducer<Access>::abort() noexcept {"),
               ("src/ring/x.cc", "if (open_.is_open) abort();"),
               ("include/slipring/ring/x.h", "void abort() noexcept;"))),
    Rule("paths of one machine", r"(?<![\w/.])/(?:root|work|Users|home/\w+)(?:/|\b(?=[\s\"']))", ("",),
         "a path relative to the repository, or a temporary directory",
         bad=(("docs/x.md", "see /" "root/x"), ("src/x.cc", "// lies in /" "work/shared"),
              (".ci/x.py", "open('/home/me/x')")),
         good=(("docs/x.md", "--root /proc/PID/root/dev/shm"), ("docs/x.md", "/dev/shm/name")),
         whole_text=True),
    Rule("words that are not about slipring",
         r"(?i)\b(?:language model|LLMs?|chatbot|(?:AI|coding)[- ]assistants?)\b|\bFIXME\b|\bXXX\b", ("",),
         "say what the code does; open points belong in the tracker",
         bad=(("docs/x.md", "asked an AI assistant"), ("src/x.cc", "// FIXME later")),
         good=(("docs/x.md", "claim, commit, abort"), ("src/x.cc", 'mkstemp("/dev/shm/aXXXXXX")')),
         whole_text=True),
]
# Rules about text would find themselves in their own definition.
NOT_TEXT = (".ci/check_tokens.py",)
TEXT_SUFFIXES = {".h", ".cc", ".md", ".py", ".sh", ".txt", ".build", ".in", ".cmake", ".yml", ".pml", ""}


def blank(found):
    return re.sub(r"[^\n]", " ", found[0])


TO_STRIP = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^()\\\s]*)\(.*?\)(?P=d)"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')


def code_of(text):
    """The text without comments and literals; lines and columns stay. Include lines stay, too."""
    out, at = [], 0
    token = re.compile(rf"(?P<s>{STRING.pattern})|{TO_STRIP.pattern}", re.S)
    for found in token.finditer(text):
        out.append(text[at:found.start()])
        line_start = text.rfind("\n", 0, found.start()) + 1
        include = text[line_start:found.start()].lstrip().startswith("#")
        out.append(found[0] if include and found["s"] else blank(found))
        at = found.end()
    return "".join(out) + text[at:]


def findings(rule, path, text):
    if not path.startswith(rule.where) or path.startswith(tuple(p for p, _ in rule.allow)):
        return []
    if rule.whole_text:
        text = "" if path in NOT_TEXT else text
    else:
        text = code_of(text)
    return [(path, text[:m.start()].count("\n") + 1, m[0]) for m in rule.regex.finditer(text)]


def check_texts(texts, rules=RULES):
    wrong = []
    for rule in rules:
        found = [f for path, text in texts for f in findings(rule, path, text)]
        for prefix, count, _ in rule.at_most:
            inside = [f for f in found if f[0].startswith(prefix)]
            if len(inside) <= count:
                found = [f for f in found if f not in inside]
        wrong += [f"{path}:{line}: {rule.name}: {word.strip()}: {rule.instead}"
                  for path, line, word in found]
    return wrong


def repository():
    skip = re.compile(r"^(?:\.git|build[^/]*|\.cache)(?:/|$)|(?:^|/)corpus/|^LICENSE$|/__pycache__/")
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if skip.search(name) or not path.is_file() or path.suffix not in TEXT_SUFFIXES:
            continue
        yield name, path.read_text(errors="replace")


def self_test():
    for rule in RULES:
        for path, text in rule.bad:
            assert check_texts([(path, text)], [rule]), f"{rule.name}: missed {text!r} in {path}"
        for path, text in rule.good:
            found = check_texts([(path, text)], [rule])
            assert not found, f"{rule.name}: {text!r} in {path}: {found}"
        for path, reason in (entry[::len(entry) - 1] for entry in rule.allow + rule.at_most):
            assert reason, f"{rule.name}: exception {path} has no reason"


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    else:
        texts = list(repository())
        assert any(name.startswith("src/") for name, _ in texts), "no source found"
        wrong = check_texts(texts)
        print("".join(f"{line}\n" for line in wrong), end="")
        sys.exit(1 if wrong else 0)
