// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>
#include <omp.h>

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

/// While it lives, what the calling thread calls finds one thread, be it in the midst of many.
///
/// oneDNN plans a product for as many threads as OpenMP names, even where all but one of them are
/// busy with other blocks: it deals the depth out to some of them and adds their sums up, so that
/// the plan, and with it the bits, would follow their number.
/// Source: oneDNN 3.10, cpu/x64/matmul/brgemm_matmul_utils.cpp (nthr, nthr_k); OpenMP 4.5, 2.3: the
///   number is the calling task's own.
class OneThreadHere {
 public:
  // LibTorch sets the number of a thread when it is first asked for it: that has to come before.
  OneThreadHere() : num_threads_(at::get_num_threads()) { omp_set_num_threads(1); }
  OneThreadHere(const OneThreadHere&) = delete;
  OneThreadHere& operator=(const OneThreadHere&) = delete;
  ~OneThreadHere() { omp_set_num_threads(num_threads_); }

 private:
  int num_threads_;
};

}  // namespace temper
