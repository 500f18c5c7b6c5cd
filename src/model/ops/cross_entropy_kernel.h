// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "core/block_numbers.h"
#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// The loss of each row, -log softmax(logits)[target]; where it `writes_gradient`, that of the
/// losses' sum takes the place of the logits. A block takes a row, and reads it three times.
/// Shapes: logits [num_rows, size], targets, losses [num_rows].
/// Registers: at most 32, occupancy 1.00.
template <typename T>
struct CrossEntropyKernel {
  static constexpr int kNumThreads = 512;
  static constexpr int kNumPhases = 5;
  struct Shared {
    BlockNumbers<float, kNumThreads> maxima;
    BlockNumbers<double, kNumThreads> sums;
    float own;  // The target's logit.
  };

  T* logits;
  const int64_t* targets;
  float* losses;
  int64_t num_rows, size;
  bool writes_gradient;

  int64_t num_blocks() const { return num_rows; }

  TEMPER_HOST_DEVICE void run(int phase, GridPlace place, Shared& shared) const {
    T* const row = logits + place.block * size;
    const uint32_t thread = place.thread;
    const auto larger = [](float a, float b) { return a > b ? a : b; };
    const auto sum = [](double a, double b) { return a + b; };
    if (phase == 0) shared.maxima.numbers[thread] = largest(row, thread);
    if (phase == 1) shared.maxima.narrow(thread, larger);
    if (phase == 2) {
      shared.sums.numbers[thread] = sum_of_powers(row, thread, shared.maxima.total(larger));
      if (thread == 0) shared.own = to_float(row[targets[place.block]]);
    }
    if (phase == 3) shared.sums.narrow(thread, sum);
    if (phase == 4) {
      const float maximum = shared.maxima.total(larger);
      const auto all = static_cast<float>(shared.sums.total(sum));
      if (thread == 0) losses[place.block] = maximum + std::log(all) - shared.own;
      if (writes_gradient) write_gradient(row, place, maximum, 1.0F / all);
    }
  }

 private:
  static constexpr int64_t kStep = int64_t{kNumThreads} * Chunk<T>::kSize;

  TEMPER_HOST_DEVICE float largest(const T* row, uint32_t thread) const {
    float most = -INFINITY;
    for (int64_t first = thread * Chunk<T>::kSize; first < size; first += kStep) {
      const auto chunk = Chunk<T>::read(row + first, size - first);
      for (int i = 0; i < Chunk<T>::kSize; ++i) {
        if (first + i < size && chunk.numbers[i] > most) most = chunk.numbers[i];
      }
    }
    return most;
  }

  // Many small terms beside few large ones: in fp32 they would be rounded away.
  TEMPER_HOST_DEVICE double sum_of_powers(const T* row, uint32_t thread, float maximum) const {
    double sum = 0.0;
    for (int64_t first = thread * Chunk<T>::kSize; first < size; first += kStep) {
      const auto chunk = Chunk<T>::read(row + first, size - first);
      float part = 0.0F;
      for (int i = 0; i < Chunk<T>::kSize; ++i) {
        if (first + i < size) part += std::exp(chunk.numbers[i] - maximum);
      }
      sum += part;
    }
    return sum;
  }

  TEMPER_HOST_DEVICE void write_gradient(T* row, GridPlace place, float maximum,
                                         float factor) const {
    const int64_t target = targets[place.block];
    for (int64_t first = place.thread * Chunk<T>::kSize; first < size; first += kStep) {
      auto chunk = Chunk<T>::read(row + first, size - first);
      for (int i = 0; i < Chunk<T>::kSize; ++i) {
        const float share = std::exp(chunk.numbers[i] - maximum) * factor;
        chunk.numbers[i] = first + i == target ? share - 1.0F : share;
      }
      chunk.write(row + first, size - first);
    }
  }
};

}  // namespace temper
