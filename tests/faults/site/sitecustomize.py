"""Lets a fault strike the stage that STAGES_FAULT names, as in ``train:write:7:dies``.

Python imports this at its start where the folder is in PYTHONPATH; so it reaches what DVC runs.
"""

import os
import sys

if os.environ.get("STAGES_FAULT"):
    _stage, _kind, _number, _mode = os.environ["STAGES_FAULT"].split(":")
    if sys.orig_argv[-2:] == ["-m", f"stages.{_stage}"]:
        from tests.faults.injection import Fault, install

        install(Fault(_kind, int(_number), _mode))
