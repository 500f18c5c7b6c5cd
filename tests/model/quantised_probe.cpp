// SPDX-License-Identifier: Apache-2.0
// Lets quantised_oracle.py call the module. Reads cases until the input ends: a line of
//   <nf4|fp4> <block size> <float32|bfloat16|float16> <number of elements>
// then the elements. Writes for each, as bytes: codes; absmax; codes, absmax and offset of the
// quantised absmax; its dequantised absmax; then the elements dequantised to fp32 and to bf16, with
// the plain absmax and with the quantised one.
#include <ATen/ops/empty.h>

#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/quantised/dequantise.h"
#include "model/quantised/quantise.h"
#include "model/quantised/quantised_absmax.h"

namespace {

struct Case {
  temper::FourBitFormat format;
  std::string dtype;
  int64_t size = 0;
};

bool read(Case& next) {
  std::string kind;
  if (!(std::cin >> kind >> next.format.block_size >> next.dtype >> next.size)) return false;
  std::cin.ignore();
  next.format.kind = kind == "nf4" ? temper::FourBitKind::kNf4 : temper::FourBitKind::kFp4;
  return true;
}

at::Tensor read_elements(const Case& next) {
  const at::ScalarType dtype = next.dtype == "float32"    ? at::kFloat
                               : next.dtype == "bfloat16" ? at::kBFloat16
                                                          : at::kHalf;
  const at::Tensor elements = at::empty({next.size}, dtype);
  if (!std::cin.read(static_cast<char*>(elements.mutable_data_ptr()),
                     static_cast<std::streamsize>(elements.nbytes()))) {
    throw std::runtime_error("standard input is too short");
  }
  return elements;
}

template <typename T>
void write(const std::vector<T>& numbers) {
  std::fwrite(numbers.data(), sizeof(T), numbers.size(), stdout);
}

void write_dequantised(const temper::QuantisedBlocks& blocks, const Case& next) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor out = at::empty({next.size}, dtype);
    dequantise(blocks, next.format, out);
    std::fwrite(out.const_data_ptr(), 1, out.nbytes(), stdout);
  }
}

void run(const Case& next) {
  const at::Tensor elements = read_elements(next);
  std::vector<uint8_t> codes(static_cast<size_t>(next.format.num_bytes(next.size)));
  std::vector<float> absmax(static_cast<size_t>(next.format.num_blocks(next.size)));
  quantise(elements, next.format, codes, absmax);
  const temper::QuantisedAbsmax quantised = temper::quantise_absmax(absmax);
  std::vector<float> again(absmax.size());
  dequantise_absmax(quantised, again);
  write(codes);
  write(absmax);
  write(quantised.codes);
  write(quantised.absmax);
  write(std::vector<float>{quantised.offset});
  write(again);
  write_dequantised({codes, absmax}, next);
  write_dequantised({codes, again}, next);
}

}  // namespace

int main() {
  for (Case next; read(next);) run(next);
  return 0;
}
