#!/usr/bin/env bash
# Images that stand in for python:3.11-slim and postgres:17 where no registry of images is in reach, made from Debian's packages:
#   deploy/stand_ins.sh && python3 deploy/try_docker.py --base python-stand-in --postgres postgres-stand-in
# Needs root, a Docker daemon and Debian's debootstrap. Python is Debian's 3.11, PostgreSQL is 15. Certificates that this
# computer was given (a proxy's, in /usr/local/share/ca-certificates) go along. MIRROR=http://... names another mirror.
set -euo pipefail

work=$(mktemp -d)
root=$work/root
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata,python3,python3-pip \
    bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}"
ln -s python3 "$root/usr/bin/python"
rm -f "$root/usr/lib/python3.11/EXTERNALLY-MANAGED" # the image is pip's, as python:3.11-slim is
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
fi
tar -C "$root" -c . | docker import -c 'CMD ["python"]' - python-stand-in


# What the public image's entry point does with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB.
mkdir "$work/postgres"
cat >"$work/postgres/entrypoint.sh" <<'SCRIPT'
#!/bin/bash
set -euo pipefail
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
chown postgres: "$PGDATA" && chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -o postgres -m 600 <(echo "$POSTGRES_PASSWORD") /tmp/password
    as_postgres initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | as_postgres postgres --single -j postgres
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -c 'listen_addresses=*'
SCRIPT
cat >"$work/postgres/Dockerfile" <<'DOCKERFILE'
FROM python-stand-in
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/*
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/15/bin:$PATH
RUN mkdir -p "$PGDATA"
COPY entrypoint.sh /
STOPSIGNAL SIGINT
CMD ["bash", "/entrypoint.sh"]
DOCKERFILE
docker build -t postgres-stand-in "$work/postgres"
