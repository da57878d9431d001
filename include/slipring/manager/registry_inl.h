// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "slipring/base/role.h"
#include "slipring/manager/registry.h"

// The algorithm of a registry over the bytes of one segment: kRegistryBytes of entries, zero when
// new. Who calls it holds the segment's lock, or can do without; see each function.
namespace slipring::manager::detail {

/// Errors: invalid_argument  as Registry::enroll.
[[nodiscard]] Result<DescriptionWords> encode_description(const Attachment& what,
                                                          std::int64_t since_ns);
/// Into `what` and `since_ns` of `row`.
/// Errors: corrupt  a value that encode_description does not give.
[[nodiscard]] Result<void> decode_description(const DescriptionWords& words, RegistryRow& row);

/// E2.
[[nodiscard]] std::uint64_t description_checksum(std::uint64_t role_bits,
                                                 const DescriptionWords& words) noexcept;

/// The living that were met in one pass: a process may hold hundreds of entries, and the kernel is
/// asked about it once. All that identifies a process is compared, so nobody is taken for another.
class LivingHolders {
 public:
  struct Known {
    ProcessToken token;
    bool stopped = false;
  };
  [[nodiscard]] const Known* find(const ProcessToken& token) const noexcept;
  const Known& add(const ProcessToken& token) noexcept;

 private:
  std::array<Known, 16> known_;  // the oldest goes first
  std::size_t added_ = 0;
};

[[nodiscard]] inline RegistryEntry& entry_at(std::span<std::byte> table,
                                             std::uint32_t entry) noexcept {
  return reinterpret_cast<RegistryEntry*>(table.data())[entry];
}
[[nodiscard]] inline std::uint32_t entries_in(std::span<std::byte> table) noexcept {
  return static_cast<std::uint32_t>(table.size() / sizeof(RegistryEntry));
}
[[nodiscard]] inline SharedWord<std::uint64_t>& description_word(const RegistryEntry& entry,
                                                                 std::size_t index) noexcept {
  auto* area = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(&entry.description));
  return word_at<std::uint64_t>(area, index * 8);
}

/// Whom a word that says `held` names, as far as it can be told.
struct HolderFound {
  Holder state = Holder::alive;
  std::optional<ProcessToken> token;  ///< The holder's own.
};

template <typename Access>
[[nodiscard]] HolderFound look_at_holder(RegistryEntry& entry, const RoleWord& word,
                                         LivingHolders& living) noexcept {
  HolderFound found;
  const auto token = load_token<Access>(entry.token);
  if (token && token->pid == word.pid && token->generation == word.generation) {
    found.token = *token;
    if (const LivingHolders::Known* known = living.find(*token)) {
      found.state = known->stopped ? Holder::stopped : Holder::alive;
      return found;
    }
  }
  RoleWatch watch;
  if (watch.look<Access>({entry.role, entry.token}) == RoleWatch::Peer::dead) {
    found.state = Holder::dead;
  } else if (found.token) {
    found.state = living.add(*token).stopped ? Holder::stopped : Holder::alive;
  }
  return found;
}

/// Says `words` in the name of the holder that `role_bits` names (E2).
template <typename Access>
void store_description(RegistryEntry& entry, std::uint64_t role_bits,
                       const DescriptionWords& words) noexcept {
  const auto raw = std::bit_cast<std::array<std::uint64_t, kDescriptionWords>>(words);
  for (std::size_t i = 0; i < raw.size(); ++i) {
    Access::store_relaxed(description_word(entry, i), raw[i]);
  }
  // SYNC registry.describe (release -> acquire in load_description):
  //   the description is visible to whoever sees its checksum. Killed before: held by the dead, and
  //   not described.
  Access::store_release(entry.checksum, description_checksum(role_bits, words));
}

/// Errors: corrupt  E3.
template <typename Access>
[[nodiscard]] Result<DescriptionWords> load_description(RegistryEntry& entry,
                                                        std::uint64_t role_bits) noexcept {
  // SYNC registry.describe (acquire <- release in store_description): see there.
  const std::uint64_t checksum = Access::load_acquire(entry.checksum);
  std::array<std::uint64_t, kDescriptionWords> raw;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    raw[i] = Access::load_relaxed(description_word(entry, i));
  }
  const auto words = std::bit_cast<DescriptionWords>(raw);
  // TRUST E2: a checksum of another holder, or of half a description.
  if (checksum != description_checksum(role_bits, words)) {
    return fail(Errc::corrupt, 0, "registry: description");
  }
  return words;
}

/// Takes an entry and describes it: one that is free; else one of the dead, who are then no longer
/// listed. Under the lock, so that the segment is not removed meanwhile.
/// Errors: full  the living hold all of them.
/// Orders: role.take, registry.describe.
template <typename Access = NativeAccess>
[[nodiscard]] Result<TakenEntry> take_entry(std::span<std::byte> table,
                                            const DescriptionWords& words) noexcept {
  LivingHolders living;
  // Entries of the dead come last: they tell whoever looks what was lost.
  for (const bool from_the_dead : {false, true}) {
    for (std::uint32_t i = 0; i < entries_in(table); ++i) {
      RegistryEntry& entry = entry_at(table, i);
      const RoleWord seen = RoleWord::decode(Access::load_acquire(entry.role));
      if (seen.state == RoleWord::State::held &&
          (!from_the_dead || look_at_holder<Access>(entry, seen, living).state != Holder::dead)) {
        continue;
      }
      const auto taken = take_role<Access>({entry.role, entry.token});
      if (!taken) continue;
      const ProcessToken self = self_token();
      const RoleWord mine{RoleWord::State::held, self.pid, pid_scope(self), taken->generation};
      store_description<Access>(entry, mine.encode(), words);
      return TakenEntry{i, taken->generation};
    }
  }
  return fail(Errc::full, 0, "registry: entries");
}

/// Gives an entry back. What it said stays, and is of nobody. With or without the lock.
/// Orders: role.take.
template <typename Access = NativeAccess>
void leave_entry(std::span<std::byte> table, TakenEntry taken) noexcept {
  RegistryEntry& entry = entry_at(table, taken.entry);
  leave_role<Access>({entry.role, entry.token}, taken.generation);
}

/// True when nobody alive holds an entry. Under the lock it stays so until that is given up.
template <typename Access = NativeAccess>
[[nodiscard]] bool is_deserted(std::span<std::byte> table) noexcept {
  LivingHolders nobody;
  for (std::uint32_t i = 0; i < entries_in(table); ++i) {
    RegistryEntry& entry = entry_at(table, i);
    const RoleWord word = RoleWord::decode(Access::load_acquire(entry.role));
    if (word.state == RoleWord::State::held &&
        look_at_holder<Access>(entry, word, nobody).state != Holder::dead) {
      return false;
    }
  }
  return true;
}

/// Frees what the dead hold. Killed in between, the entry is held by the dead reaper. With or
/// without the lock; several at once free each entry once.
/// Orders: role.take.
template <typename Access = NativeAccess>
[[nodiscard]] std::uint32_t reap_entries(std::span<std::byte> table) noexcept {
  std::uint32_t freed = 0;
  LivingHolders living;
  for (std::uint32_t i = 0; i < entries_in(table); ++i) {
    RegistryEntry& entry = entry_at(table, i);
    const RoleWord word = RoleWord::decode(Access::load_acquire(entry.role));
    if (word.state != RoleWord::State::held ||
        look_at_holder<Access>(entry, word, living).state != Holder::dead) {
      continue;
    }
    const RoleRef role{entry.role, entry.token};
    const auto taken = take_role<Access>(role);
    if (!taken) continue;
    leave_role<Access>(role, taken->generation);
    // Somebody enrolled and left between our looks: then there was nothing to free any more.
    if (taken->before == RoleWord::State::held) ++freed;
  }
  return freed;
}

/// Adds what the entries say to `view`. Without the lock, and on a read-only mapping.
/// Orders: role.take, registry.describe.
template <typename Access = NativeAccess>
void read_entries(std::span<std::byte> table, std::uint32_t registry, RegistryView& view) {
  LivingHolders living;
  for (std::uint32_t i = 0; i < entries_in(table); ++i) {
    RegistryEntry& entry = entry_at(table, i);
    // SYNC role.take (acquire <- release in leave_role): what is held is no older than its word.
    const std::uint64_t bits = Access::load_acquire(entry.role);
    const RoleWord word = RoleWord::decode(bits);
    if (word.state == RoleWord::State::vacant || word.state == RoleWord::State::left) continue;
    RegistryRow row;
    const auto words = load_description<Access>(entry, bits);
    const bool sound =
        word.state == RoleWord::State::held && words && decode_description(*words, row).has_value();
    if (sound) {
      const HolderFound holder = look_at_holder<Access>(entry, word, living);
      row.holder = holder.state;
      row.pid = word.pid;
      if (holder.token) row.command = holder.token->command;
      row.registry = registry;
      row.entry = i;
    }
    // It changed hands while we looked: what we saw was of two holders, and neither is shown.
    if (Access::load_acquire(entry.role) != bits) continue;
    if (sound) {
      view.rows.push_back(std::move(row));
    } else {
      ++view.unreadable;
    }
  }
}

}  // namespace slipring::manager::detail
