# SPDX-License-Identifier: Apache-2.0
"""Configurations of other trainers, translated into a configuration and a data recipe of temper."""
