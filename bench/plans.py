"""How a database goes about a question, in one line."""

from collections.abc import Callable, Iterator
from typing import Any

from psycopg import ServerCursor
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session


def plan(session: Session, ask: Callable[[Session], object]) -> str:
    """The plans of the statements that `ask` sends, in their order."""
    connection = session.connection()
    sent: list[tuple[str, Any, bool]] = []

    def note(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters, isinstance(cursor, ServerCursor)))

    event.listen(connection, "before_cursor_execute", note)
    try:
        ask(session)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return "; then ".join(_plan(connection, *one) for one in sent)


def _plan(connection: Connection, statement: str, parameters: Any, streamed: bool) -> str:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return ", ".join(row.detail for row in rows)
    # A cursor is planned for its first rows rather than for all.
    cursor = "DECLARE planned NO SCROLL CURSOR FOR " if streamed else ""
    found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {cursor}{statement}", parameters)
    return ", ".join(_nodes(found.scalar_one()[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[str]:
    for child in node.get("Plans", ()):
        yield from _nodes(child)
    name = node["Node Type"]
    on = node.get("Index Name") or node.get("Relation Name")
    if on:
        yield f"{name} {on}" + (" and filter" if "Filter" in node else "")
    elif name not in ("Limit", "Result"):
        yield name
