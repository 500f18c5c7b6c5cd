# SPDX-License-Identifier: Apache-2.0
"""The keys of a config.json that GGUF has, whichever transformers wrote it."""

from dataclasses import dataclass
from pathlib import Path

from temper_data.errors import DataError
from temper_data.model_tokenizer import read_json


@dataclass(frozen=True)
class Config:
    """A model's configuration. A key that is null counts as missing."""

    keys: dict

    @classmethod
    def of(cls, folder: Path) -> "Config":
        """Raises DataError."""
        keys = read_json(folder / "config.json")
        if "model_type" not in keys:
            raise DataError(
                f"{folder} has no config.json with a model_type",
                "name a model folder, a checkpoint, or a run",
            )
        return cls(keys)

    def get(self, key: str, default=None):
        value = self.keys.get(key)
        return default if value is None else value

    def need(self, key: str):
        """Raises DataError."""
        if self.get(key) is None:
            raise DataError(f"config.json has no {key}", "save the model with transformers again")
        return self.keys[key]

    @property
    def family(self) -> str:
        return self.keys["model_type"]

    @property
    def num_layers(self) -> int:
        return self.need("num_hidden_layers")

    @property
    def num_heads(self) -> int:
        return self.need("num_attention_heads")

    @property
    def num_key_value_heads(self) -> int:
        return self.get("num_key_value_heads", self.num_heads)

    @property
    def head_dim(self) -> int:
        return self.get("head_dim", self.need("hidden_size") // self.num_heads)

    @property
    def num_experts(self) -> int:
        """In each layer, by either name; 0 where there are none."""
        return self.get("num_experts", self.get("num_local_experts", 0))

    @property
    def rope(self) -> dict:
        """As transformers 5 writes it, of full attention where there are two tables."""
        found = self._rope_as_found
        found["rope_theta"] = 10000.0 if self.rope_theta is None else self.rope_theta
        found.setdefault("rope_type", found.get("type", "default"))
        return found

    @property
    def rope_theta(self) -> float | None:
        return self._rope_as_found.get("rope_theta", self.get("rope_theta"))

    @property
    def _rope_as_found(self) -> dict:
        found = dict(self.get("rope_parameters") or self.get("rope_scaling") or {})
        return dict(found.get("full_attention", found))

    @property
    def window_theta(self) -> float | None:
        """Of the table of layers with a window, where they have their own."""
        tables = self.get("rope_parameters", {})
        if "sliding_attention" in tables:
            return tables["sliding_attention"].get("rope_theta")
        return self.get("rope_local_base_freq")

    @property
    def rotated_share(self) -> float | None:
        return self.get("partial_rotary_factor", self.rope.get("partial_rotary_factor"))

    def windowed_layers(self) -> list[bool]:
        """Which layers attend within a window only."""
        kinds = self.get("layer_types")
        return [kind == "sliding_attention" for kind in kinds] if kinds else []
