// SPDX-License-Identifier: Apache-2.0
#include "zero/host_cache.h"

#include <boost/test/unit_test.hpp>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace temper {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Writes all of a block, so that blocks that overlap are found out.
void fill(const c10::DataPtr& block, size_t num_bytes, int value) {
  std::memset(block.get(), value, num_bytes);
}

bool is_filled(const c10::DataPtr& block, size_t num_bytes, int value) {
  const auto* bytes = static_cast<const unsigned char*>(block.get());
  for (size_t i = 0; i < num_bytes; i += 4096) {
    if (bytes[i] != value) return false;
  }
  return bytes[num_bytes - 1] == value;
}

struct Held {
  c10::DataPtr block;
  size_t bytes;
  int value;
};

// Takes and frees blocks of random sizes; each must keep what was written to it.
void use_at_random(HostCache& cache, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Held> held;
  for (int i = 0; i < 300; ++i) {
    if (held.size() > 6 || (!held.empty() && random() % 2 == 0)) {
      const size_t which = random() % held.size();
      BOOST_REQUIRE(is_filled(held[which].block, held[which].bytes, held[which].value));
      held.erase(held.begin() + static_cast<int64_t>(which));
    } else {
      const size_t bytes = 1 + random() % (4 * kMiB);
      held.push_back({cache.allocate(bytes), bytes, i % 251});
      fill(held.back().block, bytes, i % 251);
    }
  }
}

BOOST_AUTO_TEST_SUITE(host_cache)

BOOST_AUTO_TEST_CASE(a_freed_block_is_used_again) {
  HostCache cache;
  const void* first = cache.allocate(6 * kMiB).get();
  BOOST_TEST(cache.allocate(6 * kMiB - 1000).get() == first);
  BOOST_TEST(cache.mapped_bytes() == 6 * kMiB);
}

// As what blocks have kept for their backward passes and then their gradients.
BOOST_AUTO_TEST_CASE(small_blocks_become_a_big_one_and_small_ones_again) {
  HostCache cache;
  const void* big = cache.allocate(8 * kMiB).get();
  for (int round = 0; round < 3; ++round) {
    std::vector<c10::DataPtr> small;
    for (const size_t size : {2, 1, 3, 2}) small.push_back(cache.allocate(size * kMiB));
    for (const int which : {1, 3, 0, 2}) small[static_cast<size_t>(which)].clear();
    BOOST_TEST(cache.allocate(8 * kMiB).get() == big);
  }
  BOOST_TEST(cache.mapped_bytes() == 8 * kMiB);
}

BOOST_AUTO_TEST_CASE(the_smallest_place_that_suffices_is_taken) {
  HostCache cache;
  c10::DataPtr wide = cache.allocate(6 * kMiB);
  const c10::DataPtr between = cache.allocate(2 * kMiB);
  c10::DataPtr narrow = cache.allocate(4 * kMiB);
  const c10::DataPtr after = cache.allocate(2 * kMiB);
  const void* place = narrow.get();
  wide.clear();
  narrow.clear();
  BOOST_TEST(cache.allocate(3 * kMiB).get() == place);
}

BOOST_AUTO_TEST_CASE(what_was_free_longest_makes_room) {
  HostCache cache;
  const c10::DataPtr rest = cache.allocate(200 * kMiB);
  c10::DataPtr old = cache.allocate(6 * kMiB);
  const c10::DataPtr between = cache.allocate(2 * kMiB);
  c10::DataPtr recent = cache.allocate(6 * kMiB);
  const c10::DataPtr after = cache.allocate(2 * kMiB);
  const void* recent_place = recent.get();
  old.clear();
  recent.clear();
  const c10::DataPtr other = cache.allocate(10 * kMiB);
  BOOST_TEST(cache.mapped_bytes() == (200 + 2 + 6 + 2 + 10) * kMiB);
  BOOST_TEST(cache.allocate(6 * kMiB).get() == recent_place);
}

BOOST_AUTO_TEST_CASE(little_more_is_mapped_than_was_live_at_a_time) {
  HostCache cache;
  std::mt19937 random(7);
  std::vector<c10::DataPtr> held;
  for (int i = 0; i < 2000; ++i) {
    if (held.size() > 20 || (!held.empty() && random() % 2 == 0)) {
      held.erase(held.begin() + static_cast<int64_t>(random() % held.size()));
    } else {
      held.push_back(cache.allocate(kMiB / 2 + random() % (8 * kMiB)));
    }
    BOOST_REQUIRE(cache.mapped_bytes() <=
                  cache.peak_live_bytes() / 64 * 65 + 2 * HostCache::kMappedAtOnce);
  }
}

BOOST_AUTO_TEST_CASE(small_blocks_are_not_cached) {
  HostCache cache;
  constexpr size_t kSmall = HostCache::kSmallestBytes - 1;
  const c10::DataPtr small = cache.allocate(kSmall);
  fill(small, kSmall, 1);
  BOOST_TEST(cache.mapped_bytes() == 0u);
}

// As oneDNN does with the scratch memory of its bfloat16 products.
BOOST_AUTO_TEST_CASE(a_block_is_freed_by_its_address_alone) {
  HostCache cache;
  void* big = cache.raw_allocate(5 * kMiB);
  void* small = cache.raw_allocate(100);
  cache.raw_deallocate(small);
  cache.raw_deallocate(big);
  BOOST_TEST(cache.allocate(5 * kMiB).get() == big);
}

BOOST_AUTO_TEST_CASE(threads_get_blocks_of_their_own) {
  HostCache cache;
  std::vector<std::jthread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&cache, seed] { use_at_random(cache, seed); });
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
