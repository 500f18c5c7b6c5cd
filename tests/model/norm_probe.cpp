// SPDX-License-Identifier: Apache-2.0
// usage: norm_probe <numbers> <columns> <epsilon>
//
// Writes the RMSNorm in bf16 of the rows in a file, whose first row is the weight. All numbers are
// fp32 that bf16 holds.
#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "model/ops/norm.h"
#include "model/weight.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: norm_probe <numbers> <columns> <epsilon>\n");
    return 2;
  }
  std::ifstream file(argv[1], std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const int64_t columns = std::atoll(argv[2]);
  const auto num_numbers = static_cast<int64_t>(bytes.size() / sizeof(float));
  const at::Tensor rows =
      at::from_blob(bytes.data(), {num_numbers / columns, columns}, at::kFloat).to(at::kBFloat16);
  const auto buffers = std::make_shared<temper::UnitBuffers>();
  buffers->weights = rows[0].clone();
  const temper::Weight weight(buffers, 0, {columns});
  const at::Tensor x = rows.narrow(0, 1, rows.size(0) - 1).contiguous();
  const at::Tensor normed =
      temper::norm_rows(x, {weight, {}}, {.epsilon = std::atof(argv[3])}).to(at::kFloat);
  std::fwrite(normed.const_data_ptr(), 1, normed.nbytes(), stdout);
  return 0;
}
