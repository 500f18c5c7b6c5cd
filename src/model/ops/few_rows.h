// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace temper {

/// While it lives, products of few rows run on one thread.
///
/// A BLAS deals rows to threads, and for a handful of rows it takes a kernel that adds in another
/// order: measured with the one in LibTorch 2.11.0, two threads change the bits of products with 5,
/// 6, 7, 9, 10 and 11 rows, and of no others up to 140. With 16 rows for each thread the bits do
/// not depend on their number. One row is one thread's kernel in any case.
class FewRowsGuard {
 public:
  explicit FewRowsGuard(const at::Tensor& rows) : num_threads_(at::get_num_threads()) {
    constexpr int64_t kRowsPerThread = 16;
    const int64_t count = rows.size(0);
    is_active_ =
        rows.is_cpu() && num_threads_ > 1 && count > 1 && count < kRowsPerThread * num_threads_;
    if (is_active_) at::set_num_threads(1);
  }
  FewRowsGuard(const FewRowsGuard&) = delete;
  FewRowsGuard& operator=(const FewRowsGuard&) = delete;
  ~FewRowsGuard() {
    if (is_active_) at::set_num_threads(num_threads_);
  }

 private:
  int num_threads_;
  bool is_active_;
};

}  // namespace temper
