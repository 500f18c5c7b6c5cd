// SPDX-License-Identifier: Apache-2.0
#include "model/ops/backward.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace temper {
namespace {

class ClosureNode : public torch::autograd::Node {
 public:
  ClosureNode(Backward backward, torch::autograd::edge_list edges)
      : Node(std::move(edges)), backward_(std::move(backward)) {}

  std::string name() const override { return "temper::ClosureNode"; }
  void release_variables() override { backward_ = nullptr; }

 private:
  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    return backward_(gradients[0]);
  }

  Backward backward_;
};

}  // namespace

at::Tensor with_backward(at::Tensor output, const std::vector<at::Tensor>& inputs,
                         Backward backward) {
  const bool is_wanted = at::GradMode::is_enabled() &&
                         std::any_of(inputs.begin(), inputs.end(),
                                     [](const auto& input) { return input.requires_grad(); });
  if (!is_wanted) return output;
  const std::shared_ptr<ClosureNode> node(
      new ClosureNode(std::move(backward), torch::autograd::collect_next_edges(inputs)),
      torch::autograd::deleteNode);
  torch::autograd::set_history(output, node);
  return output;
}

at::Tensor GraphPass::backward(const at::Tensor& gradient) const {
  return torch::autograd::grad({output_}, {input_}, {gradient})[0];
}

}  // namespace temper
