#!/bin/sh
# Makes the four distros of this folder complete: root trees out of Debian's packages, each below a copy of its definition.
#   build.sh DIR        writes DIR/nginx-site, DIR/nginx-edge, DIR/postgresql and DIR/mediawiki, ready for check, test, publish
# Needs apt-get, apt-cache and dpkg-deb, and the package lists of a Debian 12 system (apt-get update). Runs no package's
# scripts and needs no root. Packages are kept in DIR/packages and trees in DIR/roots: a second run makes only what is not
# there, and copies the definitions anew. Root trees are linked, not copied, so edit them only by replacing files.
#
# A tree holds what its service runs and nothing else: packages that only serve their own installation (Perl's, debconf,
# dpkg, init systems) stay out by name, and so do manual pages, documentation and translations of messages. Perl's manual
# pages and modules would not even fit: names with colons, and paths that differ in case only, are refused in a tree.
set -eu
[ $# -eq 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
# One at a time: two would make the same trees.
exec 9> "$out/lock"
flock 9
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/packages" "$out/roots"
: > "$work/status"

# What an installation needs and a service does not.
INSTALLER='debconf dpkg adduser passwd tar perl perl-base perl-modules-5.36 libperl5.36 libgdbm6 libgdbm-compat4 libdb5.3
    libjson-perl init-system-helpers lsb-base sysvinit-utils sensible-utils ucf usrmerge debianutils mawk readline-common'

# tree NAME WANTED ALONE LEFT-OUT EXCLUDED: the packages WANTED with everything that they depend on, but for those
# LEFT-OUT, and the packages ALONE without; of their files, all but those that match EXCLUDED.
tree() {
    tree=$out/roots/$1
    [ ! -d "$tree" ] || return 0
    # An empty package status makes apt name the whole closure, essential packages included.
    # shellcheck disable=SC2086 # lists of words
    apt-get install -y -qq --no-install-recommends --print-uris -o Dir::State::status="$work/status" $2 > "$work/closure" &&
        (cd "$work" && apt-get download -qq --print-uris -o APT::Sandbox::User=root base-files $3) >> "$work/closure" ||
        { echo "build.sh: apt does not know all of $2 $3; is this Debian 12, and apt-get update done?" >&2; exit 1; }
    # A line is 'URI' FILE SIZE HASH; a file is NAME_VERSION_ARCH.deb with the colon of a version written as %3a.
    awk '{ print $2 }' "$work/closure" | sort -u > "$work/files"
    half=$work/$1
    mkdir "$half"
    # Debian's trees merge these into /usr; packages still bring files below both names.
    mkdir -p "$half/usr"
    for name in bin sbin lib lib64; do mkdir "$half/usr/$name"; ln -s "usr/$name" "$half/$name"; done
    : > "$work/wanted"
    : > "$work/missing"
    while read -r file; do
        case " $(echo $INSTALLER $4) " in *" ${file%%_*} "*) continue ;; esac
        echo "$file" >> "$work/wanted"
        [ -f "$out/packages/$file" ] || echo "$file" | sed 's/_/=/; s/_[^_]*$//; s/%3a/:/' >> "$work/missing"
    done < "$work/files"
    if [ -s "$work/missing" ]; then
        # Fetched aside and renamed: what bears its name is whole, and apt has checked its hash.
        mkdir -p "$work/fetch"
        (cd "$work/fetch" && xargs apt-get download -qq -o APT::Sandbox::User=root < "$work/missing") ||
            { echo "build.sh: apt could not fetch the packages of $1" >&2; exit 1; }
        mv "$work/fetch"/*.deb "$out/packages/"
    fi
    while read -r file; do
        dpkg-deb --fsys-tarfile "$out/packages/$file" > "$work/tar"
        printf '%s\n' './usr/share/man/*' './usr/share/doc/*' './usr/share/doc-base/*' './usr/share/locale/*' \
            './usr/share/lintian/*' './usr/share/bug/*' './usr/share/info/*' './usr/share/bash-completion/*' \
            './usr/share/common-licenses/*' './etc/init.d/*' './etc/cron*' './etc/logrotate.d/*' './lib/systemd/*' \
            './lib/udev/*' './var/lib/dpkg/*' './var/cache/*' './var/log/*' > "$work/excluded"
        for pattern in $5; do echo "$pattern"; done >> "$work/excluded"
        tar -x -f "$work/tar" -C "$half" --keep-directory-symlink --no-same-owner --no-same-permissions \
            --exclude-from="$work/excluded"
    done < "$work/wanted"
    # Absolute links would leave the tree: make them relative to where they stand.
    find "$half" -type l -lname '/*' > "$work/links"
    while read -r link; do
        ln -sfn "$(realpath -ms --relative-to="$(dirname "$link")" "$half$(readlink "$link")")" "$link"
    done < "$work/links"
    # Links to what was left out mean nothing.
    find "$half" -xtype l -delete
    # Folders that only packages' scripts or init systems fill.
    find "$half" -mindepth 2 -type d -empty ! -path "$half/usr/*bin" ! -path "$half/var/*" ! -path "$half/usr/lib*" -delete
    chmod -R u+rwX,go=rX "$half"
    # Where the sandbox opens the tree: its own /dev, /proc, /run and /tmp, and the folders of volumes.
    mkdir -p "$half/dev" "$half/proc" "$half/run" "$half/tmp" "$half/etc" "$half/var/lib"
    finish "$1" "$half"
    mv "$half" "$tree"
    echo "$1: $(find "$tree" -type f | wc -l) files, $(find "$tree" -type d | wc -l) folders, $(du -sb "$tree" | cut -f1) bytes"
}

# What one tree needs beyond its packages.
finish() {
    case $1 in
    postgresql) mkdir -p "$2/var/lib/postgresql" ;;
    mediawiki)
        wiki=$2/usr/share/mediawiki
        # Debian keeps these below /etc and /var so that an administrator may change them; here the distro says what they
        # are: code in the tree, settings in a rendered file, uploads in a volume.
        rm -rf "$2/var/lib/mediawiki" "$2/etc/mediawiki" "$wiki/LocalSettings.php" "$wiki/config" "$wiki/images"
        rm -f "$wiki/extensions" && mv "$wiki/extensions-core" "$wiki/extensions"
        mkdir -p "$2/var/lib/mediawiki"
        ;;
    esac
}

tree nginx 'nginx base-files' '' \
    'iproute2 libbpf1 libelf1 libmnl0 libxtables12 libtirpc3 libtirpc-common libcap2-bin libcap2 libselinux1 libbsd0 libmd0
     libcom-err2 libgssapi-krb5-2 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0' \
    './var/www/* ./etc/nginx/sites-* ./usr/share/nginx/html/* ./etc/ufw/* ./etc/default/* ./etc/update-motd.d/*'

# Without its just-in-time compiler, which needs LLVM: half of the tree, for queries that a small service does not make.
tree postgresql 'postgresql-15 postgresql-client-15 dash coreutils base-files libc-bin tzdata' 'util-linux' \
    'postgresql-common postgresql-client-common ssl-cert openssl locales libc-l10n libllvm14 libz3-4 netbase
     libpam-modules libpam-modules-bin libpam-runtime libsemanage2 libsemanage-common libsepol2' \
    './usr/lib/postgresql/15/lib/bitcode/* ./usr/lib/postgresql/15/lib/llvmjit* ./usr/share/postgresql/15/man/*
     ./usr/share/zoneinfo/right/* ./etc/update-motd.d/*'

# Of the extensions that come with it, those that the distro's settings load: the others stay out.
tree mediawiki 'apache2-bin libapache2-mod-php8.2 php8.2-cli php8.2-apcu php8.2-gd php8.2-intl php8.2-mbstring php8.2-opcache
    php8.2-pgsql php8.2-xml dash bash coreutils diffutils media-types base-files libc-bin tzdata' 'mediawiki mediawiki-classes' \
    'psmisc' "./etc/apache2/* ./usr/share/zoneinfo/right/* ./etc/update-motd.d/* ./usr/share/mediawiki/skins/MinervaNeue/*
    $(for name in AbuseFilter CiteThisPage CodeEditor ConfirmEdit Math MultimediaViewer OATHAuth PageImages PdfHandler \
        Renameuser ReplaceText Scribunto SecureLinkFixer SpamBlacklist SyntaxHighlight_GeSHi TextExtracts TitleBlacklist \
        VisualEditor; do echo "./usr/share/mediawiki/extensions-core/$name/*"; done)"

for distro in nginx-site nginx-edge postgresql mediawiki; do
    rm -rf "${out:?}/$distro"
    cp -R "$here/$distro" "$out/$distro"
    cp -al "$out/roots/${distro%%-*}" "$out/$distro/root"
done
