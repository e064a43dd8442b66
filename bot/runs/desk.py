"""The desk: takes commands and clicks from Slack and answers in Slack."""

from bot.runs.asking import Asker, Click

__all__ = ["Asker", "Click", "Desk"]


class Desk:
    """Where every command and click arrives; both calls only enqueue and return within milliseconds."""

    def command(self, text: str, asker: Asker) -> None:
        """Take the words after the slash command or the mention."""

    def click(self, click: Click) -> None:
        """Take one press of one of our buttons."""
