// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace temper {

/// Four random words that depend on the key and the counter alone, so that any rank can draw any
/// number without having drawn those before it.
///
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox 4x32-10).
std::array<uint32_t, 4> philox(uint64_t key, std::array<uint32_t, 4> counter);

/// The words of counters that follow each other, as `philox` gives them, many at a time.
///
/// Shapes: words [4 * n], of the counters {low half, high half, upper[0], upper[1]} of the numbers
///   first, first + 1, ….
/// Throws: std::invalid_argument unless there are four words for each counter.
void philox_run(uint64_t key, uint64_t first, std::array<uint32_t, 2> upper,
                std::span<uint32_t> words);

/// A key for what has this name, from the seed of a run.
uint64_t random_key(uint64_t seed, std::string_view name);

/// One 64-bit word for (key, index).
uint64_t random_word(uint64_t key, uint64_t index);

/// A number in [0, 1) with 53 random bits for (key, index).
double random_uniform(uint64_t key, uint64_t index);

/// A pseudo-random permutation of [0, size) by arithmetic: any position in O(1), nothing stored.
///
/// Source: a balanced Feistel network over the next power of four, with cycle walking (Black and
///   Rogaway, "Ciphers with arbitrary finite domains", 2002); at most four tries on average.
class ArithmeticPermutation {
 public:
  /// Throws: std::invalid_argument unless 1 <= size <= 2^62.
  ArithmeticPermutation(int64_t size, uint64_t key);

  int64_t size() const { return size_; }

  /// Where position `index` of the permuted order comes from. 0 <= index < size.
  int64_t operator()(int64_t index) const;

 private:
  uint64_t encrypt(uint64_t value) const;

  int64_t size_;
  uint64_t key_;
  int half_bits_;  // Each half of the Feistel network has so many bits.
};

}  // namespace temper
