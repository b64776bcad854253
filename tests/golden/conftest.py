"""The net's modules lie beside its test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
