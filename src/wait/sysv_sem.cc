// SPDX-License-Identifier: Apache-2.0
#include <sys/ipc.h>
#include <sys/sem.h>

#include <utility>

#include "kinds.h"

// Sets of one semaphore, IPC_PRIVATE, mode 0600, made by the sleeper and removed when it detaches;
// what a killed one leaves, its successor removes. Never SEM_UNDO: the kernel would take a ring
// back when its ringer dies.
namespace slipring::wait::detail {
namespace {

union SemArg {
  int value;
  semid_ds* info;
};

// TRUST: the id comes from shared memory. It is used only if it names a private set of one, of
// the age that its maker wrote down: a stranger's semaphore is neither posted to nor removed.
bool is_ours(int id, std::uint64_t proof) noexcept {
  semid_ds info{};
  SemArg arg{};
  arg.info = &info;
  return ::semctl(id, 0, IPC_STAT, arg) == 0 && info.sem_perm.__key == IPC_PRIVATE &&
         info.sem_nsems == 1 && static_cast<std::uint64_t>(info.sem_ctime) == proof;
}

bool add(int id, int amount) noexcept {
  sembuf op{0, static_cast<short>(amount), IPC_NOWAIT};
  return retry_eintr([&] { return ::semop(id, &op, 1); }) == 0;
}

class SysvSemSleep final : public SleepPrimitive {
 public:
  SysvSemSleep(BellStore& store, int id) noexcept : store_(store), id_(id) {}

  void drain() noexcept override {
    const int value = ::semctl(id_, 0, GETVAL);
    if (value > 0) add(id_, -value);  // SETVAL would change the set's age, which proves it ours
  }

  bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
             std::uint64_t& spurious) noexcept override {
    sembuf op{0, -1, 0};
    for (;;) {
      if (moved(seq, seen)) return true;
      const timespec left = left_until(until);
      if (left.tv_sec == 0 && left.tv_nsec == 0) return false;
      if (::semtimedop(id_, &op, 1, &left) == 0) {
        if (!moved(seq, seen)) ++spurious;
      } else if (errno != EINTR && errno != EAGAIN) {
        doze(until);  // somebody removed the set
      }
    }
  }

  void detach() noexcept override {
    clear_store(store_);
    ::semctl(id_, 0, IPC_RMID);
  }

 private:
  BellStore& store_;
  int id_;
};

class SysvSemWake final : public WakePrimitive {
 public:
  explicit SysvSemWake(BellStore& store) noexcept : store_(store) {}

  bool wake(const SharedWord<std::uint32_t>&) noexcept override {
    const auto seen = read_store(store_);
    if (!seen || !*seen || (*seen)->kind != BellKind::sysv_sem) return false;
    const int id = static_cast<int>((*seen)->object);
    if (id != known_id_ || (*seen)->proof != known_proof_) {
      if (id < 0 || !is_ours(id, (*seen)->proof)) return false;
      known_id_ = id;
      known_proof_ = (*seen)->proof;
    }
    if (add(id, 1) || errno == ERANGE) return true;
    known_id_ = -1;
    return false;
  }

 private:
  BellStore& store_;
  int known_id_ = -1;
  std::uint64_t known_proof_ = 0;
};

}  // namespace

void remove_sysv_leftover(const StoreSeen& seen) noexcept {
  const int id = static_cast<int>(seen.object);
  if (id >= 0 && is_ours(id, seen.proof)) ::semctl(id, 0, IPC_RMID);
}

SleepResult make_sysv_sem_sleep(BellStore& store, std::uint16_t generation) noexcept {
  const int id = ::semget(IPC_PRIVATE, 1, 0600);
  if (id < 0) return fail_errno("semget");
  semid_ds info{};
  SemArg arg{};
  arg.info = &info;
  auto made = make_one<SysvSemSleep, SleepPrimitive>(store, id);
  if (!made || ::semctl(id, 0, IPC_STAT, arg) != 0) {
    const int sys = errno;
    ::semctl(id, 0, IPC_RMID);
    return made ? SleepResult(fail(errc_of(sys), sys, "semctl")) : std::move(made);
  }
  // Killed before this line, the set stays behind: `ipcs -s` shows it, nothing names it.
  publish_store(store, BellKind::sysv_sem, generation, static_cast<std::uint64_t>(id),
                static_cast<std::uint64_t>(info.sem_ctime));
  return made;
}

WakeResult make_sysv_sem_wake(BellStore& store) noexcept {
  return make_one<SysvSemWake, WakePrimitive>(store);
}

}  // namespace slipring::wait::detail
