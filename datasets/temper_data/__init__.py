# SPDX-License-Identifier: Apache-2.0
"""Data preparation for temper: text and conversations to token shards."""
