"""The stages; whichever is run as a program is watched from its first line on."""

import sys

try:
    from stages.lib.core import launch
except (KeyboardInterrupt, OSError) as error:  # what launch says of them, which is not there yet
    told = "\nInterrupted; nothing half-made was left behind."
    if isinstance(error, OSError):
        told = f"ERROR: {error.filename}: {error.strerror}.\nMend that and run again."
    print(told, file=sys.stderr)
    raise SystemExit(1 if isinstance(error, OSError) else 130) from None

launch.begin()
