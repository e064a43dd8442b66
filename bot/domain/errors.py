"""Errors whose sentence is meant for people. Whatever is none of these is shown as "unexpected" with a reference."""


class UserError(Exception):
    """A mistake or a state of the estate that the user can understand and mend.

    The text is one or a few sentences: what is wrong, with which target, and what to do next. It holds no secret and
    may be shown in Slack and in a terminal as it is.
    """


class SettingsError(UserError):
    """The configuration cannot be used; the text names the setting and its mend."""
