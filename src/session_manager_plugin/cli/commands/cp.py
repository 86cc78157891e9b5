"""``smp cp``: files copied to and from a target, without S3 and without anything installed there."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import WholeNumber, command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Exit, ExitStatus, Signalled, exit_of
from session_manager_plugin.cli.target_argument import CopyName

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.signals import Interruption
    from session_manager_plugin.transfer.report import CopyReport, Progress

LAST_LIMIT = 0.5
"""Seconds for the clean-up after a second signal: the requests that terminate the sessions are on the way then."""
_EXAMPLES = """
smp cp i-0123456789abcdef0:/var/log/syslog .
smp cp app.tar.gz i-0123456789abcdef0:/tmp/
smp cp -rp site web-1:/srv/www      (a directory, with modes and times)
smp cp 'web-1:/var/log/*.log' logs/      (the target expands a pattern)
pg_dump shop | smp cp - db-1:/tmp/shop.sql
smp cp db-1:/tmp/shop.sql - | less
"""


def _after_sources(context: click.Context, destination: click.Parameter, value: str | None) -> str | None:
    """Return the destination. Raises ``MissingParameter`` for the argument that is missing.

    A single argument is read as the destination, but what its user left out is the destination.
    """
    if not context.params["sources"]:
        sources = next(each for each in context.command.params if each.name == "sources")
        raise click.MissingParameter(ctx=context, param=destination if value else sources)
    return value


@command("cp", examples=_EXAMPLES)
@click.argument("sources", type=CopyName(), metavar="SOURCE...", nargs=-1)
@click.argument("destination", type=CopyName(), metavar="DESTINATION", required=False, callback=_after_sources)
@click.option("-r", "--recursive", is_flag=True, help="Copy directories. Links are followed, as scp does.")
@click.option("-p", "--preserve", is_flag=True, help="Keep modes and times.")
@click.option(
    "--streams",
    type=WholeNumber(1, 8),
    default=1,
    show_default=True,
    metavar="N",
    help="1 to 8 sessions at the same time. Each copies a part of a file of 8 MiB or more, which is faster where one "
    "session is slow. Example: 4.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object a line: event is copied or failed, with a name, or ended. Not with - as the destination.",
)
@aws_options
def cp(
    environment: Environment,
    *,
    sources: tuple[str, ...],
    destination: str,
    recursive: bool,
    preserve: bool,
    streams: int,
    as_json: bool,
    settings: AwsSettings,
) -> Exit:
    """Copy files to or from a target: no S3, no open port, no ssh, and nothing installed on the target.

    One side is TARGET:PATH, as for scp. A relative PATH starts at the home directory of the session's user. - is
    standard input or standard output. A file takes its name when its digest is right. When the connection is lost the
    copy goes on where it was.

    A file that cannot be read or written is named, and the others are copied. The exit status is 0 if everything was
    copied, else 255.
    """
    from session_manager_plugin.cli.copy_progress import copy_progress
    from session_manager_plugin.cli.render import error_sentence, tell, tell_note, tell_signalled
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.errors import UsageError
    from session_manager_plugin.library import copy
    from session_manager_plugin.transfer.names import path_part
    from session_manager_plugin.transfer.report import CopiedFile, CopyReport

    if as_json and destination == "-":
        raise UsageError("--json and - as the destination would both use standard output")

    def print_event(event: str, **facts: object) -> None:
        if as_json:
            environment.write(f"{json.dumps({'event': event, **facts})}\n")

    began_at = time.monotonic()

    def print_end(error: BaseException, sentence: str) -> None:
        """Print the events of a copy that ``error`` has ended."""
        status = exit_of(error).status
        for name in [report.current] if report.current else [path_part(source) for source in sources]:
            print_event("failed", name=name, error=sentence, status=status)
        print_ended(status)

    def print_ended(status: int) -> None:
        print_event(
            "ended",
            files=len(report.files),
            bytes=sum(file.size for file in report.files),
            seconds=round(time.monotonic() - began_at, 3),
            status=status,
        )

    report = CopyReport()
    began = False

    async def main(interruption: Interruption) -> CopyReport:
        with copy_progress(environment) as line, interruption.drawing(line):
            interruption.restore = line.erase
            interruption.last_limit = LAST_LIMIT

            def tell_remains() -> None:
                remains = [report.partial] if report.partial else []
                if report.sessions:
                    ids = " ".join(report.sessions)
                    remains.append(f"session{'s' * (len(report.sessions) > 1)} {ids} (smp kill {ids})")
                sentence = "the copy was ended before the clean-up was complete"
                if remains:
                    sentence += f"; may remain: {', '.join(remains)}"
                print_end(Signalled(interruption.number or 0), sentence)
                tell(environment, sentence)

            interruption.abandon = tell_remains

            def show(progress: Progress) -> None:
                nonlocal began
                began = True
                line.show(progress)

            def print_copied(file: CopiedFile) -> None:
                with line.hidden() if as_json else contextlib.nullcontext():
                    print_event("copied", name=file.name, bytes=file.size, digest=file.digest, status=0)

            def print_problem(name: str, text: str) -> None:
                with line.hidden():
                    print_event("failed", name=name, error=text, status=int(ExitStatus.FAILURE))
                    tell(environment, f"{name}: {text}")

            def print_notice(sentence: str) -> None:
                with line.hidden():
                    tell_note(environment, sentence)

            report.on_progress, report.on_copied = show, print_copied
            report.on_problem, report.on_notice = print_problem, print_notice
            return await copy(
                sources,
                destination,
                recursive=recursive,
                preserve=preserve,
                streams=streams,
                aws=settings,
                report=report,
            )

    try:
        run(main)
    except BrokenPipeError:
        raise  # nothing can be printed any more
    except Signalled as error:
        sentence = f"the copy{'' if began else ', which had not begun,'} was ended {error}"
        print_end(error, sentence)
        tell_signalled(environment, error, sentence)
        raise
    except Exception as error:
        print_end(error, error_sentence(error) or str(error))
        raise
    status = ExitStatus.FAILURE if report.problems else ExitStatus.SUCCESS
    print_ended(status)
    return Exit(status)
