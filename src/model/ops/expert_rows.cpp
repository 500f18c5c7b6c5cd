// SPDX-License-Identifier: Apache-2.0
#include "model/ops/expert_rows.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

void add_row(const float* from, int64_t size, float* to) {
  for_each_vector(size, [&](int64_t i, int count) {
    (Vector::loadu(to + i, count) + Vector::loadu(from + i, count)).store(to + i, count);
  });
}

void scale_row(const float* from, float factor, int64_t size, float* to) {
  for_each_vector(size, [&](int64_t i, int count) {
    (Vector::loadu(from + i, count) * Vector(factor)).store(to + i, count);
  });
}

// By lanes first, whose number is the processor's.
float dot(const float* a, const float* b, int64_t size) {
  Vector sums(0.0F);
  for_each_vector(size, [&](int64_t i, int count) {
    sums = sums + Vector::loadu(a + i, count) * Vector::loadu(b + i, count);
  });
  float lanes[Vector::size()];
  sums.store(lanes);
  float sum = 0.0F;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

at::Tensor sum_rows(const at::Tensor& onto, const at::Tensor& rows, const at::Tensor& places) {
  const int64_t num_tokens = places.size(0), num_summed = places.size(1), size = rows.size(1);
  if (!rows.is_cpu()) {
    const at::Tensor all = rows.index_select(0, places.flatten()).to(at::kFloat);
    at::Tensor sum = all.view({num_tokens, num_summed, size}).sum(1);
    if (onto.defined()) sum.add_(onto);
    return sum.to(rows.scalar_type());
  }
  at::Tensor out = at::empty({num_tokens, size}, rows.options());
  dispatch_dtype(rows.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = rows.const_data_ptr<T>();
    const T* base = onto.defined() ? onto.const_data_ptr<T>() : nullptr;
    const auto* place = places.const_data_ptr<int64_t>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, num_tokens, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * size);
      for (int64_t token = begin; token < end; ++token) {
        float* sum = scratch.data();
        std::fill_n(sum, size, 0.0F);
        if (base != nullptr) add_row(read_row(base + token * size, sum + size, size), size, sum);
        for (int64_t i = 0; i < num_summed; ++i) {
          const T* row = from + place[token * num_summed + i] * size;
          add_row(read_row(row, sum + size, size), size, sum);
        }
        at::vec::convert(sum, to + token * size, size);
      }
    });
  });
  return out;
}

at::Tensor weigh_rows(const at::Tensor& x, const at::Tensor& factors) {
  if (!x.is_cpu()) return x.mul(factors.unsqueeze(1)).to(x.scalar_type());
  const int64_t size = x.size(1);
  at::Tensor out = at::empty_like(x);
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const auto* factor = factors.const_data_ptr<float>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * size);
      for (int64_t row = begin; row < end; ++row) {
        const float* values = read_row(from + row * size, scratch.data(), size);
        float* result = row_buffer(to + row * size, scratch.data() + size);
        scale_row(values, factor[row], size, result);
        write_row(to + row * size, result, size);
      }
    });
  });
  return out;
}

void weigh_rows_backward(at::Tensor gradient, const at::Tensor& x, const at::Tensor& factors,
                         at::Tensor factor_gradients) {
  if (!x.is_cpu()) {
    factor_gradients.copy_(gradient.to(at::kFloat).mul(x).sum(1));
    gradient.mul_(factors.unsqueeze(1));
    return;
  }
  const int64_t size = x.size(1);
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* d = gradient.mutable_data_ptr<T>();
    const T* from = x.const_data_ptr<T>();
    const auto* factor = factors.const_data_ptr<float>();
    auto* of_factor = factor_gradients.mutable_data_ptr<float>();
    at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(3 * size);
      for (int64_t row = begin; row < end; ++row) {
        const float* upper = read_row(d + row * size, scratch.data(), size);
        of_factor[row] = dot(upper, read_row(from + row * size, scratch.data() + size, size), size);
        float* result = row_buffer(d + row * size, scratch.data() + 2 * size);
        scale_row(upper, factor[row], size, result);
        write_row(d + row * size, result, size);
      }
    });
  });
}

at::Tensor gate_rows(const at::Tensor& x, const at::Tensor& gate) {
  const at::Tensor factors =
      without_graph([&] { return at::sigmoid(gate.detach().to(at::kFloat).flatten()); });
  return with_backward(
      weigh_rows(x.detach(), factors), {x, gate},
      [x = x.detach(), factors,
       options = gate.options()](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        at::Tensor of_x = gradient.contiguous().clone();
        at::Tensor of_factors = at::empty_like(factors);
        weigh_rows_backward(of_x, x, factors, of_factors);
        return {of_x, of_factors.mul_(factors).mul_(1.0 - factors).unsqueeze(1).to(options)};
      });
}

}  // namespace temper
