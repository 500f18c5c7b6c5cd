// SPDX-License-Identifier: Apache-2.0
// Lets the Python oracles call the module.
//
//   probe schedule
//     reads lines of <constant|linear|cosine|wsd> <warm-up steps> <floor> <decay ratio> <steps>,
//     and for each writes a line with the multipliers of steps 0 to <steps>
//   probe adamw <size> <steps> <learning rate> <beta1> <beta2> <epsilon> <weight decay>
//     reads fp32 parameters and each step's gradients, writes parameters after each step
#include <ATen/ops/zeros.h>

#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "optim/adamw.h"
#include "optim/schedule.h"
#include "support/read_floats.h"

using temper::ScheduleOptions;

namespace {

using Arguments = std::vector<std::string>;
using temper::testing::read_floats;
using Shape = ScheduleOptions::Shape;

Shape parse_shape(const std::string& name) {
  if (name == "constant") return Shape::kConstant;
  if (name == "linear") return Shape::kLinear;
  if (name == "cosine") return Shape::kCosine;
  if (name == "wsd") return Shape::kWsd;
  throw std::invalid_argument(name);
}

void print_schedules() {
  ScheduleOptions options;
  std::string shape;
  int64_t num_steps = 0;
  while (std::cin >> shape >> options.warmup_steps >> options.floor_ratio >> options.decay_ratio >>
         num_steps) {
    options.shape = parse_shape(shape);
    const temper::Schedule schedule(options, num_steps);
    for (int64_t step = 0; step <= num_steps; ++step) {
      std::printf("%.17g%c", schedule.multiplier(step), step < num_steps ? ' ' : '\n');
    }
  }
}

void run_adamw(const Arguments& arguments) {
  const int64_t size = std::stoll(arguments.at(1));
  temper::AdamWOptions options;
  options.beta1 = std::stod(arguments.at(4));
  options.beta2 = std::stod(arguments.at(5));
  options.epsilon = std::stod(arguments.at(6));
  temper::AdamWStep step;
  step.learning_rate = std::stod(arguments.at(3));
  step.weight_decay = std::stod(arguments.at(7));
  const at::Tensor parameters = read_floats(size);
  const at::Tensor first_moment = at::zeros({size}), second_moment = at::zeros({size});
  for (step.step = 1; step.step <= std::stoll(arguments.at(2)); ++step.step) {
    adamw_update({parameters, read_floats(size), first_moment, second_moment}, options, step);
    std::fwrite(parameters.const_data_ptr(), 4, static_cast<size_t>(size), stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argv + 1, argv + argc);
  arguments.at(0) == "schedule" ? print_schedules() : run_adamw(arguments);
  return 0;
}
