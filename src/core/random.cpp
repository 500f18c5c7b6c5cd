// SPDX-License-Identifier: Apache-2.0
#include "core/random.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/hash.h"
#include "core/philox.h"

namespace temper {

namespace {

constexpr size_t kLanes = 16;  // Counters at a time: what two vectors of AVX2 hold.

}  // namespace

std::array<uint32_t, 4> philox(uint64_t key, std::array<uint32_t, 4> counter) {
  uint32_t one[4][1] = {{counter[0]}, {counter[1]}, {counter[2]}, {counter[3]}};
  philox_mix(key, one);
  return {one[0][0], one[1][0], one[2][0], one[3][0]};
}

void philox_run(uint64_t key, uint64_t first, std::array<uint32_t, 2> upper,
                std::span<uint32_t> words) {
  if (words.size() % 4 != 0) throw std::invalid_argument("philox_run wants four words a counter");
  uint32_t counters[4][kLanes];
  for (size_t done = 0; done < words.size() / 4; done += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) {
      const uint64_t number = first + done + i;
      counters[0][i] = static_cast<uint32_t>(number);
      counters[1][i] = static_cast<uint32_t>(number >> 32);
      counters[2][i] = upper[0];
      counters[3][i] = upper[1];
    }
    philox_mix(key, counters);
    const size_t count = std::min(kLanes, words.size() / 4 - done);
    for (size_t i = 0; i < count; ++i) {
      for (size_t word = 0; word < 4; ++word) words[4 * (done + i) + word] = counters[word][i];
    }
  }
}

uint64_t random_key(uint64_t seed, std::string_view name) {
  const Digest digest = sha256(name);
  uint64_t word = 0;
  std::memcpy(&word, digest.data(), sizeof word);
  return word ^ seed;
}

uint64_t random_word(uint64_t key, uint64_t index) {
  const auto words =
      philox(key, {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0});
  return (static_cast<uint64_t>(words[1]) << 32) | words[0];
}

double random_uniform(uint64_t key, uint64_t index) {
  return static_cast<double>(random_word(key, index) >> 11) * 0x1.0p-53;
}

ArithmeticPermutation::ArithmeticPermutation(int64_t size, uint64_t key)
    : size_(size), key_(key), half_bits_(1) {
  if (size < 1 || size > int64_t{1} << 62) {
    throw std::invalid_argument("a permutation needs 1 to 2^62 elements");
  }
  while (half_bits_ < 31 && (int64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
}

int64_t ArithmeticPermutation::operator()(int64_t index) const {
  auto value = static_cast<uint64_t>(index);
  do {
    value = encrypt(value);
  } while (value >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(value);
}

uint64_t ArithmeticPermutation::encrypt(uint64_t value) const {
  constexpr uint32_t kRounds = 6;  // Four suffice in theory; six leave no visible structure.
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_;
  uint64_t right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const auto words = philox(key_, {static_cast<uint32_t>(right), round, 0, 1});
    const uint64_t mixed = left ^ (words[0] & mask);
    left = right;
    right = mixed;
  }
  return (left << half_bits_) | right;
}

}  // namespace temper
