#!/bin/sh
# Builds the two servers into data/bin and web/bin, so that each folder is a complete distro.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for part in data web; do
    mkdir -p "$here/$part/bin"
    "${RUSTC:-rustc}" --edition 2024 -C opt-level=2 -C strip=symbols --crate-name "guestbook_$part" \
        -o "$here/$part/bin/guestbook-$part" "$here/$part/server/src/main.rs"
done
echo "built $here/data/bin/guestbook-data and $here/web/bin/guestbook-web"
