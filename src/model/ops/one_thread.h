// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>

namespace temper {

/// While it lives, LibTorch computes on the calling thread alone, so that sums and decompositions
/// whose order follows the number of threads have the bits of one.
class OneThread {
 public:
  OneThread() : num_threads_(at::get_num_threads()) { at::set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { at::set_num_threads(num_threads_); }

 private:
  int num_threads_;
};

}  // namespace temper
