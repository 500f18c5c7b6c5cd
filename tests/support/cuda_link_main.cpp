// SPDX-License-Identifier: Apache-2.0
// Linked with all of temper_comm, so that each name its CUDA sources use must exist. Never run.
int main() {}
