// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>

namespace temper {

enum class ReduceOp { kSum, kMax, kMin };

/// A collective that is under way. Its tensors must not be touched before `wait()`.
///
/// Move-only. The destructor waits too, and drops the error: call `wait()` to see it. It does not
/// wait while an exception is in flight, since a peer may then never join.
class [[nodiscard]] Pending {
 public:
  Pending() = default;
  /// `finish` blocks until the collective is done, or throws CommError. It runs once.
  explicit Pending(std::function<void()> finish) : finish_(std::move(finish)) {}
  Pending(Pending&& other) noexcept : finish_(std::exchange(other.finish_, nullptr)) {}
  /// Finishes what this one held, as the destructor does, before it takes over `other`.
  Pending& operator=(Pending&& other) noexcept;
  ~Pending();

  /// Returns at once if there is nothing to wait for.
  /// Throws: CommError.
  void wait();

 private:
  void finish_silently() noexcept;

  std::function<void()> finish_;
};

/// A group of ranks that move tensors between them.
///
/// Tensors are contiguous, of one dtype and one device per call; the library holds a reference to
/// their memory until the collective is done. Collectives start in the order of the calls and run
/// beside the caller. Shapes are given in elements: dimensions do not matter. At world size 1 no
/// library is entered.
/// Collective: every rank makes the same calls in the same order, with the same sizes and dtypes.
/// Throws: std::invalid_argument for a tensor that breaks the stated shape, before anything is
///   sent; CommError from `Pending::wait()`.
class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  /// Where tensors move without a detour.
  virtual at::Device device() const { return at::kCPU; }

  /// Replaces `tensor` on every rank by its reduction over the ranks. The order of additions is
  /// the library's: for floating point, use it only where rounding does not matter.
  /// Throws: std::invalid_argument also for dtypes other than fp32, fp64, int32, int64 and uint8:
  ///   sums of bf16 lose bits with every rank, so reduce in fp32.
  Pending all_reduce(at::Tensor tensor, ReduceOp op);

  /// Concatenates every rank's `shard`, in rank order, into `full`. The two may overlap only
  /// where `shard` is block `rank()` of `full`.
  /// Shapes: shard [n], full [world_size * n].
  Pending all_gather(const at::Tensor& shard, at::Tensor full);

  /// Concatenates every rank's `shard`, in rank order, into `full` on `root`. What the other ranks
  /// give for `full` is not looked at.
  /// Shapes: shard [n], full [world_size * n]; they must not overlap but in block `root`.
  Pending gather(const at::Tensor& shard, at::Tensor full, int root);

  /// Sends block r of `send` to rank r, and receives rank r's block into block r of `receive`.
  /// Shapes: send, receive [world_size * n]; they must not overlap.
  Pending all_to_all(const at::Tensor& send, at::Tensor receive);

  /// Replaces `tensor` on every rank by the one on `root`.
  Pending broadcast(at::Tensor tensor, int root);

  /// Returns when every rank has called it.
  void barrier();

 private:
  virtual Pending do_all_reduce(at::Tensor tensor, ReduceOp op) = 0;
  virtual Pending do_all_gather(const at::Tensor& shard, at::Tensor full) = 0;
  virtual Pending do_gather(const at::Tensor& shard, at::Tensor full, int root) = 0;
  virtual Pending do_all_to_all(const at::Tensor& send, at::Tensor receive) = 0;
  virtual Pending do_broadcast(at::Tensor tensor, int root) = 0;
  virtual void do_barrier() = 0;
};

}  // namespace temper
