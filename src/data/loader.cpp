// SPDX-License-Identifier: Apache-2.0
#include "data/loader.h"

#include <utility>

#include "core/clock.h"

namespace temper {

Loader::Loader(Read read, RankSequence sequence, LoaderOptions options)
    : read_(std::move(read)), sequence_(sequence), options_(options) {
  for (int k = 0; k < options_.num_threads; ++k) threads_.emplace_back([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
}

MicroBatch Loader::next() {
  const Stopwatch watch;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ready_.contains(next_to_give_); });
  Outcome outcome = std::move(ready_.extract(next_to_give_).mapped());
  ++next_to_give_;
  lock.unlock();
  changed_.notify_all();
  waited_seconds_ += watch.seconds();
  if (const auto* error = std::get_if<std::exception_ptr>(&outcome)) std::rethrow_exception(*error);
  return std::get<MicroBatch>(std::move(outcome));
}

void Loader::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(
        lock, [this] { return is_stopping_ || next_to_read_ < next_to_give_ + options_.depth; });
    if (is_stopping_) return;
    const int64_t number = next_to_read_++;
    lock.unlock();
    Outcome outcome = read_outcome(number);
    lock.lock();
    ready_.emplace(number, std::move(outcome));
    changed_.notify_all();
  }
}

Loader::Outcome Loader::read_outcome(int64_t number) const {
  try {
    return read_(sequence_.first + number * sequence_.stride);
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace temper
