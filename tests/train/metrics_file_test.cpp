// SPDX-License-Identifier: Apache-2.0
#include "train/metrics_file.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

struct FolderFixture {
  TemporaryFolder folder;
  std::filesystem::path path = folder / "metrics.jsonl";

  std::vector<Json> entries() const {
    std::ifstream file(path);
    std::vector<Json> all;
    for (std::string line; std::getline(file, line);) all.push_back(Json::parse(line));
    return all;
  }
};

std::optional<double> add_evaluation(MetricsFile& metrics, int64_t step, const std::string& name,
                                     double loss, bool is_general = false) {
  return metrics.add_evaluation(step, {name, 1, {}, is_general}, {loss, 50});
}

BOOST_FIXTURE_TEST_SUITE(metrics_file, FolderFixture)

BOOST_AUTO_TEST_CASE(what_a_killed_job_was_writing_goes) {
  std::ofstream(folder / ".metrics.jsonl.77-123.tmp") << "half a li";
  std::ofstream(folder / ".metrics.json.tmp") << "of another file";
  MetricsFile(path, 0);
  BOOST_TEST(!std::filesystem::exists(folder / ".metrics.jsonl.77-123.tmp"));
  BOOST_TEST(std::filesystem::exists(folder / ".metrics.json.tmp"));
}

BOOST_AUTO_TEST_CASE(each_line_is_one_object) {
  MetricsFile metrics(path, 0);
  metrics.add_step(1, {.loss = 2.5, .grad_norm = 0.5, .num_targets = 90, .updated = true},
                   {.seconds = 2.0, .num_padding = 28, .content = {.num_tokens = 100}});
  add_evaluation(metrics, 1, "domain", 2.0);
  const auto lines = entries();
  BOOST_REQUIRE(lines.size() == 2);
  BOOST_TEST(lines[0].at("kind") == "step");
  BOOST_TEST(lines[0].at("loss") == 2.5);
  BOOST_TEST(lines[0].at("tokens_per_second") == 50.0);
  BOOST_TEST(lines[1].at("name") == "domain");
}

BOOST_AUTO_TEST_CASE(what_a_run_is_stands_there_once_until_it_changes) {
  const RunFacts facts{.num_steps = 9, .rows_per_step = 4};
  {
    MetricsFile metrics(path, 0);
    metrics.add_run(0, facts);
    metrics.add_run(1, facts);
    metrics.add_step(2, {.unit_grad_norms = {{"head", 0.5}}}, {.seconds = 1.0, .bytes_sent = 7});
  }
  MetricsFile metrics(path, 2);
  metrics.add_run(2, facts);
  metrics.add_run(2, {.num_steps = 10, .rows_per_step = 4});
  const auto lines = entries();
  BOOST_REQUIRE(lines.size() == 3);
  BOOST_TEST(lines[0].at("max_steps") == 9);
  BOOST_TEST(lines[1].at("unit_grad_norms").at("head") == 0.5);
  BOOST_TEST(lines[1].at("bytes_sent") == 7);
  BOOST_TEST(lines[1].at("update_seconds") == 0.0);
  BOOST_TEST(lines[2].at("max_steps") == 10);
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_is_null) {
  MetricsFile metrics(path, 0);
  metrics.add_step(1, {.loss = std::numeric_limits<double>::quiet_NaN()}, {.seconds = 1.0});
  BOOST_TEST(entries().at(0).at("loss").is_null());
}

BOOST_AUTO_TEST_CASE(resuming_drops_later_steps_and_a_torn_line) {
  {
    MetricsFile metrics(path, 0);
    for (int64_t step = 1; step <= 4; ++step) metrics.add_step(step, {}, {.seconds = 1.0});
    std::ofstream(path, std::ios::app) << R"({"kind":"step","st)";
  }
  MetricsFile metrics(path, 2);
  metrics.add_step(3, {}, {.seconds = 1.0});
  const auto lines = entries();
  BOOST_REQUIRE(lines.size() == 3);
  for (int64_t k = 0; k < 3; ++k) BOOST_TEST(lines[static_cast<size_t>(k)].at("step") == k + 1);
}

// A job that was killed in its second evaluation after step 2.
BOOST_AUTO_TEST_CASE(it_knows_which_evaluations_it_has) {
  {
    MetricsFile metrics(path, 0);
    BOOST_TEST(!metrics.has_evaluation(0, "a"));
    add_evaluation(metrics, 0, "a", 2.0);
    metrics.add_step(2, {}, {.seconds = 1.0});
    add_evaluation(metrics, 2, "a", INFINITY);
    add_evaluation(metrics, 3, "b", 2.0);
    BOOST_TEST(metrics.has_evaluation(3, "b"));
    metrics.sync();
    std::ofstream(path, std::ios::app) << R"({"kind":"evaluation","step":2,"name":"b")";
  }
  const MetricsFile metrics(path, 2);
  BOOST_TEST(metrics.has_evaluation(0, "a"));
  BOOST_TEST(metrics.has_evaluation(2, "a"));
  BOOST_TEST(!metrics.has_evaluation(2, "b"));
  BOOST_TEST(!metrics.has_evaluation(3, "b"));
  BOOST_CHECK(metrics.losses("a") == (HoldOutLosses{{0, 2.0}, {2, INFINITY}}));
  BOOST_TEST(metrics.losses("none").empty());
}

BOOST_AUTO_TEST_CASE(a_general_hold_out_tells_what_was_forgotten_since_the_start) {
  {
    MetricsFile metrics(path, 0);
    BOOST_TEST(!add_evaluation(metrics, 0, "general", 3.0, /*is_general=*/true).has_value());
    add_evaluation(metrics, 0, "answers", 5.0);
  }
  MetricsFile metrics(path, 1);
  const auto forgetting = add_evaluation(metrics, 1, "general", 3.25, /*is_general=*/true);
  BOOST_TEST(forgetting.value() == 0.25);
  BOOST_TEST(!add_evaluation(metrics, 1, "answers", 4.0).has_value());
  BOOST_TEST(entries().at(2).at("forgetting") == 0.25);
  BOOST_TEST(!entries().at(3).contains("forgetting"));
}

BOOST_AUTO_TEST_CASE(a_line_whose_step_is_no_number_is_named_and_kept) {
  for (const auto& [line, found] :
       {std::pair(R"({"step": "two"})", "is '\"two\"'"), std::pair(R"({"kind": 1})", "is missing"),
        std::pair(R"({"step": 1.5})", "is '1.5'")}) {
    const std::string text = concat("{\"step\": 1}\n", line, '\n');
    std::ofstream(path) << text;
    const std::string message = concat(path.string(), " line 2: \"step\" ", found,
                                       ", wanted a whole number\n  try: mend or remove that line");
    BOOST_CHECK_EXCEPTION(MetricsFile(path, 2), CheckpointError, [&](const CheckpointError& error) {
      return std::string(error.what()).find(message) == 0;
    });
    BOOST_TEST(content_of(path) == text);
  }
}

BOOST_AUTO_TEST_CASE(a_step_tells_of_its_sources_and_what_used_energy) {
  MetricsFile metrics(path, 0);
  metrics.add_run(0, {.sources = {"a.h5", "b.h5"}});
  metrics.add_step(1, {.sources = {{2.5, 7}, {}}},
                   {.seconds = 1.0,
                    .content = {.document_lengths = {0, 3}, .slowest_rank = 1, .cpu_joules = 9.0}});
  const auto lines = entries();
  BOOST_TEST(lines[0].at("sources") == Json({"a.h5", "b.h5"}));
  BOOST_TEST(lines[1].at("source_losses") == Json({2.5, nullptr}));
  BOOST_TEST(lines[1].at("source_targets") == Json({7, 0}));
  BOOST_TEST(lines[1].at("document_lengths") == Json({0, 3}));
  BOOST_TEST(lines[1].at("slowest_rank") == 1);
  BOOST_TEST(lines[1].at("cpu_joules") == 9.0);
  metrics.add_step(2, {}, {.seconds = 1.0});
  BOOST_TEST(!entries()[2].contains("cpu_joules"));
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_gone_is_an_error_that_names_the_file) {
  MetricsFile metrics(path, 0);
  std::filesystem::remove_all(folder.path());
  BOOST_CHECK_EXCEPTION(
      metrics.add_step(1, {}, {.seconds = 1.0}), CheckpointError,
      [&](const CheckpointError& error) {
        return std::string(error.what()).find(path.string() + " cannot be written\n  try: che") ==
               0;
      });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
