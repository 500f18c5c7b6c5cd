// SPDX-License-Identifier: Apache-2.0
// Lets the Python oracle call what keeps moments in fewer bits.
//
//   probe encode <signed|unsigned> <size>
//     reads fp32 numbers; writes their codes, and the scales of the blocks of 256
//   probe adamw <bfloat16|int8> <size> <steps> <key> <rate> <beta1> <beta2> <epsilon> <decay>
//     reads fp32 parameters and each step's gradients, of one tensor; writes after each step the
//     parameters and both moments as fp32
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "support/read_floats.h"
#include "zero/compact_update.h"
#include "zero/eight_bit.h"

namespace {

using namespace temper;
using Arguments = std::vector<std::string>;
using temper::testing::read_floats;

void write(const at::Tensor& tensor) {
  std::fwrite(tensor.const_data_ptr(), 1, tensor.nbytes(), stdout);
}

std::span<float> floats(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

// Of a unit with one tensor.
KeptNumbers make_numbers(at::ScalarType dtype, const UnitLayout& unit, MapSign sign) {
  const Range all{0, unit.num_elements()};
  KeptNumbers numbers{.numbers = at::zeros({all.size()}, dtype), .kept = all, .sign = sign};
  if (dtype != at::kByte) return numbers;
  numbers.parts = std::make_shared<const std::vector<ScaledPart>>(scaled_parts(unit, all));
  numbers.scales = at::zeros({num_scales(*numbers.parts)});
  return numbers;
}

void run_encode(const Arguments& arguments) {
  const int64_t size = std::stoll(arguments.at(2));
  const UnitLayout unit("unit", {{"tensor", {size}}});
  const MapSign sign = arguments.at(1) == "signed" ? MapSign::kSigned : MapSign::kUnsigned;
  const KeptNumbers numbers = make_numbers(at::kByte, unit, sign);
  numbers.write(numbers.kept, floats(read_floats(size)));
  write(numbers.numbers);
  write(numbers.scales);
}

void run_adamw(const Arguments& arguments) {
  const auto dtype = arguments.at(1) == "int8" ? at::kByte : at::kBFloat16;
  const int64_t size = std::stoll(arguments.at(2));
  const UnitLayout unit("unit", {{"tensor", {size}}});
  const CompactMoments moments{make_numbers(dtype, unit, MapSign::kSigned),
                               make_numbers(dtype, unit, MapSign::kUnsigned),
                               std::stoull(arguments.at(4))};
  const AdamWOptions options{.beta1 = std::stod(arguments.at(6)),
                             .beta2 = std::stod(arguments.at(7)),
                             .epsilon = std::stod(arguments.at(8))};
  AdamWStep step{.learning_rate = std::stod(arguments.at(5)),
                 .weight_decay = std::stod(arguments.at(9))};
  const at::Tensor parameters = read_floats(size), moment = at::empty({size});
  for (step.step = 1; step.step <= std::stoll(arguments.at(3)); ++step.step) {
    update_compactly(moments, {0, size}, parameters, read_floats(size), {options, step});
    write(parameters);
    for (const KeptNumbers* one : {&moments.first, &moments.second}) {
      one->read({0, size}, floats(moment));
      write(moment);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argv + 1, argv + argc);
  arguments.at(0) == "encode" ? run_encode(arguments) : run_adamw(arguments);
  return 0;
}
