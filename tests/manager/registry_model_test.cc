// SPDX-License-Identifier: Apache-2.0
// Random comings, goings and deaths against a model that is a map. RC_PARAMS="seed=..." replays
// what rapidcheck printed.
#include <rapidcheck.h>
#include <map>
#include <set>

#include "registry_fixture.h"

namespace slipring::manager {
namespace {

using Place = std::pair<std::uint32_t, std::uint32_t>;  // segment, entry

struct Known {
  Attachment what;
  std::optional<Enrolment> enrolled;  ///< Of this process. Nothing: of one that was killed.
  [[nodiscard]] bool dead() const { return !enrolled; }
};

class Model {
 public:
  explicit Model(segment::Places places) : places_(std::move(places)), kept_(places_) {}

  void step() {
    switch (*rc::gen::inRange(0, 10)) {
      case 0:
      case 1:
      case 2:
      case 3: enroll(); break;
      case 4:
      case 5: leave(); break;
      case 6: move(); break;
      case 7:
      case 8: enroll_and_die(); break;
      default: reap();
    }
    check();
  }
  /// So many that the first segment is nearly full.
  void crowd(std::uint32_t count) {
    while (count-- > 0) enroll();
    check();
  }
  void end() {
    while (!known_.empty()) {
      const auto it = known_.begin();
      if (it->second.dead()) {
        reap();
      } else {
        leave(it);
      }
      if (known_.size() % 32 == 0) check();
    }
    RC_ASSERT(segment::entries(places_.shm).empty());
  }

 private:
  using Entries = std::map<Place, Known>;

  // The lowest free place; of a segment without one, the lowest of the dead.
  [[nodiscard]] Place next_place() const {
    for (std::uint32_t registry = 0;; ++registry) {
      std::optional<std::uint32_t> of_the_dead;
      for (std::uint32_t i = 0; i < kRegistryEntries; ++i) {
        const auto there = known_.find({registry, i});
        if (there == known_.end()) return {registry, i};
        if (there->second.dead() && !of_the_dead) of_the_dead = i;
      }
      if (of_the_dead) return {registry, *of_the_dead};
    }
  }
  void enroll() {
    const Attachment what = attachment(numbers_++);
    const Place place = next_place();
    auto enrolled = (numbers_ % 2 == 0 ? kept_ : Registry(places_)).enroll(what);
    RC_ASSERT(enrolled.has_value());
    RC_ASSERT(Place(enrolled->registry(), enrolled->entry()) == place);
    Known known{what, {}};
    known.enrolled.emplace(std::move(*enrolled));
    known_.insert_or_assign(place, std::move(known));
  }
  void enroll_and_die() {
    const Attachment what = attachment(numbers_++);
    const Place place = next_place();
    Child child([&] {
      const auto enrolled = (numbers_ % 2 == 0 ? kept_ : Registry(places_)).enroll(what);
      ::_exit(enrolled ? 0 : 1);  // without leaving: as if it were killed
      return 1;
    });
    RC_ASSERT(child.wait().exited_with(0));
    known_.insert_or_assign(place, Known{what, {}});
  }
  Entries::iterator any_of_the_living() {
    std::vector<Entries::iterator> fitting;
    for (auto it = known_.begin(); it != known_.end(); ++it) {
      if (!it->second.dead()) fitting.push_back(it);
    }
    if (fitting.empty()) return known_.end();
    return fitting[*rc::gen::inRange<std::size_t>(0, fitting.size())];
  }
  bool is_anybody_alive_in(std::uint32_t registry) const {
    return std::ranges::any_of(known_, [registry](const auto& entry) {
      return entry.first.first == registry && !entry.second.dead();
    });
  }
  void forget(std::uint32_t registry) {
    std::erase_if(known_, [registry](const auto& entry) { return entry.first.first == registry; });
  }
  void leave() { leave(any_of_the_living()); }
  void leave(Entries::iterator it) {
    if (it == known_.end()) return;
    Enrolment enrolled = std::move(*it->second.enrolled);
    const std::uint32_t registry = it->first.first;
    known_.erase(it);
    const bool last = !is_anybody_alive_in(registry);
    RC_ASSERT(enrolled.leave() == (last ? Enrolment::Left::removed : Enrolment::Left::kept));
    if (last) forget(registry);
  }
  void move() {
    const auto it = any_of_the_living();
    if (it == known_.end()) return;
    Enrolment moved = std::move(*it->second.enrolled);
    it->second.enrolled.emplace(std::move(moved));
  }
  void reap() {
    std::set<std::uint32_t> registries;
    std::uint32_t dead = 0, removed = 0;
    for (const auto& [place, known] : known_) {
      registries.insert(place.first);
      dead += known.dead() ? 1u : 0u;
    }
    std::erase_if(known_, [](const auto& entry) { return entry.second.dead(); });
    for (const std::uint32_t registry : registries) {
      removed += is_anybody_alive_in(registry) ? 0u : 1u;
    }
    const auto reaped = kept_.reap();
    RC_ASSERT(reaped.has_value());
    RC_ASSERT(reaped->entries == dead);
    RC_ASSERT(reaped->registries == removed);
  }
  void check() {
    const auto view = kept_.look();
    RC_ASSERT(view.has_value());
    RC_ASSERT(view->unreadable == 0u);
    RC_ASSERT(view->rows.size() == known_.size());
    std::set<std::uint32_t> registries;
    for (const RegistryRow& row : view->rows) {
      const auto it = known_.find({row.registry, row.entry});
      RC_ASSERT(it != known_.end());
      RC_ASSERT(row.what == it->second.what);
      RC_ASSERT((row.holder == Holder::dead) == it->second.dead());
      registries.insert(row.registry);
    }
    RC_ASSERT(segment::entries(places_.shm).size() == registries.size());
  }

  segment::Places places_;
  Registry kept_;
  Entries known_;
  std::uint32_t numbers_ = 0;
};

TEST_F(Registries, BehaveAsAMapOfWhoIsWhere) {
  const Watchdog watchdog(200, "registry model");
  EXPECT_TRUE(rc::check("a registry is a map of who is where", [&] {
    Model model(places_);
    if (*rc::gen::inRange(0, 8) == 0) model.crowd(*rc::gen::inRange(250u, 258u));
    const int steps = *rc::gen::inRange(1, 40);
    for (int i = 0; i < steps; ++i) model.step();
    model.end();
  }));
}

}  // namespace
}  // namespace slipring::manager
