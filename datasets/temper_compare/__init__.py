# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning, in-context examples and retrieval on one question set, and what came of them."""
