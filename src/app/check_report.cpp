// SPDX-License-Identifier: Apache-2.0
#include "app/check_report.h"

#include <algorithm>
#include <cstdio>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr size_t kTopicWidth = 12;

}  // namespace

void CheckReport::add_fact(const std::string& topic, const std::string& text) {
  const size_t gap = kTopicWidth - std::min(kTopicWidth - 1, topic.size());
  facts_ += concat(topic, std::string(gap, ' '), text, '\n');
}

void CheckReport::add_problems(const std::vector<Problem>& problems) {
  problems_.insert(problems_.end(), problems.begin(), problems.end());
}

bool CheckReport::attempt(const std::function<void()>& part) {
  try {
    part();
    return true;
  } catch (const Error& error) {
    problems_.push_back({.what = error.problem(), .remedy = error.remedy(), .code = error.code()});
    return false;
  }
}

int CheckReport::print() const {
  std::fputs(facts_.c_str(), stdout);
  if (problems_.empty()) {
    std::puts("ok");
    return 0;
  }
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n%zu problem%s\n", to_text(problems_).c_str(), problems_.size(),
               problems_.size() == 1 ? "" : "s");
  return static_cast<int>(problems_.front().code);
}

}  // namespace temper
