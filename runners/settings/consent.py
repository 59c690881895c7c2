"""Consent to code that settings name: the command line may name any, a file only that of known packages."""

from collections.abc import Container

from rfwp.envs.subject import Subject
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings.parsing import Parser


def add_trust_option(parser: Parser) -> None:
    """Add --trust."""
    parser.add_argument(
        "--trust", action="store_true", help="import the code that a run or a config file names, whoever wrote it"
    )


def check_imports(subject: Subject, trust: bool, given: Container[str] = ()) -> None:
    """Raise UserError if settings name code to import, unless the user does: by --trust, or in the settings `given`."""
    for setting, code in subject.imports.items():
        if not trust and f"env.{setting}" not in given:
            raise UserError(
                f"env.{setting}: {subject.title} imports {code}, which a file asks for and this command line does not;"
                " if you trust that code, add --trust"
            )


def trusting(subject: Subject) -> str:
    """Return what to add to a command line that uses a run of this subject: " --trust" or ""."""
    return " --trust" if subject.imports else ""
