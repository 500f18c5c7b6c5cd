# SPDX-License-Identifier: Apache-2.0
"""Filters on the text of each record, before it is rendered and tokenised."""
