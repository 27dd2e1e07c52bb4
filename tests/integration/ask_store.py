"""Run on a node as the store's account: have one image in a store of the test's own.

Usage: python -I -c THIS OPTIONS, a JSON object; see `Options`. It prints its number, what it does,
a line each, and in the end the image's path. A crowd prints the number of its first process, "all
wait" when all do, and in the end how often each line was said.
"""

import collections
import dataclasses
import errno
import importlib
import json
import os
import sys
import threading
from pathlib import Path

from hpcimg.errors import HpcimgError
from hpcimg.oci.client import RegistryClient
from hpcimg.oci.credentials import no_credential
from hpcimg.oci.reference import parse_reference
from hpcimg.oci.transport import Timeouts
from hpcimg.runtime.choice import choose_converter
from hpcimg.settings import read_settings
from hpcimg.store.store import site_store
from hpcimg.workflow.admission import Admission
from hpcimg.workflow.ensure import Wanted, ensure_image

SETTINGS = read_settings({})


@dataclasses.dataclass
class Options:
    """`at` names a function (MODULE:NAME) of hpcimg; when it is called, `do` happens there.

    hold: stop for ever; after: the same once it has returned; else the name of an errno to raise.
    `stale`, `read` and `window` are the store's and the client's limits, in seconds; `lock` is the
    store's kind; `crowd` is the number of processes that ask, in `threads` each.
    """

    root: str
    name: str
    at: str = ""
    do: str = "hold"
    stale: float = 60.0
    read: float = 30.0
    window: float = 60.0
    lock: str = ""
    crowd: int = 0
    threads: int = 10


def say(word: str) -> None:
    """Tell the test."""
    print(word, flush=True)  # noqa: T201 - the protocol with the test


def hold() -> None:
    """Say so, and stop."""
    say("held")
    threading.Event().wait()


def arm(place: str, do: str) -> None:
    """Let something happen where hpcimg's code passes by."""
    module, _, path = place.partition(":")
    *parents, name = path.split(".")
    target = importlib.import_module(module)
    for parent in parents:
        target = getattr(target, parent)
    real = getattr(target, name)

    def instead(*args: object, **kwargs: object) -> object:
        if do == "hold":
            hold()
        elif do != "after":
            number = getattr(errno, do)
            raise OSError(number, os.strerror(number))
        result = real(*args, **kwargs)
        if do == "after":
            hold()
        return result

    setattr(target, name, instead)


def main(options: Options) -> None:
    """Have the image."""
    said = set()

    def on_progress(progress: object) -> None:
        if progress.phase not in said:
            said.add(progress.phase)
            say(progress.phase)

    settings = SETTINGS
    reference = parse_reference(options.name, default_registry=settings.default_registry)
    timeouts = Timeouts(read=options.read, window=options.window)
    client = RegistryClient(settings.registries, no_credential, listed_only=True, timeouts=timeouts)
    Path(options.root).parent.mkdir(exist_ok=True)
    kind = {"lock": options.lock} if options.lock else {}
    store = site_store(dataclasses.replace(settings.store, path=options.root, **kind))
    store.stale = options.stale
    if options.at:
        arm(options.at, options.do)
    entry = ensure_image(
        Wanted(reference, reference.digest or client.fetch_document(reference).digest),
        store=store,
        client=client,
        converter=choose_converter(settings),
        limits=settings.limits,
        admission=Admission(settings.registries, lambda: client),
        on_progress=on_progress,
    )
    say(str(entry.image))


def ask(options: Options) -> None:
    """Have the image, or say why not."""
    try:
        main(options)
    except HpcimgError as error:
        say(f"error: {error.message}")
        sys.exit(1)


def ask_as_crowd(options: Options) -> None:
    """Have the image in many processes at once, which start with all that is slow to have."""
    import hpcimg.store.lock
    import hpcimg.store.workspace

    # A hundred nodes poll as often as they like; the two processors of one machine cannot.
    hpcimg.store.lock._POLL_SECONDS = 2.0
    choose_converter(SETTINGS).id  # noqa: B018 - found by starting programs, then remembered
    reader, writer = os.pipe()
    children = []
    for _ in range(options.crowd):
        child = os.fork()
        if child == 0:
            os.dup2(writer, 1)
            threads = [
                threading.Thread(target=ask, args=(options,)) for _ in range(options.threads)
            ]
            for thread in threads:
                thread.start()
            return
        children.append(child)
    os.close(writer)
    say(str(children[0]))
    heard = collections.Counter()
    with os.fdopen(reader) as lines:
        for line in lines:
            heard[line.strip()] += 1
            if line == "wait\n" and heard["wait"] == options.crowd * options.threads:
                say("all wait")
    say(json.dumps(heard))


given = Options(**json.loads(sys.argv[1]))
if given.crowd:
    ask_as_crowd(given)
else:
    say(str(os.getpid()))
    ask(given)
