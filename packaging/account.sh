# Runs as root before or after the files are put in place: the account that writes the store.
# Its number must be the same on all nodes: where 980 is taken, the administrator chooses one.
if ! getent passwd hpcimg >/dev/null; then
    useradd --system --user-group --uid "${HPCIMG_UID:-980}" --no-create-home --home-dir /srv/hpcimg \
        --shell /usr/sbin/nologin hpcimg ||
        echo "hpcimg: could not make the account hpcimg: make it, with one number on all nodes" >&2
fi
