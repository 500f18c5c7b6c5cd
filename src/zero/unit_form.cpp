// SPDX-License-Identifier: Apache-2.0
#include "zero/unit_form.h"

#include <string>

namespace temper {

std::vector<StoredUnit> in_form(const std::vector<UnitLayout>& units, const UnitForm& form) {
  std::vector<StoredUnit> all;
  for (const UnitLayout& unit : units) {
    StoredUnit& stored = all.emplace_back(StoredUnit{unit, form});
    stored.form.is_trained = form.is_trained && unit.is_trained();
  }
  return all;
}

std::vector<StoredUnit> stored_units(const std::vector<UnitLayout>& decoder,
                                     const std::vector<UnitLayout>& adapter, const UnitForm& form) {
  std::vector<StoredUnit> all = in_form(decoder, {.dtype = form.dtype,
                                                  .is_trained = form.is_trained && adapter.empty(),
                                                  .four_bit = form.four_bit});
  for (StoredUnit& unit : all) {
    const std::string& name = unit.layout.name();
    if (name == "embed" || name == "head") unit.form.four_bit.reset();
  }
  const std::vector<StoredUnit> own = in_form(adapter, {.is_trained = form.is_trained});
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

}  // namespace temper
