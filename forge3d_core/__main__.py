"""``python -m forge3d_core``: the command line without its script."""

from forge3d_core.cli import main

main()
