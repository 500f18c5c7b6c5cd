// SPDX-License-Identifier: Apache-2.0
#include "zero/unit_bytes.h"

#include <stdexcept>

#include "zero/kept_numbers.h"
#include "zero/state_file.h"

namespace temper {

at::ScalarType scalar_type_of(MomentDtype dtype) {
  switch (dtype) {
    case MomentDtype::kFloat32: return at::kFloat;
    case MomentDtype::kBfloat16: return at::kBFloat16;
    case MomentDtype::kInt8: return at::kByte;
  }
  throw std::logic_error("moments of no dtype");
}

UpdateBytes update_bytes(const StoredUnit& unit, Range kept, const UpdateForm& form) {
  const int num_copies = form.num_copies + (unit.form.dtype != at::kFloat ? 1 : 0);
  UpdateBytes bytes{num_copies * StateFile::bytes_of(kept.size(), at::kFloat) +
                    2 * StateFile::bytes_of(kept.size(), scalar_type_of(form.moments))};
  if (form.moments == MomentDtype::kInt8) {
    constexpr int64_t kScales = 2;
    bytes.scales =
        kScales * num_scales(scaled_parts(unit.layout, kept)) * static_cast<int64_t>(sizeof(float));
  }
  return bytes;
}

bool rounds_for_use(const StoredUnit& unit, int stage, bool is_offloaded, int num_ranks) {
  const bool has_master = unit.form.is_trained && unit.form.dtype != at::kFloat;
  return has_master && stage == 3 && num_ranks > 1 && !is_offloaded;
}

}  // namespace temper
