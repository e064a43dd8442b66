"""Prepared statements: compiled once for each kind of database.

SQLAlchemy compiles `ON CONFLICT` anew at every call, and for every other statement finds out at every call whether it
knows it: in a fleet's run that was a third of the bot's work. For statements that are executed for each target.
"""

from typing import Any

import sqlalchemy as sa


class Prepared:
    """One statement; its values are plain texts, numbers and None, by the names of its parameters."""

    def __init__(self, statement: sa.Executable, columns: tuple[str, ...] | None = None) -> None:
        """Take a statement with `bindparam`s, or an INSERT with the names of its columns."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def run(self, connection: sa.Connection, **values: str | float | None) -> sa.CursorResult[Any]:
        """Execute it; the rows have their columns' names."""
        text, order, constants = self._compile(connection.dialect)
        given = constants | values
        return connection.exec_driver_sql(text, tuple(given[name] for name in order) if order is not None else given)

    def _compile(self, dialect: sa.Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
        known = self._compiled.get(dialect.name)
        if known is None:
            columns = list(self._columns) if self._columns else None
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=columns)  # type: ignore[attr-defined]
            order = tuple(compiled.positiontup) if compiled.positional else None
            known = self._compiled[dialect.name] = (compiled.string, order, dict(compiled.params))
        return known
