"""The error that a user can mend."""


class UserError(Exception):
    """A mistake in the configuration, the data or the surroundings that a user can mend.

    The message is one or two lines: the file or key, what was expected, what was found, and the
    next step. ``stages.lib.core.stage.run`` prints it without a traceback and exits with status 1.
    """
