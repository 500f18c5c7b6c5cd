// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace temper {

/// Of the units that one of a decoder's users computes with.
struct UserBytes {
  int64_t packed = 0;     ///< Whole, as they are gathered.
  int64_t all = 0;        ///< Whole, as they are computed with.
  int64_t trained = 0;    ///< Those of them that are trained.
  int64_t gradients = 0;  ///< As they are added up.

  void add(const UserBytes& other) {
    packed += other.packed;
    all += other.all;
    trained += other.trained;
    gradients += other.gradients;
  }

  void raise_to(const UserBytes& other) {
    packed = std::max(packed, other.packed);
    all = std::max(all, other.all);
    trained = std::max(trained, other.trained);
    gradients += other.gradients;
  }

  /// Of experts' units one computes while the next one is gathered.
  void add_largest(const UserBytes& experts) {
    packed += 2 * experts.packed;
    all += experts.packed + experts.all;
    trained = std::max(trained, experts.trained);
    gradients += experts.gradients;
  }
};

}  // namespace temper
