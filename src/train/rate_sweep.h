// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace temper {

/// One training run whose learning rate rises from step to step, until the loss is lost: how high a
/// rate may be. Local: all ranks come to the same.
///
/// Source: Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section
/// 3.3; rates rise by equal factors, and losses are smoothed, as in fastai's learner.lr_find.
class RateSweep {
 public:
  struct Point {
    double rate = 0.0;
    double loss = 0.0;
    double smoothed = 0.0;  ///< Mean of this loss and those before, the older the less.
  };

  /// Throws: std::invalid_argument unless 0 < lowest < highest and there are two steps or more.
  RateSweep(double lowest, double highest, int64_t num_steps);

  /// The rate of the next step.
  double next_rate() const;

  /// The loss of that step. Returns whether the sweep goes on: not after the last step, nor once
  /// the loss is no number or the smoothed one far above the lowest.
  bool add(double loss);

  const std::vector<Point>& points() const { return points_; }

  /// A tenth of the rate at which the smoothed loss was lowest. Nothing if the loss fell by less
  /// than a hundredth, or was lowest at the highest rate: then the range is wrong.
  std::optional<double> proposal() const;

  /// What a person is told of it; one line.
  std::string verdict() const;

  /// Smoothed loss against rate, a line a step, with bars between the lowest and the first loss.
  std::string drawing() const;

  /// The same as an SVG document.
  std::string svg() const;

 private:
  size_t lowest_point() const;
  bool falls() const;  // By more than noise.

  double lowest_, factor_;
  int64_t num_steps_;
  double sum_ = 0.0, weight_ = 0.0;
  std::vector<Point> points_;
};

}  // namespace temper
