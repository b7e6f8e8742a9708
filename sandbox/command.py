"""The command line of ``python -m sandbox``."""

import argparse
import json
import sys
from collections.abc import Sequence

from sandbox.faults import parse_option
from sandbox.options import CloudOptions
from sandbox.serve import CloudServer, serve

_DEFAULTS = CloudOptions()
READY = "sandbox ready on "
CONTROL = "sandbox control on "


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulated cloud until SIGTERM or SIGINT."""
    arguments = vars(parser().parse_args(argv))
    until_closed = None
    if arguments.pop("options_from_stdin"):
        with open(
            0, "rb", buffering=0, closefd=False
        ) as pipe:  # unbuffered: what follows the line is not ours to read
            arguments = json.loads(pipe.readline())
        until_closed = 0
    options = CloudOptions.from_values(arguments)
    try:
        serve(options, _announce, until_closed=until_closed)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 1
    return 0


def _announce(server: CloudServer) -> None:
    if server.cloud.options.control_port is not None:
        sys.stdout.write(f"{CONTROL}{server.control_url}\n")
    sys.stdout.write(f"{READY}{server.api_url}\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="sandbox",
        description="A simulated cloud API on this machine, with faults on request.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = made.add_argument
    add("--host", default=_DEFAULTS.host, help="address to bind; containers need 0.0.0.0")
    add("--port", type=int, default=_DEFAULTS.port, help="0 takes a free port")
    add("--control-port", type=int, help="a second port for /sandbox/..., never closed by --refuse")
    add("--username", default=_DEFAULTS.username, help="of the one account")
    add("--password", default=_DEFAULTS.password, help="of the one account")
    add(
        "--api-key",
        dest="api_keys",
        action="append",
        default=[],
        help="accept this X-API-Key; may be repeated",
    )
    add(
        "--token-life",
        type=float,
        default=_DEFAULTS.token_life,
        metavar="S",
        help="seconds that a token is good",
    )
    add("--single-session", action="store_true", help="a login ends all older tokens")
    add("--latency", type=float, default=_DEFAULTS.latency, metavar="S", help="seconds until an answer")
    add("--auth-status", type=int, default=_DEFAULTS.auth_status, help="HTTP status of code -1 answers")
    add("--error-status", type=int, default=_DEFAULTS.error_status, help="HTTP status of message answers")
    add("--balance", type=float, default=_DEFAULTS.balance, help="0 rejects every create")
    add("--boot-time", type=float, default=_DEFAULTS.boot_time, metavar="S", help="seconds until Running")
    add("--list-delay", type=float, default=_DEFAULTS.list_delay, metavar="S", help="seconds until listed")
    add("--max-page-size", type=int, default=_DEFAULTS.max_page_size, help="rows in one page of the list")
    add(
        "--fault",
        dest="faults",
        action="append",
        default=[],
        type=_fault,
        metavar="KIND[:ARGUMENT][=PROBABILITY]",
        help="let the next create go wrong, or any create by a probability; may be repeated. KIND: close-before, "
        "close-after, reset-*, hang-* (argument: seconds), 500-* to 599-*, garbage-*, half, 429 and 429-date (argument: "
        "seconds of Retry-After), expired, sold-out, message (argument: the text)",
    )
    add(
        "--refuse",
        type=float,
        default=_DEFAULTS.refuse,
        metavar="SHARE",
        help="share of the time the port is closed",
    )
    add(
        "--refuse-window",
        type=float,
        default=_DEFAULTS.refuse_window,
        metavar="S",
        help="seconds it stays closed",
    )
    add("--seed", type=int, default=_DEFAULTS.seed, help="of the random faults")
    add("--options-from-stdin", action="store_true", help=argparse.SUPPRESS)
    return made


def _fault(text: str) -> str:
    try:
        parse_option(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
