// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/hash.h"
#include "io/json.h"

namespace temper::testing {

/// The text of a manifest that a test has changed, with a hash of its own that fits.
inline std::string sealed_text(Json manifest) {
  const std::string zeros(64, '0');
  manifest["manifest_sha256"] = zeros;
  std::string text = manifest.dump(1) + '\n';
  return text.replace(text.find(zeros), zeros.size(), to_hex(sha256(text)));
}

}  // namespace temper::testing
