// SPDX-License-Identifier: Apache-2.0
#include "model/ops/swiglu.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

template <typename T>
void forward_row(const float* gate, const float* up, float* out, int64_t size) {
  for_each_vector(size, [&](int64_t i, int count) {
    const Vector g = Vector::loadu(gate + i, count);
    const Vector u = Vector::loadu(up + i, count);
    (g * sigmoid<T>(g) * u).store(out + i, count);
  });
}

// With s = sigmoid(g): d silu / d g = s (1 + g (1 - s)).
template <typename T>
void backward_row(const float* gate, const float* up, const float* gradient, float* out,
                  int64_t size) {
  for_each_vector(size, [&](int64_t i, int count) {
    const Vector g = Vector::loadu(gate + i, count);
    const Vector u = Vector::loadu(up + i, count);
    const Vector d = Vector::loadu(gradient + i, count);
    const Vector s = sigmoid<T>(g);
    const Vector one(1.0F);
    (d * u * s * (one + g * (one - s))).store(out + i, count);
    (d * g * s).store(out + size + i, count);
  });
}

at::Tensor forward_on_cpu(const at::Tensor& gate_up) {
  const int64_t num_rows = gate_up.size(0), size = gate_up.size(1) / 2;
  at::Tensor out = at::empty({num_rows, size}, gate_up.options());
  dispatch_dtype(gate_up.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = gate_up.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(3 * size);
      for (int64_t row = begin; row < end; ++row) {
        const float* values = read_row(from + row * 2 * size, scratch.data(), 2 * size);
        float* result = row_buffer(to + row * size, scratch.data() + 2 * size);
        forward_row<T>(values, values + size, result, size);
        write_row(to + row * size, result, size);
      }
    });
  });
  return out;
}

at::Tensor backward_on_cpu(const at::Tensor& gate_up, const at::Tensor& gradient) {
  const int64_t num_rows = gate_up.size(0), size = gate_up.size(1) / 2;
  at::Tensor out = at::empty_like(gate_up);
  dispatch_dtype(gate_up.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = gate_up.const_data_ptr<T>();
    const T* upper = gradient.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(5 * size);
      for (int64_t row = begin; row < end; ++row) {
        const float* values = read_row(from + row * 2 * size, scratch.data(), 2 * size);
        const float* d = read_row(upper + row * size, scratch.data() + 2 * size, size);
        float* result = row_buffer(to + row * 2 * size, scratch.data() + 3 * size);
        backward_row<T>(values, values + size, d, result, size);
        write_row(to + row * 2 * size, result, 2 * size);
      }
    });
  });
  return out;
}

}  // namespace

at::Tensor swiglu(const at::Tensor& gate_up) {
  if (!gate_up.is_cpu()) {
    const auto halves = gate_up.chunk(2, 1);
    return at::silu(halves[0]) * halves[1];
  }
  return with_backward(forward_on_cpu(gate_up), {gate_up},
                       [gate_up](const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward_on_cpu(gate_up, gradient.contiguous())};
                       });
}

}  // namespace temper
