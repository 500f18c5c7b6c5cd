// SPDX-License-Identifier: Apache-2.0
#include "data/loader.h"

#include <stdexcept>
#include <system_error>
#include <utility>

#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {

Loader::Loader(Read read, RankSequence sequence, LoaderOptions options)
    : read_(std::move(read)), sequence_(sequence), options_(options) {
  if (options.num_threads < 1 || options.depth < 1 || sequence.own_per_step() < 1) {
    throw std::invalid_argument("a loader needs a thread, a place to put what it reads, and work");
  }
  try {
    for (int k = 0; k < options_.num_threads; ++k) {
      threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
  } catch (const std::system_error& error) {
    throw Error(ExitCode::kRefused,
                concat("starting ", options_.num_threads, " loader threads failed: ", error.what()),
                "raise the limit of processes (ulimit -u), or lower data.loader_threads");
  }
}

Loader::~Loader() {
  for (std::jthread& thread : threads_) thread.request_stop();  // All, before the first is awaited.
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

void Loader::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const auto has_room = [this] { return next_to_read_ < next_to_give_ + options_.depth; };
  while (changed_.wait(lock, stop, has_room) && !stop.stop_requested()) {
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
    return read_(sequence_.index(number));
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace temper
