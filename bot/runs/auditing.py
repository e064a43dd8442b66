"""The audit log as the configuration has it, for the bot and for commands in a terminal."""

import sqlalchemy as sa

from bot.audit import AuditLog
from bot.clock import Clock
from bot.settings import Settings
from bot.settings_audit import head_file_of


def audit_of(settings: Settings, engine: sa.Engine, clock: Clock) -> AuditLog:
    """Return the audit log: keyed, and with its head beside the database, where the configuration says so."""
    return AuditLog(
        engine,
        clock,
        key=settings.audit.key.read if settings.audit.key else None,
        head_file=head_file_of(settings.audit, settings.database.url),
    )
