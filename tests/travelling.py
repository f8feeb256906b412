"""A `Spread` that makes parts here, with everything going through files as it does between processes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from vlaw_assets.engines import files


def travelling(begin: Any, inputs: Any, settings: Any, parts: Any) -> Any:
    """As `vlaw_models.spread.here`."""
    make = begin(inputs, files.of_json(json.loads(json.dumps(files.as_json(settings)))))
    return (_through_a_file(make(_through_a_file(part))) for part in parts)


def _through_a_file(value: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        listed = files.put(Path(folder) / "x", value)
        return files.get(Path(folder) / "x", listed["sha256"])
