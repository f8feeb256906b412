"""Pretraining stages in a process of their own: python -m vlaw_models.pretrain OUT WORK STAGE [STAGE ...]."""

import sys
from pathlib import Path

from vlaw_models.pretrain import run_stage
from vlaw_models.pretrain.stages import PretrainConfig

for stage in sys.argv[3:]:
    run_stage(stage, Path(sys.argv[1]), Path(sys.argv[2]), PretrainConfig())
