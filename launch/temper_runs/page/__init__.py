# SPDX-License-Identifier: Apache-2.0
"""The page that shows how runs went: one HTML file that needs nothing else."""
