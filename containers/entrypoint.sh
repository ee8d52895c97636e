#!/bin/sh
# Starts the router as process 1: `vanrouter -c FILE`, with FILE the mounted one or the text of VANROUTER_CONF.
# Arguments, when there are any, are run instead (for example `van stat nodes`).
set -eu

if [ "$#" -gt 0 ]; then
    exec "$@"
fi
if [ -n "${VANROUTER_CONF:-}" ]; then
    case "$VANROUTER_CONF" in
        \[*) form=json ;;
        -*) form=yaml ;;
        *) form=conf ;;
    esac
    file="$(mktemp -d)/vanrouter.$form"
    printf '%s\n' "$VANROUTER_CONF" >"$file"
else
    file="${VANROUTER_CONF_FILE:-/etc/vanrouter/vanrouter.conf}"
fi
if [ ! -r "$file" ]; then
    echo "vanrouter: no configuration: mount $file or set VANROUTER_CONF to its text" >&2
    exit 1
fi
exec vanrouter -c "$file"
