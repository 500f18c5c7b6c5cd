// SPDX-License-Identifier: Apache-2.0
#include "train/rate_sweep.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "core/concat.h"

namespace temper {
namespace {

constexpr double kMemory = 0.8;      // Of the smoothed loss; arbitrary.
constexpr double kLost = 1.3;        // Times the lowest smoothed loss: the sweep ends.
constexpr double kLeastFall = 0.01;  // Of the first loss; less is noise.
constexpr double kBelowLowest = 0.1;

}  // namespace

RateSweep::RateSweep(double lowest, double highest, int64_t num_steps)
    : lowest_(lowest),
      factor_(std::pow(highest / lowest, 1.0 / static_cast<double>(num_steps - 1))),
      num_steps_(num_steps) {
  if (!(lowest > 0.0) || !(highest > lowest) || num_steps < 2) {
    throw std::invalid_argument("a sweep needs a range of rates and two steps");
  }
}

double RateSweep::next_rate() const {
  return lowest_ * std::pow(factor_, static_cast<double>(points_.size()));
}

bool RateSweep::add(double loss) {
  const double rate = next_rate();
  if (!std::isfinite(loss)) return false;
  sum_ = kMemory * sum_ + loss;
  weight_ = kMemory * weight_ + 1.0;
  points_.push_back({rate, loss, sum_ / weight_});
  return std::ssize(points_) < num_steps_ &&
         points_.back().smoothed <= kLost * points_[lowest_point()].smoothed;
}

size_t RateSweep::lowest_point() const {
  const auto lowest = std::ranges::min_element(points_, {}, &Point::smoothed);
  return static_cast<size_t>(lowest - points_.begin());
}

std::optional<double> RateSweep::proposal() const {
  if (points_.empty()) return std::nullopt;
  const size_t lowest = lowest_point();
  if (!falls() || lowest + 1 == points_.size()) return std::nullopt;
  return kBelowLowest * points_[lowest].rate;
}

bool RateSweep::falls() const {
  return points_[lowest_point()].smoothed < (1.0 - kLeastFall) * points_.front().smoothed;
}

std::string RateSweep::verdict() const {
  if (points_.empty()) return "the first loss is no number: look at the data and the model";
  const Point& lowest = points_[lowest_point()];
  const auto rate = proposal();
  if (rate) {
    return concat("proposal: optimizer.learning_rate=", *rate,
                  ", a tenth of the rate at which the smoothed loss was lowest (", lowest.smoothed,
                  " at ", lowest.rate, ")");
  }
  if (falls()) {
    return concat("no proposal: the loss was lowest at the highest rate, ", lowest.rate,
                  "; sweep further with --to");
  }
  return "no proposal: the loss fell by less than a hundredth; sweep more steps with --steps, or "
         "another range with --from and --to";
}

std::string RateSweep::drawing() const {
  constexpr double kWidth = 50.0;  // Characters of the longest bar.
  if (points_.empty()) return {};
  const double low = points_[lowest_point()].smoothed;
  const double high = std::max(points_.front().smoothed, low + 1e-9);
  std::ostringstream text;
  for (const Point& point : points_) {
    const double share = std::clamp((point.smoothed - low) / (high - low), 0.0, 1.2);
    text << "rate=" << concat(point.rate) << " loss=" << concat(point.loss)
         << " smoothed=" << concat(point.smoothed) << "  "
         << std::string(static_cast<size_t>(std::lround(kWidth * share)), '#') << '\n';
  }
  return text.str();
}

std::string RateSweep::svg() const {
  constexpr double kWidth = 640.0, kHeight = 360.0, kMargin = 50.0;
  if (points_.empty()) return {};
  double low = points_.front().loss, high = low;
  for (const Point& point : points_) {
    low = std::min({low, point.loss, point.smoothed});
    high = std::max({high, point.loss, point.smoothed});
  }
  const double left = std::log10(points_.front().rate);
  const double span = std::max(std::log10(points_.back().rate) - left, 1e-9);
  const auto x = [&](double rate) {
    return kMargin + (kWidth - 2 * kMargin) * (std::log10(rate) - left) / span;
  };
  const auto y = [&](double loss) {
    return kHeight - kMargin - (kHeight - 2 * kMargin) * (loss - low) / std::max(high - low, 1e-9);
  };
  std::ostringstream svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << ' ' << kHeight
      << "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
         "fill=\"white\"/>\n<polyline fill=\"none\" stroke=\"#1f6fb2\" stroke-width=\"2\" "
         "points=\"";
  for (const Point& point : points_) svg << x(point.rate) << ',' << y(point.smoothed) << ' ';
  svg << "\"/>\n";
  for (const Point& point : points_) {
    svg << "<circle cx=\"" << x(point.rate) << "\" cy=\"" << y(point.loss)
        << "\" r=\"2\" fill=\"#888\"/>\n";
  }
  const auto write = [&](double at_x, double at_y, const std::string& text) {
    svg << "<text x=\"" << at_x << "\" y=\"" << at_y << "\">" << text << "</text>\n";
  };
  for (double exponent = std::ceil(left); exponent <= left + span + 1e-9; ++exponent) {
    const double rate = std::pow(10.0, exponent);
    write(x(rate) - 10.0, kHeight - kMargin / 2, concat(rate));
  }
  write(5.0, y(high), concat(high));
  write(5.0, y(low), concat(low));
  write(kMargin, kMargin / 2, "loss of a step (dots) and smoothed, against the learning rate");
  if (const auto rate = proposal(); rate && *rate >= points_.front().rate) {
    svg << "<line x1=\"" << x(*rate) << "\" x2=\"" << x(*rate) << "\" y1=\"" << kMargin
        << "\" y2=\"" << kHeight - kMargin << "\" stroke=\"#b2431f\"/>\n";
    write(x(*rate) + 4.0, kMargin + 12.0, concat("proposal ", *rate));
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace temper
