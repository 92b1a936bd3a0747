"""Every error that a user can cause. Anything else that escapes a command is a bug."""


class PlannerError(ValueError):
    """Base class: commands catch this one type, print its one line and exit with status 2."""


class FileError(PlannerError):
    """A file that cannot be read, is not what it should be, or cannot be written."""


class SpecError(PlannerError):
    """The description of a model that no such model could have."""


class UnsupportedModelError(PlannerError):
    """A model of a family, or with an option, that is refused rather than counted wrongly."""


class UsageError(PlannerError):
    """A command-line value outside what the command takes."""
