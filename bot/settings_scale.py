"""The tables [replicas] and [retention] of the configuration: several bots on one database, and what they forget."""

from pydantic import Field

from bot.settings_tables import Table


class Replicas(Table):
    """How several bots share one Postgres."""

    lease: float = Field(default=30, ge=2, le=3600)
    """Seconds without a sign of life after which others go on with a bot's work. It ends itself after 60 % of them."""


class Retention(Table):
    """What is forgotten after a time. The audit never is."""

    runs_days: int = Field(default=400, ge=1, le=36_500)
    """How long finished runs, with their plans and messages, are kept."""
