// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/fork_guard.h"

#include <pthread.h>

namespace slipring {

struct ForkGuard::List {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  ForkGuard* first = nullptr;

  static List& all() noexcept {
    static List list;
    static const int registered = ::pthread_atfork(&before, &parent, &child);
    static_cast<void>(registered);  // refused for lack of memory: then nothing is guarded
    return list;
  }

 private:
  // The list is whole at the fork, and the child's own from then on.
  static void before() noexcept { ::pthread_mutex_lock(&all().mutex); }
  static void parent() noexcept { ::pthread_mutex_unlock(&all().mutex); }
  static void child() noexcept {
    List& list = all();
    for (ForkGuard* guard = list.first; guard != nullptr; guard = guard->behind_) {
      guard->disown_(guard->object_);
    }
    ::pthread_mutex_unlock(&list.mutex);
  }
};

ForkGuard::ForkGuard(void* object, Disown disown) noexcept : object_(object), disown_(disown) {
  List& list = List::all();
  ::pthread_mutex_lock(&list.mutex);
  behind_ = list.first;
  if (behind_ != nullptr) behind_->before_ = this;
  list.first = this;
  ::pthread_mutex_unlock(&list.mutex);
}

ForkGuard::~ForkGuard() {
  List& list = List::all();
  ::pthread_mutex_lock(&list.mutex);
  (before_ != nullptr ? before_->behind_ : list.first) = behind_;
  if (behind_ != nullptr) behind_->before_ = before_;
  ::pthread_mutex_unlock(&list.mutex);
}

}  // namespace slipring
