// SPDX-License-Identifier: Apache-2.0
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "config/run_config.h"

using namespace temper;
namespace data = boost::unit_test::data;
using Shape = ScheduleOptions::Shape;

namespace {

RunConfig valid() {
  RunConfig config;
  config.data.sources = {{.path = "a.h5"}};
  config.data.global_batch_rows = 12;
  config.data.micro_batch_rows = 2;
  config.train.max_steps = 100;
  return config;
}

struct Contradiction {
  std::string name;
  std::function<void(RunConfig&)> make;
  std::string message;
};
std::ostream& operator<<(std::ostream& out, const Contradiction& one) { return out << one.name; }

const std::vector<Contradiction> kContradictions = {
    {"no end", [](RunConfig& c) { c.train.max_steps = 0; },
     "neither train.max_steps nor train.epochs is set: the run has no end\n"
     "  try: set one of them"},
    {"two ends", [](RunConfig& c) { c.train.epochs = 1.5; },
     "train.max_steps is 100 and train.epochs is 1.5: both set the end of the run\n"
     "  try: keep one of them (0 counts as not set)"},
    {"batch", [](RunConfig& c) { c.data.micro_batch_rows = 5; },
     "data.global_batch is 12 rows, which data.micro_batch of 5 rows does not divide\n"
     "  try: set data.global_batch to 10 or 15, or data.micro_batch to 4 or 6"},
    {"micro-batch above batch", [](RunConfig& c) { c.data.micro_batch_rows = 16; },
     "data.global_batch is 12 rows, which data.micro_batch of 16 rows does not divide\n"
     "  try: set data.global_batch to 16, or data.micro_batch to 12"},
    {"no data", [](RunConfig& c) { c.data.sources.clear(); },
     "data.train names no token shard\n"
     "  try: list one or more: data: {train: [{path: shard.h5}]}"},
    {"shard twice", [](RunConfig& c) { c.data.sources.push_back({.path = "a.h5"}); },
     "data.train lists 'a.h5' twice\n  try: list it once, with the sum of the weights or epochs"},
    {"some weights", [](RunConfig& c) { c.data.sources.push_back({.path = "b.h5", .weight = 2}); },
     "data.train[0] has no weight, but other sources have one\n"
     "  try: give each source a weight, or none: then they weigh by their tokens"},
    {"weight and epochs",
     [](RunConfig& c) {
       c.data.sources = {{.path = "a.h5", .weight = 1}, {.path = "b.h5", .weight = 2, .epochs = 3}};
     },
     "data.train[1].epochs has no effect: the weight sets what is used of the source\n"
     "  try: leave out the weights of all sources, or this"},
    {"weight and limit",
     [](RunConfig& c) { c.data.sources = {{.path = "a.h5", .weight = 1, .max_tokens = 9}}; },
     "data.train[0].max_tokens has no effect: the weight sets what is used of the source\n"
     "  try: leave out the weights of all sources, or this"},
    {"weights and temperature",
     [](RunConfig& c) {
       c.data.sources = {{.path = "a.h5", .weight = 1}, {.path = "b.h5", .weight = 2}};
       c.data.mixture.temperature = 2;
     },
     "data.mixture.temperature has no effect: the sources of data.train have weights\n"
     "  try: leave out the weights, or this"},
    {"temperature alone", [](RunConfig& c) { c.data.mixture.temperature = 2; },
     "data.mixture.temperature has no effect: data.train has one source\n  try: leave it out"},
    {"hold-out twice",
     [](RunConfig& c) {
       c.holdouts = {{.name = "h", .path = "x.h5"}, {.name = "h", .path = "y.h5"}};
     },
     "data.holdout has the name 'h' twice\n  try: give each hold-out a name of its own"},
    {"two warm-ups",
     [](RunConfig& c) {
       c.schedule.warmup_steps = 10;
       c.schedule.warmup_ratio = 0.25;
     },
     "schedule.warmup_steps is 10 and schedule.warmup_ratio is 0.25: both set the warm-up\n"
     "  try: keep one of them (0 counts as not set)"},
    {"long warm-up", [](RunConfig& c) { c.schedule.warmup_steps = 101; },
     "the warm-up of 101 steps cannot fit into the run of 100 steps\n"
     "  try: set schedule.warmup_steps to at most 100, or train for 101 steps"},
    {"long warm-up and decay",
     [](RunConfig& c) {
       c.schedule.shape = Shape::kWsd;
       c.schedule.warmup_steps = 91;
     },
     "the warm-up of 91 steps and the decay of 10 steps cannot fit into the run of 100 steps\n"
     "  try: set schedule.warmup_steps to at most 90, or train for 102 steps"},
    {"ratios",
     [](RunConfig& c) {
       c.train.max_steps = 0;
       c.train.epochs = 1;
       c.schedule.shape = Shape::kWsd;
       c.schedule.warmup_ratio = 0.75;
       c.schedule.decay_ratio = 0.5;
     },
     "schedule.warmup_ratio of 0.75 and schedule.decay_ratio of 0.5 are more than the whole run\n"
     "  try: set them to a sum of at most 1"},
    {"decay without wsd", [](RunConfig& c) { c.schedule.decay_ratio = 0.2; },
     "schedule.decay_ratio has no effect: only the schedule wsd has a decay\n"
     "  try: leave it out, or set schedule.name to wsd"},
    {"floor of a constant",
     [](RunConfig& c) {
       c.schedule.shape = Shape::kConstant;
       c.schedule.floor_ratio = 0.1;
     },
     "schedule.floor_ratio has no effect: the schedule constant never falls\n"
     "  try: leave it out, or set schedule.name to linear, cosine or wsd"},
    {"a part of an adapter",
     [](RunConfig& c) {
       c.method.kind = MethodOptions::Kind::kLora;
       c.trained.freeze = {"norms"};
     },
     "train.freeze has no effect: method is lora, which trains its own tensors alone\n"
     "  try: set method to full, or leave it out"},
    {"group of nothing", [](RunConfig& c) { c.groups = {{.learning_rate = 1.0}}; },
     "optimizer.groups[0].match names no parameters\n"
     "  try: list patterns: match: [embedding, layers.0-3]"},
    {"group with two rates",
     [](RunConfig& c) {
       c.groups = {{.match = {"norms"}, .weight_decay = 0.0},
                   {.match = {"mlp"}, .learning_rate = 1.0, .learning_rate_ratio = 2.0}};
     },
     "optimizer.groups[1] has learning_rate and learning_rate_ratio: both set its rate\n"
     "  try: keep one of them"},
    {"group without a change", [](RunConfig& c) { c.groups = {{.match = {"norms"}}}; },
     "optimizer.groups[0] changes nothing\n"
     "  try: give it learning_rate, learning_rate_ratio or weight_decay, or remove it"},
    {"early stopping by an unknown hold-out",
     [](RunConfig& c) {
       c.holdouts = {{.name = "h", .path = "x.h5"}};
       c.train.evaluate_every_steps = 10;
       c.train.early_stop.holdout = "g";
     },
     "early_stop.holdout is 'g', which no hold-out is named\n"
     "  try: name one of data.holdout, or leave it out"},
    {"a best one without evaluations",
     [](RunConfig& c) {
       c.holdouts = {{.name = "h", .path = "x.h5"}};
       c.checkpoint.keep_best = "h";
     },
     "checkpoint.keep_best has no effect: train.evaluate_every_steps is 0\n"
     "  try: set how often hold-outs are evaluated, or leave it out"},
    {"a best one of checkpoints that are not evaluated",
     [](RunConfig& c) {
       c.holdouts = {{.name = "h", .path = "x.h5"}};
       c.train.evaluate_every_steps = 10;
       c.checkpoint.every_steps = 15;
       c.checkpoint.keep_best = "h";
     },
     "checkpoint.keep_best needs the loss of each checkpoint: they are saved every 15 steps, and "
     "evaluated every 10\n"
     "  try: set checkpoint.every_steps to a multiple of train.evaluate_every_steps"},
    {"the best one as result without one", [](RunConfig& c) { c.checkpoint.publishes_best = true; },
     "checkpoint.final is best, but checkpoint.keep_best is not set\n"
     "  try: name the hold-out that decides there, or leave checkpoint.final out"},
    {"evaluation without data", [](RunConfig& c) { c.train.evaluate_every_steps = 10; },
     "train.evaluate_every_steps is 10, but data.holdout is empty\n"
     "  try: list a hold-out, or leave train.evaluate_every_steps out"},
    {"moments in 8 bits on a GPU",
     [](RunConfig& c) {
       c.model.device = ModelOptions::Device::kCuda;
       c.optimizer.state_dtype = MomentDtype::kInt8;
     },
     "optimizer.state_dtype is set, but model.device is cuda\n"
     "  try: leave it out, or set it to float32: it is for model.device cpu"},
    {"offloading from a GPU",
     [](RunConfig& c) {
       c.model.device = ModelOptions::Device::kCuda;
       c.optimizer.offload = "/scratch";
     },
     "optimizer.offload is set, but model.device is cuda\n"
     "  try: leave it out, or set it to \"\": it is for model.device cpu"},
};

bool is_accepted(const RunConfig& config, int64_t num_steps) {
  try {
    const Schedule schedule(config.schedule, num_steps);
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(validation)

BOOST_DATA_TEST_CASE(a_contradiction_is_named_with_its_cure, data::make(kContradictions), one) {
  RunConfig config = valid();
  BOOST_TEST(to_text(validate(config)) == "");
  one.make(config);
  BOOST_TEST(to_text(validate(config)) == one.message);
}

BOOST_AUTO_TEST_CASE(all_contradictions_are_returned) {
  RunConfig config = valid();
  config.data.micro_batch_rows = 5;
  config.train.epochs = 1;
  config.schedule.warmup_steps = 1000;
  BOOST_TEST(validate(config).size() == 3U);
}

BOOST_AUTO_TEST_CASE(each_rank_needs_a_micro_batch) {
  const RunConfig config = valid();  // 6 micro-batches
  for (const int world_size : {1, 2, 4, 6}) BOOST_TEST(validate_ranks(config, world_size).empty());
  BOOST_TEST(to_text(validate_ranks(config, 8)) ==
             "data.global_batch of 12 rows is 6 micro-batches of 2, fewer than 8 ranks\n"
             "  try: set data.global_batch to 16, or start at most 6 ranks");
}

BOOST_AUTO_TEST_CASE(the_schedule_must_fit_into_the_steps_that_the_data_gives) {
  RunConfig config = valid();
  config.schedule.warmup_ratio = 0.5;
  BOOST_TEST(validate_steps(config, 1).empty());
  config.schedule.warmup_ratio = 0.0;
  config.schedule.warmup_steps = 20;
  BOOST_TEST(validate_steps(config, 20).empty());
  BOOST_TEST(to_text(validate_steps(config, 19)).starts_with("the warm-up of 20 steps cannot fit"));
}

// Who follows the advice gets a run that is accepted.
BOOST_AUTO_TEST_CASE(the_advice_for_a_schedule_that_does_not_fit_helps) {
  RunConfig config = valid();
  config.schedule.shape = Shape::kWsd;
  config.schedule.decay_ratio = 0.5;
  config.schedule.warmup_steps = 20;
  const std::string remedy = validate_steps(config, 10).at(0).remedy;
  BOOST_TEST(remedy == "set schedule.warmup_steps to at most 5, or train for 40 steps");
  BOOST_TEST(validate_steps(config, 40).empty());
  BOOST_TEST(!validate_steps(config, 39).empty());
  config.schedule.warmup_steps = 5;
  BOOST_TEST(validate_steps(config, 10).empty());
  config.schedule.warmup_steps = 0;
  config.schedule.warmup_ratio = 0.5;
  BOOST_TEST(validate_steps(config, 1).at(0).remedy ==
             "lower schedule.warmup_ratio or schedule.decay_ratio, or train for 2 steps");
  BOOST_TEST(validate_steps(config, 2).empty());
  config.schedule.warmup_steps = 5;
  config.schedule.decay_ratio = 1.0;
  BOOST_TEST(validate_steps(config, 10).at(0).remedy ==
             "set schedule.warmup_steps to at most 0");  // No length of the run helps.
}

// What is not refused here must not be refused by the schedule itself, and the reverse.
BOOST_DATA_TEST_CASE(it_agrees_with_the_schedule,
                     data::make({0.0, 0.05, 0.33, 0.91, 1.0}) * data::xrange(1, 30), ratio,
                     num_steps) {
  RunConfig config = valid();
  config.schedule.warmup_ratio = ratio;
  for (const Shape shape : {Shape::kConstant, Shape::kLinear, Shape::kCosine, Shape::kWsd}) {
    config.schedule.shape = shape;
    BOOST_TEST(validate_steps(config, num_steps).empty() == is_accepted(config, num_steps));
  }
}

BOOST_AUTO_TEST_CASE(rows_must_not_be_longer_than_the_model_reads) {
  RunConfig config = valid();
  config.data.sequence_length = 2048;
  ModelConfig model;
  model.max_positions = 2048;
  BOOST_TEST(validate_model(config, model).empty());
  model.max_positions = 1024;
  BOOST_TEST(to_text(validate_model(config, model)) ==
             "data.sequence_length is 2048, but the model knows only 1024 positions\n"
             "  try: set data.sequence_length to at most 1024");
  config.method.kind = MethodOptions::Kind::kPrefix;
  config.method.prefix.num_tokens = 8960;
  BOOST_TEST(to_text(validate_model(config, model)) ==
             "data.sequence_length is 2048 with 8960 virtual tokens before, but the model knows "
             "only 1024 positions\n"
             "  try: set prefix.tokens to at most 1022, and data.sequence_length so that both fit");
  config.method.prefix.num_tokens = 1022;
  BOOST_TEST(validate_model(config, model).at(0).remedy == "set data.sequence_length to at most 2");
}

BOOST_AUTO_TEST_CASE(epochs_are_rounded_up_to_whole_steps) {
  RunConfig config = valid();
  BOOST_TEST(num_steps_of(config, 1000) == 100);
  config.train.max_steps = 0;
  config.train.epochs = 2.0;
  BOOST_TEST(num_steps_of(config, 60) == 10);
  BOOST_TEST(num_steps_of(config, 61) == 11);
  config.train.epochs = 0.01;
  BOOST_TEST(num_steps_of(config, 60) == 1);
}

BOOST_AUTO_TEST_CASE(nearest_divisors_lie_around_the_wanted_number) {
  BOOST_TEST(nearest_divisors(12, 5) == "4 or 6");
  BOOST_TEST(nearest_divisors(12, 4) == "4");
  BOOST_TEST(nearest_divisors(7, 3) == "1 or 7");
  BOOST_TEST(nearest_divisors(7, 9) == "7");
}

BOOST_AUTO_TEST_SUITE_END()
