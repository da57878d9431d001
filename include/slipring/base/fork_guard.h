// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace slipring {

/// Calls `disown(object)` in every child of fork() that is made while this lives, before fork()
/// returns there. So an endpoint becomes its parent's alone, at no cost to its hot path.
/// A child made by clone() past the C library's fork, or by vfork(), is not seen.
///
/// `disown` may store to private memory and do nothing else: other threads of the parent may have
/// been inside the object.
/// Threads: any.  Progress: construction and destruction take a process-wide mutex.
class ForkGuard {
 public:
  using Disown = void (*)(void* object) noexcept;
  ForkGuard(void* object, Disown disown) noexcept;
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;
  ~ForkGuard();

 private:
  struct List;
  void* object_;
  Disown disown_;
  ForkGuard* before_ = nullptr;
  ForkGuard* behind_ = nullptr;
};

}  // namespace slipring
