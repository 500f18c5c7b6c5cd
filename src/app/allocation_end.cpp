// SPDX-License-Identifier: Apache-2.0
#include "app/allocation_end.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/launched_rank.h"

namespace temper {
namespace {

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

std::optional<int64_t> number_in_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : parse_number(value);
}

// What squeue prints of a job's time left; empty if it does not answer.
std::string ask_squeue(int64_t job) {
  const std::string command =
      "timeout 5 squeue -h -o %L -j " + std::to_string(job) + " 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
  std::array<char, 64> line{};
  if (!output || std::fgets(line.data(), line.size(), output.get()) == nullptr) return {};
  std::string text = line.data();
  std::erase_if(text, [](char c) { return c == '\n' || c == ' '; });
  return text;
}

}  // namespace

std::optional<std::chrono::system_clock::time_point> find_allocation_end() {
  using std::chrono::system_clock;
  if (const auto end = number_in_environment("SLURM_JOB_END_TIME")) {
    return system_clock::time_point(std::chrono::seconds(*end));
  }
  const auto job = number_in_environment("SLURM_JOB_ID");
  if (!job || launched_rank() != 0) return std::nullopt;
  const auto left = parse_time_left(ask_squeue(*job));
  if (!left) return std::nullopt;
  return system_clock::now() + std::chrono::seconds(*left);
}

std::optional<int64_t> parse_time_left(std::string_view text) {
  int64_t days = 0;
  if (const size_t dash = text.find('-'); dash != std::string_view::npos) {
    const auto parsed = parse_number(text.substr(0, dash));
    if (!parsed) return std::nullopt;
    days = *parsed;
    text.remove_prefix(dash + 1);
  }
  int64_t seconds = 0;
  for (bool is_last = false; !is_last;) {
    const size_t colon = std::min(text.find(':'), text.size());
    const auto parsed = parse_number(text.substr(0, colon));
    if (!parsed) return std::nullopt;
    seconds = 60 * seconds + *parsed;
    is_last = colon == text.size();
    if (!is_last) text.remove_prefix(colon + 1);
  }
  return 86'400 * days + seconds;
}

// squeue leaves out the beginning of what is short, sbatch the end of what is round.
std::optional<int64_t> parse_time_limit(std::string_view text) {
  const auto num_colons = std::count(text.begin(), text.end(), ':');
  const bool has_days = text.find('-') != std::string_view::npos;
  if (num_colons > 2) return std::nullopt;
  std::string whole(text);
  if (has_days && num_colons == 0) whole += ":0:0";
  if (has_days && num_colons == 1) whole += ":0";
  if (!has_days && num_colons == 0) whole += ":0";
  return parse_time_left(whole);
}

}  // namespace temper
