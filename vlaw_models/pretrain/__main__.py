"""One pretraining stage in a process of its own: python -m vlaw_models.pretrain OUT WORK STAGE."""

import sys
from pathlib import Path

from vlaw_models.pretrain import main

main(Path(sys.argv[1]), Path(sys.argv[2]), only=sys.argv[3])
