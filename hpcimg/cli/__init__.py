"""The command line: find the verb, load only what it needs, print, exit."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from hpcimg.errors import ExitCode, HpcimgError

# Each noun or verb and the module that parses it: a launch must not pay for the others.
VERBS = {
    "resolve": "choose",
    "explain": "explain",
    "inspect": "choose",
    "needs": "coverage",
    "coverage": "coverage",
    "wanted": "coverage",
    "run": "start",
    "srun": "start",
    "get": "launch",
    "prefetch": "launch",
    "pin": "launch",
    "containers": "containers",
    "save": "containers",
    "job": "job",
    "record": "job",
    "cache": "cache",
    "node": "node",
    "index": "index",
    "hub": "hub",
    "config": "config",
    "doctor": "doctor",
    "autologin": "autologin",
    "completion": "completion",
}

_INTERRUPTED = 130


def run() -> None:
    """Be the console script."""
    sys.exit(main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Run one command; returns its exit code. Errors are two lines on standard error."""
    debug = bool(os.environ.get("HPCIMG_DEBUG"))
    try:
        return _dispatch(list(words))
    except HpcimgError as error:
        if debug:
            raise
        from hpcimg.cli.output import print_error

        print_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; what is still in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return confess(error)


def confess(error: Exception, node: str = "") -> int:
    """Report a defect of ours in two lines as well; who mends it asks for the traceback."""
    from hpcimg.cli.output import print_error

    what = f"unexpected {type(error).__name__}: {error}"
    hint = "run it again with HPCIMG_DEBUG=1 and report what it prints"
    print_error(HpcimgError(what, hint), node)
    return int(ExitCode.INTERNAL)


def _dispatch(words: list[str]) -> int:
    from hpcimg.cli.parser import make_parser

    verb = next((word for word in words if not word.startswith("-")), "")
    names = [VERBS[verb]] if verb in VERBS else sorted(set(VERBS.values()))
    parser = make_parser([import_module(f"hpcimg.cli.{name}") for name in names])
    arguments = parser.parse_args(words)
    code: int = arguments.call(arguments)
    sys.stdout.flush()
    return code
