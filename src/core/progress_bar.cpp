// SPDX-License-Identifier: Apache-2.0
#include "core/progress_bar.h"

#include <algorithm>
#include <cmath>

#include "core/concat.h"
#include "core/log.h"
#include "core/message_text.h"

namespace temper {

ProgressBar::~ProgressBar() { clear_status(); }

void ProgressBar::show(int64_t done) {
  done_ = done;
  const bool redraws = shows_status();
  if (since_shown_.seconds() < (redraws ? pace_.on_terminal : pace_.in_file)) return;
  since_shown_.restart();
  const std::string line = text(since_begin_.seconds());
  if (redraws) {
    show_status(line);
  } else {
    log_event(line);
  }
}

std::string ProgressBar::text(double seconds) const {
  const auto with_unit = [this](int64_t count) {
    return unit_ == Unit::kBytes ? readable_bytes(count) : readable_count(count);
  };
  const double share =
      total_ > 0 ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 1.0;
  const auto rate = std::llround(static_cast<double>(done_) / std::max(seconds, 1e-9));
  std::string line = concat(what_, ' ', std::llround(100.0 * share), "% of ", with_unit(total_),
                            " rate=", with_unit(rate), "/s");
  if (share > 0.0) line += " left=" + duration_text(seconds * (1.0 - share) / share);
  return line;
}

}  // namespace temper
