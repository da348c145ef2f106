"""The command line `sigctl`: it registers the commands and turns errors into exit codes.

The codes are listed in `worker.cli.exits`. Nothing heavy is imported here: the help must not wait
for torch.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from worker.cli import (
    audit,
    compare,
    db,
    demo,
    doctor,
    enroll,
    evaluate,
    exits,
    jobs,
    models,
    opening,
    requeue,
    retrain,
    show,
    signers,
    submit,
    training,
    verify,
    work,
)
from worker.cli.exits import Exit

# What a command loads, torch above all, is hundreds of thousands of objects, none of them garbage.
# To look for some after every 700, and among all at the end, took a quarter of `sigctl verify`.
gc.set_threshold(10_000, 20, 20)
atexit.register(gc.freeze)

DEBUG = "SIGCTL_DEBUG"
CODES = "\n".join(f"{code.value:>3}  {text}" for code, text in exits.MEANINGS.items())
EPILOG = (
    "Settings are SIGCTL_... variables, or lines of a file .env; `sigctl doctor --settings` lists "
    f"them.\n\nExit codes:\n{CODES}"
)


@dataclass
class State:
    """What the options before the command say."""

    debug: bool = False


app = typer.Typer(
    name="sigctl",
    help="Verify handwritten signatures on scanned documents, and question the record.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": show.WIDTH},
)


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the whole traceback of a failure ({DEBUG}=1).")
    ] = False,
) -> None:
    """What stands before the command; its help text is the application's."""
    if debug and isinstance(context.obj, State):
        context.obj.debug = True


DAILY, RECORD, MODELS, UPKEEP = "Daily work", "Record", "Models", "Upkeep"
app.command("enroll", rich_help_panel=DAILY)(enroll.enroll)
app.command("verify", rich_help_panel=DAILY)(verify.verify)
app.command("submit", rich_help_panel=DAILY)(submit.submit)
app.command("worker", rich_help_panel=DAILY)(work.worker)
app.command("compare", rich_help_panel=DAILY)(compare.compare)
app.command("train", rich_help_panel=MODELS)(training.train)
app.command("retrain", rich_help_panel=MODELS)(retrain.retrain)
app.command("evaluate", rich_help_panel=MODELS)(evaluate.evaluate)
app.add_typer(models.app, name="models", rich_help_panel=MODELS)
app.command("demo", rich_help_panel=DAILY)(demo.demo)
app.add_typer(signers.app, name="signers", rich_help_panel=RECORD)
app.add_typer(audit.app, name="audit", rich_help_panel=RECORD)
app.add_typer(jobs.app, name="jobs", rich_help_panel=UPKEEP)
app.add_typer(db.app, name="db", rich_help_panel=UPKEEP)
app.command("doctor", rich_help_panel=UPKEEP)(doctor.doctor)
app.command("requeue", rich_help_panel=UPKEEP)(requeue.requeue)
command = typer.main.get_command(app)  # made once: it takes 40 ms


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no error leaves as a traceback unless asked."""
    # Taken out: every other SIGCTL_ variable is a setting, and this is none.
    state = State(debug=os.environ.pop(DEBUG, "").lower() not in ("", "0", "false", "no"))
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        command.main(args=arguments, prog_name="sigctl", obj=state)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    except KeyboardInterrupt:
        show.note("Interrupted.")
        return Exit.INTERRUPTED
    except Exception as error:
        return _report(error, state)
    finally:
        opening.close()
        show.flush()
    return Exit.DONE


def _report(error: BaseException, state: State) -> int:
    if state.debug:
        import traceback

        from worker.logs import hide_passwords

        sys.stderr.write(hide_passwords("".join(traceback.format_exception(error))))
    try:
        code = exits.for_error(error)
    except ImportError:  # half an installation: the unexpected failure below says so
        code = None
    if code is not None:
        show.say(exits.sentence(error), style="red", stderr=True)
        return code
    show.say(
        f"sigctl failed unexpectedly: {type(error).__name__}: {exits.sentence(error)} "
        "This is a fault of the program or its installation; `sigctl --debug ...` shows where it "
        "happened, and `sigctl doctor` checks the installation.",
        style="red",
        stderr=True,
    )
    return Exit.UNEXPECTED


if __name__ == "__main__":
    sys.exit(main())
