"""Trains the quickstart's model: python examples/train_quickstart_model.py --output DIR."""

import sys

from quickstart_model.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
