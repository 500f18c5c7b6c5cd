// SPDX-License-Identifier: Apache-2.0
#include "train/progress.h"

#include <array>
#include <cstdio>

#include "core/concat.h"
#include "core/log.h"
#include "core/message_text.h"

namespace temper {
namespace {

std::string progress_text(int64_t step, int64_t num_steps, const StepResult& result,
                          const StepTiming& timing) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(),
                "step=%lld/%lld loss=%.4f grad_norm=%.3f learning_rate=%.3g tokens_per_second=%.0f "
                "limit_share=%.0f%%",
                static_cast<long long>(step), static_cast<long long>(num_steps), result.loss,
                result.grad_norm, result.learning_rate,
                static_cast<double>(timing.content.num_tokens) / timing.seconds,
                100.0 * timing.limit_share);
  return text.data();
}

}  // namespace

void Progress::show(int64_t step, const StepResult& result, const StepTiming& timing) {
  constexpr double kOldShare = 0.9;  // Arbitrary: about ten steps of memory.
  mean_seconds_ = mean_seconds_ == 0.0
                      ? timing.seconds
                      : kOldShare * mean_seconds_ + (1.0 - kOldShare) * timing.seconds;
  const double seconds_left = mean_seconds_ * static_cast<double>(num_steps_ - step);
  const char* skipped = result.num_targets == 0 ? " skipped=no_target" : " skipped=yes";
  const std::string line = progress_text(step, num_steps_, result, timing) +
                           (result.kl ? concat(" kl=", *result.kl) : std::string()) +
                           (result.updated ? "" : skipped) + " left=" + duration_text(seconds_left);
  if (shows_status()) {
    show_status(line);
  } else if (step % every_steps_ == 0 || step == num_steps_ || !result.updated) {
    log_event(line);
  }
}

}  // namespace temper
