# SPDX-License-Identifier: Apache-2.0
"""What the folders of runs tell, for those who look at them: pages, event files, configurations."""
