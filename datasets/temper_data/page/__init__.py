# SPDX-License-Identifier: Apache-2.0
"""The page that shows what a preparation made: one HTML file that needs nothing else."""
