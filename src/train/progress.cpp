// SPDX-License-Identifier: Apache-2.0
#include "train/progress.h"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>

#include "core/concat.h"
#include "core/log.h"

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
                static_cast<double>(timing.num_tokens) / timing.seconds,
                100.0 * timing.limit_share);
  return text.data();
}

}  // namespace

Progress::Progress(int64_t num_steps, int64_t every_steps)
    : num_steps_(num_steps), every_steps_(every_steps), is_terminal_(isatty(STDERR_FILENO) == 1) {}

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
  if (is_terminal_) {
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    is_line_open_ = true;
  } else if (step % every_steps_ == 0 || step == num_steps_ || !result.updated) {
    log_event(line);
  }
}

void Progress::end_line() {
  if (is_line_open_) std::fputc('\n', stderr);
  is_line_open_ = false;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  std::array<char, 32> text{};
  if (whole < 60) {
    std::snprintf(text.data(), text.size(), "%llds", whole);
  } else if (whole < 3600) {
    std::snprintf(text.data(), text.size(), "%lldm%02llds", whole / 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lldh%02lldm", whole / 3600, whole / 60 % 60);
  }
  return text.data();
}

}  // namespace temper
