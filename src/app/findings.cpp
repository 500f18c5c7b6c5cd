// SPDX-License-Identifier: Apache-2.0
#include "app/findings.h"

#include <algorithm>
#include <cstdio>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr size_t kTopicWidth = 12;  // Of the summary; arbitrary.

}  // namespace

void Findings::add(const std::vector<Problem>& problems) {
  problems_.insert(problems_.end(), problems.begin(), problems.end());
}

bool Findings::attempt(const std::function<void()>& part) {
  try {
    part();
    return true;
  } catch (const Error& error) {
    const Problem found{.what = error.problem(), .remedy = error.remedy(), .code = error.code()};
    // Several parts may stumble over the same file.
    const bool is_known =
        std::ranges::find(problems_, found.what, &Problem::what) != problems_.end();
    if (!is_known) problems_.push_back(found);
    return false;
  }
}

void Findings::throw_if_any() const {
  if (problems_.empty()) return;
  const Problem& first = problems_.front();
  if (problems_.size() == 1) throw Error(first.code, first.what, first.remedy);
  throw Error(first.code, to_text(problems_), "mend them all, then run temper check");
}

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
