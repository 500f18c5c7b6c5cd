# SPDX-License-Identifier: Apache-2.0
"""An endpoint in the manner of OpenAI's, for trying a model and for evaluation."""
