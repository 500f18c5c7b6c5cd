// SPDX-License-Identifier: Apache-2.0
#include "model/ops/embedding.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "model/on_device.h"
#include "model/ops/embedding_kernel.h"
#include "model/ops/kernel_call.h"
#include "model/ops/product.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// Positions with the same token, in order.
struct TokenGroups {
  std::vector<int64_t> positions;  // [T], grouped by token
  std::vector<int64_t> begins;     // [num_groups + 1], into positions

  explicit TokenGroups(const int64_t* tokens, int64_t size) : positions(static_cast<size_t>(size)) {
    std::iota(positions.begin(), positions.end(), int64_t{0});
    std::stable_sort(positions.begin(), positions.end(),
                     [&](int64_t a, int64_t b) { return tokens[a] < tokens[b]; });
    for (size_t i = 0; i < positions.size(); ++i) {
      if (i == 0 || tokens[positions[i]] != tokens[positions[i - 1]]) {
        begins.push_back(static_cast<int64_t>(i));
      }
    }
    begins.push_back(size);
  }
};

template <typename T>
void add_group(T* sum, const T* gradient, std::span<const int64_t> positions, int64_t size,
               RowScratch& scratch) {
  const float* before = read_row(sum, scratch.data(), size);
  float* total = row_buffer(sum, scratch.data());
  if (total != before) std::copy_n(before, size, total);
  for (const int64_t position : positions) {
    const float* row = read_row(gradient + position * size, scratch.data() + size, size);
    for (int64_t i = 0; i < size; ++i) total[i] += row[i];
  }
  write_row(sum, total, size);
}

void add_on_cpu(const at::Tensor& sums, const at::Tensor& gradient, const at::Tensor& tokens) {
  const int64_t* ids = tokens.const_data_ptr<int64_t>();
  const TokenGroups groups(ids, tokens.numel());
  const int64_t size = gradient.size(1);
  const auto num_groups = static_cast<int64_t>(groups.begins.size()) - 1;
  dispatch_dtype(sums.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* to = sums.mutable_data_ptr<T>();
    const T* from = gradient.const_data_ptr<T>();
    at::parallel_for(0, num_groups, 16, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * size);
      for (int64_t group = begin; group < end; ++group) {
        const int64_t first = groups.begins[static_cast<size_t>(group)];
        const int64_t last = groups.begins[static_cast<size_t>(group) + 1];
        const std::span<const int64_t> positions(groups.positions.data() + first,
                                                 static_cast<size_t>(last - first));
        add_group(to + ids[positions[0]] * size, from, positions, size, scratch);
      }
    });
  });
}

[[maybe_unused]] void add_by_kernel(const at::Tensor& sums, const at::Tensor& gradient,
                                    const at::Tensor& sorted, const at::Tensor& order) {
  dispatch_kernel(sums.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_beside(sums, EmbeddingKernel<T>{place_of<T>(sums),
                                           source_of<T>(gradient),
                                           source_of<int64_t>(sorted),
                                           source_of<int64_t>(order),
                                           {static_cast<uint32_t>(sorted.numel()),
                                            static_cast<uint32_t>(sums.size(1))}});
  });
}

// In the order of the positions, too: equal tokens lie side by side in order, each of such groups
// is a row of its own in fp32, and what is added to one row by index_put_ is added in order, also
// by CUDA. Rows that a group's members write back are the same.
void add_by_operators(const at::Tensor& sums, const at::Tensor& gradient,
                      const at::Tensor& tokens) {
  if (tokens.numel() == 0) return;
  const auto [sorted, order] = at::sort(tokens, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  if constexpr (kHasKernels) return add_by_kernel(sums, gradient.contiguous(), sorted, order);
  at::Tensor begins = at::zeros_like(sorted);
  begins.slice(0, 1).copy_(sorted.slice(0, 1).ne(sorted.slice(0, 0, -1)));
  const at::Tensor group = begins.cumsum(0);
  at::Tensor totals = at::zeros({tokens.numel(), sums.size(1)}, sums.options().dtype(at::kFloat));
  totals.index_copy_(0, group, sums.index_select(0, sorted).to(at::kFloat));
  totals.index_put_({group}, gradient.index_select(0, order).to(at::kFloat), /*accumulate=*/true);
  sums.index_copy_(0, sorted, totals.index_select(0, group).to(sums.scalar_type()));
}

}  // namespace

void add_rows_by_token(at::Tensor sums, const at::Tensor& gradient, const at::Tensor& tokens) {
  if (sums.is_cpu()) {
    add_on_cpu(sums, gradient.contiguous(), tokens.contiguous());
  } else {
    add_by_operators(sums, gradient, tokens);
  }
}

// The tokens as a tensor on the device of another one.
at::Tensor TokenRows::index(const at::Tensor& beside) const {
  return on_device(tokens, beside.device());
}

void TokenRows::put_into(at::Tensor matrix) const {
  matrix.index_copy_(0, index(matrix), rows.value().to(matrix.scalar_type()));
}

at::Tensor TokenRows::head_gradient(const at::Tensor& gradient, const at::Tensor& x) const {
  const at::Tensor own = gradient.index_select(1, index(gradient)).to(at::kFloat);
  return product(own.t(), x.to(at::kFloat));
}

void TokenRows::add_embedding_gradient(const at::Tensor& gradient,
                                       const at::Tensor& looked_up) const {
  const at::Tensor is_own = looked_up.unsqueeze(1).eq(index(looked_up).unsqueeze(0));  // [T, n]
  if (!gradient.is_cpu()) {  // Where they are is not known to the host.
    rows.gradient().addmm_(is_own.t().to(at::kFloat), gradient.to(at::kFloat));
    return;
  }
  const at::Tensor places = at::nonzero(is_own);  // Of (position, row), in the order of positions.
  add_rows_by_token(rows.gradient(), gradient.index_select(0, places.select(1, 0)).to(at::kFloat),
                    places.select(1, 1));
}

}  // namespace temper
