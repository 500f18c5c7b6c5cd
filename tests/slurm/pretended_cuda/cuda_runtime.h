// SPDX-License-Identifier: Apache-2.0
// What src/comm/take_gpu.cpp asks of CUDA, answered for a node with four pretended cards, of which
// the node that TEST_BROKEN_NODE names has lost all but the first. As CUDA does, it shows those
// whose numbers CUDA_VISIBLE_DEVICES has, up to the first one that there is not, and all if it is
// not set.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

enum cudaError_t { cudaSuccess, cudaErrorInvalidDevice };

struct cudaDeviceProp {
  std::array<char, 16> uuid{};
  int pciDomainID = 0, pciBusID = 0, pciDeviceID = 0;
};

inline std::vector<int> pretended_cards() {
  const auto value = [](const char* name) { return std::string(std::getenv(name)); };
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size());
  const bool is_broken =
      std::getenv("TEST_BROKEN_NODE") != nullptr && value("TEST_BROKEN_NODE") == host.data();
  const int num_cards = is_broken ? 1 : 4;
  std::istringstream wanted(
      std::getenv("CUDA_VISIBLE_DEVICES") != nullptr ? value("CUDA_VISIBLE_DEVICES") : "0,1,2,3");
  std::vector<int> cards;
  for (std::string card; std::getline(wanted, card, ',') && std::stoi(card) < num_cards;) {
    cards.push_back(std::stoi(card));
  }
  return cards;
}

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(pretended_cards().size());
  return cudaSuccess;
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  const int card = pretended_cards().at(static_cast<size_t>(index));
  properties->uuid.fill(static_cast<char>(card));
  properties->pciBusID = card;
  return cudaSuccess;
}
