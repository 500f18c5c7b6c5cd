// SPDX-License-Identifier: Apache-2.0
#include "core/progress_bar.h"

#include <pty.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <string>
#include <string_view>

#include "core/log.h"
#include "core/message_text.h"

namespace temper {
namespace {

// Standard error as another file, whose other end says what was written there.
class OtherStandardError {
 public:
  enum class Kind { kTerminal, kPipe };

  explicit OtherStandardError(Kind kind) {
    std::array<int, 2> ends{};
    const int failed = kind == Kind::kTerminal
                           ? ::openpty(&ends[0], &ends[1], nullptr, nullptr, nullptr)
                           : ::pipe(ends.data());
    BOOST_REQUIRE(failed == 0);
    reads_ = ends[0];
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[1]);
  }
  OtherStandardError(const OtherStandardError&) = delete;
  OtherStandardError& operator=(const OtherStandardError&) = delete;
  ~OtherStandardError() { restore(); }

  /// All that was written until now; a terminal hands it over piece by piece.
  std::string text() {
    const char mark = '#';
    BOOST_REQUIRE(::write(STDERR_FILENO, &mark, 1) == 1);
    std::string text;
    while (!text.ends_with(mark)) {
      std::array<char, 4096> piece{};
      const ssize_t count = ::read(reads_, piece.data(), piece.size());
      BOOST_REQUIRE(count > 0);
      text.append(piece.data(), static_cast<size_t>(count));
    }
    restore();
    text.pop_back();
    return text;
  }

 private:
  void restore() {
    if (reads_ < 0) return;
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
    ::close(reads_);
    reads_ = -1;
  }

  int before_ = ::dup(STDERR_FILENO);
  int reads_ = -1;
};

using Kind = OtherStandardError::Kind;
constexpr ProgressPace kAlways{.on_terminal = 0.0, .in_file = 0.0};

int count_in(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(progress_bar)

BOOST_AUTO_TEST_CASE(rate_and_time_left_follow_from_what_is_done) {
  ProgressBar bar("loading", 400'000'000, ProgressBar::Unit::kBytes);
  BOOST_TEST(bar.text(3.0) == "loading 0% of 400 MB rate=0 bytes/s");
  bar.add(100'000'000);
  BOOST_TEST(bar.text(2.0) == "loading 25% of 400 MB rate=50.0 MB/s left=6s");
  bar.show(400'000'000);
  BOOST_TEST(bar.text(8.0) == "loading 100% of 400 MB rate=50.0 MB/s left=0s");
  const ProgressBar nothing("evaluating", 0, ProgressBar::Unit::kCount);
  BOOST_TEST(nothing.text(0.0) == "evaluating 100% of 0 rate=0/s left=0s");
}

BOOST_AUTO_TEST_CASE(a_terminal_has_one_line_that_goes_at_the_end) {
  OtherStandardError terminal(Kind::kTerminal);
  {
    ProgressBar bar("loading", 4, ProgressBar::Unit::kCount, kAlways);
    bar.add(1);
    bar.add(1);
    log_event("event");
    bar.add(2);
  }
  const std::string text = terminal.text();
  BOOST_TEST(count_in(text, "\r\033[Kloading ") == 3);
  BOOST_TEST(count_in(text, "\n") == 2);  // Before and after the event, which has its own line.
  BOOST_TEST(text.ends_with("left=0s\r\033[K"));
}

BOOST_AUTO_TEST_CASE(a_file_has_whole_lines_of_what_takes_long) {
  OtherStandardError file(Kind::kPipe);
  {
    ProgressBar slow("saving", 2, ProgressBar::Unit::kCount, {.in_file = 0.0});
    slow.add(1);
    ProgressBar quick("loading", 2, ProgressBar::Unit::kCount);
    quick.add(2);
  }
  const std::string text = file.text();
  BOOST_TEST(count_in(text, " saving 50% of 2 ") == 1);
  BOOST_TEST(count_in(text, "\n") == 1);
  BOOST_TEST(count_in(text, "loading") + count_in(text, "\033") == 0);
}

BOOST_AUTO_TEST_CASE(durations_read_as_people_write_them) {
  BOOST_TEST(duration_text(41.6) == "42s");
  BOOST_TEST(duration_text(187) == "3m07s");
  BOOST_TEST(duration_text(18120) == "5h02m");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
