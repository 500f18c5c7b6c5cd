# SPDX-License-Identifier: Apache-2.0
"""Tasks of an evaluation: what a file of them asks of a model, and how its answers are counted."""
