#!/bin/sh
# Makes a root tree of nginx-light and everything it needs from Debian's packages, as one folder of files.
#   build.sh DIR            with the newest packages, security fixes included
#   build.sh DIR --older    as the release pocket had them: what an update starts from
# Needs apt and dpkg-deb, and the package lists of a Debian system (apt-get update). Runs no package's scripts.
# Manual pages and documentation stay out: their names hold colons, which a tree of ours refuses.
set -eu
[ $# -ge 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1"
tree=$(cd "$1" && pwd)
[ -z "$(ls -A "$tree")" ] || { echo "build.sh: $tree is not empty; name a new folder" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/archives/partial"
: > "$work/status"
: > "$work/preferences"
if [ "${2:-}" = --older ]; then
    printf 'Package: *\nPin: release l=Debian-Security\nPin-Priority: -1\n' > "$work/preferences"
fi
# An empty package status makes apt fetch the whole closure, the essential packages included.
apt-get install -y -qq --no-install-recommends --download-only \
    -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work/archives" \
    -o Dir::Etc::preferences="$work/preferences" -o APT::Sandbox::User=root \
    nginx-light base-files python3 openssl ca-certificates tzdata vim libicu72 > "$work/log" 2>&1 ||
    { cat "$work/log" >&2; echo "build.sh: apt could not fetch the packages; is apt-get update done?" >&2; exit 1; }
for package in "$work"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
        tar -x -C "$tree" --keep-directory-symlink --no-same-owner --no-same-permissions --exclude='./usr/share/man/*' \
            --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/lintian/*'
done
# Absolute links would leave the tree: make them relative to where they stand.
find "$tree" -type l -lname '/*' | while read -r link; do
    target=$(readlink "$link")
    ln -sfn "$(realpath -ms --relative-to="$(dirname "$link")" "$tree$target")" "$link"
done
find "$tree" -type d -exec chmod 0755 {} +
find "$tree" -type f -exec chmod u+r {} +
echo "$(find "$tree" -type f | wc -l) files, $(du -sb "$tree" | cut -f1) bytes in $tree"
