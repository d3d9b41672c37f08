#!/bin/sh
# Makes the secrets that are not there yet, then builds and starts everything and waits until it is healthy.
# More arguments go to `docker compose up`.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets # the directory keeps others out; a container's own user has to read the files
for name in influxdb_token influxdb_password grafana_password serve_token; do
    if [ ! -s "secrets/$name" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name.new"
        chmod 644 "secrets/$name.new"
        mv "secrets/$name.new" "secrets/$name"
    fi
done
exec docker compose up --build --detach --wait "$@"
