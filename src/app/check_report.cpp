// SPDX-License-Identifier: Apache-2.0
#include "app/check_report.h"

#include <algorithm>
#include <cstdio>

#include "core/concat.h"

namespace temper {
namespace {

constexpr size_t kTopicWidth = 12;

}  // namespace

void CheckReport::add_fact(const std::string& topic, const std::string& text) {
  const size_t gap = kTopicWidth - std::min(kTopicWidth - 1, topic.size());
  facts_ += concat(topic, std::string(gap, ' '), text, '\n');
}

int CheckReport::print() const {
  std::fputs(facts_.c_str(), stdout);
  if (problems().empty()) {
    std::puts("ok");
    return 0;
  }
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n%zu problem%s\n", to_text(problems()).c_str(), problems().size(),
               problems().size() == 1 ? "" : "s");
  return static_cast<int>(problems().front().code);
}

}  // namespace temper
