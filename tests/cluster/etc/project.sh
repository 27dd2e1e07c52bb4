#!/bin/sh
# Runs inside the tree: installs the checkout at /mnt/checkout as an administrator would, root-owned.
set -eu
umask 022
checkout=/mnt/checkout
packages=$(/opt/hpcimg/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

(cd $checkout && find hpcimg -name __pycache__ -prune -o -type f -print) | while read -r file; do
    install -D -m 0644 "$checkout/$file" "$packages/$file"
done
/opt/hpcimg/bin/python -m compileall -q "$packages/hpcimg"

# Isolated mode: neither the caller's folder nor PYTHON* variables can change what runs.
cat >/opt/hpcimg/bin/hpcimg <<'ENTRY'
#!/opt/hpcimg/bin/python -I
import sys

from hpcimg.cli import run

sys.exit(run())
ENTRY
chmod 0755 /opt/hpcimg/bin/hpcimg
ln -sf /opt/hpcimg/bin/hpcimg /usr/local/bin/hpcimg

if [ -f $checkout/spank/plugin.c ]; then
    build=$(mktemp -d)
    cp -R $checkout/spank $checkout/prolog "$build"
    install -D $checkout/hpcimg/__init__.py "$build/hpcimg/__init__.py"
    make -C "$build/spank" clean install
    rm -rf "$build"
fi
if [ -f $checkout/merge/merger.c ]; then
    make -C $checkout/merge BUILD="$(mktemp -d)" install
fi
