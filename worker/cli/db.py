"""`sigctl db`: the schema of the database."""

from __future__ import annotations

import typer

from worker.cli import opening, schema, show
from worker.cli.exits import Exit
from worker.cli.options import Json

app = typer.Typer(help="The schema of the database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade(json: Json = False) -> None:
    """Bring the database to the schema of this release; harmless when it already has it."""
    url = opening.settings().database_url
    before = schema.inspect(url)
    schema.check_known(before)
    if not before.up_to_date:
        schema.upgrade(url)
    after = schema.inspect(url)
    if json:
        show.as_json({"before": before.current, "after": after.current})
    elif before.up_to_date:
        show.say(f"The database is up to date: revision {after.current}.")
    else:
        was = "was empty" if before.current is None else f"had revision {before.current}"
        show.say(f"The database {was} and now has revision {after.current}.")
    if not schema.app_role_is_there(url):
        show.note(
            "The role sigctl_app is missing, for this login may not create roles; "
            "docs/evidence.md says how workers get a role that cannot change the record."
        )


@app.command("current")
def current(json: Json = False) -> None:
    """Show the database's revision; exit code 5 when it is not the newest."""
    from worker.settings import mask_url

    url = opening.settings().database_url
    found = schema.inspect(url)
    where = mask_url(url)
    if json:
        newest = {"newest": found.newest, "up_to_date": found.up_to_date}
        show.as_json({"database": where, "current": found.current} | newest)
    else:
        show.facts({"database": where, "revision": found.current or "none", "newest": found.newest})
    if not found.up_to_date:
        if not json:
            schema.check_known(found)
            show.note("`sigctl db upgrade` brings it to the newest revision.")
        raise typer.Exit(Exit.SETUP)
