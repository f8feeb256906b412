"""A recipe's values by key, as people write them: 'policy.steps'."""

from __future__ import annotations

from typing import Any


def by_key(value: Any, key: str = "") -> dict[str, Any]:
    """Nested tables as {'table.key': value}."""
    if not isinstance(value, dict):
        return {key: value}
    return {
        name: leaf
        for inner_key, inner in value.items()
        for name, leaf in by_key(inner, f"{key}.{inner_key}".lstrip(".")).items()
    }
