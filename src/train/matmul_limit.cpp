// SPDX-License-Identifier: Apache-2.0
#include "train/matmul_limit.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/clock.h"
#include "model/linear_modules.h"

namespace temper {
namespace {

int64_t block_elements(const ModelConfig& config) {
  int64_t total = 0;
  for (const ProductSize& shape : product_sizes(config)) total += shape.out * shape.in;
  return total;
}

// num_products(layout, user): with each matrix of a unit.
template <typename NumProducts>
double flop_of(const Decoder& decoder, int64_t num_tokens, int64_t num_targets,
               NumProducts num_products) {
  constexpr double kPerProduct = 2.0;
  const int head = decoder.num_users() - 1;
  double flop = 0.0;
  for (int unit = 0; unit < decoder.num_units(); ++unit) {
    const UnitLayout& layout = decoder.units()[static_cast<size_t>(unit)];
    const bool is_embedding = decoder.user_of(unit) == 0;
    if (is_embedding && !decoder.config().has_tied_head) continue;
    const int user = is_embedding ? head : decoder.user_of(unit);
    const int64_t rows = user == head ? num_targets : num_tokens;
    const int count = num_products(layout, user);
    for (const TensorSlot& slot : layout.slots()) {
      if (!slot.is_matrix()) continue;
      flop += kPerProduct * count * static_cast<double>(slot.num_elements() * rows) *
              share_of_tokens(decoder.config(), slot.name);
    }
  }
  return flop;
}

}  // namespace

MatmulLimit measure_matmul_limit(const ModelConfig& config, int64_t tokens, at::ScalarType dtype,
                                 at::Device device) {
  constexpr double kSecondsAtLeast = 0.1;
  const auto options = at::TensorOptions().dtype(dtype).device(device);
  double best_seconds = 1e30;
  const Stopwatch whole;
  for (int round = 0; round < 3 || (whole.seconds() < kSecondsAtLeast && round < 50); ++round) {
    double seconds = 0.0;
    for (const ProductSize& shape : product_sizes(config)) {
      const at::Tensor x = at::ones({tokens, shape.in}, options);
      const at::Tensor y = at::ones({tokens, shape.out}, options);
      const at::Tensor w = at::ones({shape.out, shape.in}, options);
      const Stopwatch watch;
      at::mm(x, w.t());
      at::mm(y, w);
      const at::Tensor last = at::mm(y.t(), x);
      if (!device.is_cpu()) last.select(0, 0).cpu();  // Waits for the device.
      seconds += watch.seconds();
    }
    best_seconds = std::min(best_seconds, seconds);
  }
  const double flop = 6.0 * static_cast<double>(block_elements(config) * tokens);
  return {flop / best_seconds};
}

double linear_flop(const Decoder& decoder, bool has_adapter, int64_t num_tokens,
                   int64_t num_targets) {
  const int lowest = decoder.lowest_trained();
  return flop_of(decoder, num_tokens, num_targets, [&](const UnitLayout& layout, int user) {
    const bool is_trained = layout.is_trained() && !has_adapter;
    return 1 + (user >= lowest ? 1 : 0) + (is_trained ? 1 : 0);
  });
}

double forward_flop(const Decoder& decoder, int64_t num_tokens, int64_t num_targets) {
  return flop_of(decoder, num_tokens, num_targets, [](const UnitLayout&, int) { return 1; });
}

}  // namespace temper
