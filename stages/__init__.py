"""The stages; whichever is run as a program is watched from its first line on."""

from stages.lib.core import launch

launch.begin()
